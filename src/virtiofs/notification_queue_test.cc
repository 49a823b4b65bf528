// VIRTIO_FS_F_NOTIFICATION: what is offered, and notifications in the buffers of a guest's driver.
#include <linux/virtio_fs.h>

#include <cstring>
#include <future>

#include "fusewire/notifier.h"
#include "virtiofs/device_rig_test.h"

namespace fusewire::virtiofs {
namespace {

using guestmem::GuestAddress;
using virtio::GuestBuffer;

constexpr std::uint32_t kBuffer = 4096;
constexpr unsigned kQueue = 1;  // the notification queue

// The bytes of an inval_inode.
struct InvalInode {
  fuse_out_header header{.len = sizeof(InvalInode), .error = FUSE_NOTIFY_INVAL_INODE, .unique = 0};
  fuse_notify_inval_inode_out out{};
  explicit InvalInode(std::uint64_t node) { out.ino = node; }
};

// A guest with buffers for notifications.
class NotificationQueue : public EitherRing {
 protected:
  void make_rig(RigOptions made = {}) {
    made.notification_buffer = kBuffer;
    made.spare_memory = 1 << 20;
    rig_ = std::make_unique<Rig>(options(made));
  }
  Notifier& notifier() { return *rig_->fs.notifier(); }
  GuestQueue& queue() { return rig_->queue(kQueue); }

  struct Buffer {
    guestmem::SharedMemory::Piece piece;
    std::uint64_t cookie = 0;
  };
  // Provides a buffer of `size` bytes in descriptors of `cut` bytes (0: one).
  Buffer provide(std::uint32_t size = kBuffer, std::uint32_t cut = 0) {
    Buffer buffer{testing::allocate_from(rig_->memory, size), queue().next_cookie()};
    std::memset(buffer.piece.host, 0xdd, size);
    std::vector<GuestBuffer> writable;
    for (std::uint32_t at = 0; at < size; at += cut != 0 ? cut : size)
      writable.push_back(
          {GuestAddress(buffer.piece.guest.get() + at), std::min(cut != 0 ? cut : size, size - at)});
    EXPECT_TRUE(queue().driver().stage({}, writable, buffer.cookie));
    queue().publish();
    return buffer;
  }
  // Waits for the buffer, which must hold exactly this message.
  template <class Message>
  void expect(const Buffer& buffer, const Message& message) {
    EXPECT_EQ(queue().wait_used(buffer.cookie), sizeof message);
    EXPECT_EQ(std::memcmp(buffer.piece.host, &message, sizeof message), 0);
    EXPECT_EQ(buffer.piece.host[sizeof message], std::byte{0xdd}) << "nothing behind it";
  }

  std::unique_ptr<Rig> rig_;
};
INSTANTIATE_TEST_SUITE_P(SplitAndPacked, NotificationQueue, ::testing::Bool(), ring_kind_name);

TEST(NotificationFeature, Offered_IsInTheFeaturesAndTheConfigurationSpace) {
  HeldFs fs;
  const auto device = *Device::create(fs, {.request_queues = 3, .tag = "t", .notification_buffer = kBuffer});
  EXPECT_NE(device->features() & virtio::kFsNotification, 0U);
  EXPECT_EQ(device->queue_count(), 5U);
  const auto config = device->config();
  ASSERT_EQ(config.size(), 44U);
  std::uint32_t queues = 0;
  std::uint32_t buffer = 0;
  std::memcpy(&queues, config.data() + 36, 4);
  std::memcpy(&buffer, config.data() + 40, 4);
  EXPECT_EQ(queues, 3U);
  EXPECT_EQ(buffer, kBuffer);
}

TEST(NotificationFeature, NotOffered_IsNowhere) {
  HeldFs fs;
  const auto device = *Device::create(fs, {.tag = "t"});
  EXPECT_EQ(device->features() & virtio::kFsNotification, 0U);
  EXPECT_EQ(device->config().size(), sizeof(virtio_fs_config));
}

TEST(NotificationFeature, BufferTooSmallForAName_IsEinval) {
  HeldFs fs;
  EXPECT_EQ(Device::create(fs, {.notification_buffer = 2047}).error(), Errno{EINVAL});
  EXPECT_TRUE(Device::create(fs, {.notification_buffer = 2048}));
}

TEST_P(NotificationQueue, NotNegotiated_IsEnosys_AndEveryQueueServesRequests) {
  make_rig({.request_queues = 1, .accept_notifications = false});
  EXPECT_EQ(notifier().inval_inode(NodeId{1}), fail(ENOSYS));
  for (const unsigned index : {1U, 2U}) EXPECT_EQ(rig_->queue(index).send(getattr_request()).error, 0);
}

TEST_P(NotificationQueue, Notification_FillsABuffer) {
  make_rig();
  for (const std::uint32_t cut : {0U, 1000U, 7U}) {
    const Buffer buffer = provide(kBuffer / 8, cut);
    ASSERT_TRUE(notifier().inval_inode(NodeId{cut + 5}));
    expect(buffer, InvalInode(cut + 5));
  }
  EXPECT_EQ(rig_->queue(2).send(getattr_request()).error, 0);
  EXPECT_EQ(rig_->queue(0).send(getattr_request()).error, 0);
}

TEST_P(NotificationQueue, Buffers_AreKeptUntilThereIsSomethingToSay_AndFilledInOrder) {
  make_rig();
  std::vector<Buffer> buffers;
  buffers.reserve(20);
  for (int i = 0; i < 20; ++i) buffers.push_back(provide());
  rig_->settle(kQueue);
  EXPECT_FALSE(queue().driver().has_used());
  for (std::uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(notifier().inval_inode(NodeId{i + 1}));
  for (std::uint64_t i = 0; i < 20; ++i) expect(buffers[i], InvalInode(i + 1));
}

TEST_P(NotificationQueue, NoBuffer_IsEagainInTheEnd_AndNotSentLater) {
  make_rig({.notification_patience = std::chrono::milliseconds(5)});
  EXPECT_EQ(notifier().inval_inode(NodeId{1}), fail(EAGAIN));
  const Buffer buffer = provide();
  // On a slow machine the worker may be late.
  while (!notifier().inval_inode(NodeId{2})) {
  }
  expect(buffer, InvalInode(2));
}

// The guest's buffer may come before, while or after the worker looks for one.
TEST_P(NotificationQueue, BufferThatComesLate_IsFilled) {
  make_rig();
  for (std::uint64_t i = 1; i <= 100; ++i) {
    auto sent = std::async(std::launch::async, [this, i] { return notifier().inval_inode(NodeId{i}); });
    const Buffer buffer = provide(256);
    EXPECT_TRUE(sent.get());
    expect(buffer, InvalInode(i));
  }
}

TEST_P(NotificationQueue, LongerThanTheBuffers_IsEmsgsize) {
  make_rig();
  const Buffer buffer = provide();
  const std::vector<std::byte> data(kBuffer - sizeof(fuse_out_header) - sizeof(fuse_notify_store_out) + 1);
  EXPECT_EQ(notifier().store(NodeId{1}, 0, data), fail(EMSGSIZE));
  ASSERT_TRUE(notifier().store(NodeId{1}, 0, std::span(data).subspan(1)));
  EXPECT_EQ(queue().wait_used(buffer.cookie), kBuffer);
}

TEST_P(NotificationQueue, BuffersThatCannotBeUsed_GoBackEmpty_AndTheNextIsTaken) {
  make_rig();
  const Buffer small = provide(sizeof(InvalInode) - 1);
  const std::uint64_t outside = queue().next_cookie();
  const GuestBuffer nowhere{GuestAddress(std::uint64_t{1} << 40), kBuffer};
  ASSERT_TRUE(queue().driver().add({}, {&nowhere, 1}, outside));
  const Buffer good = provide();
  ASSERT_TRUE(notifier().inval_inode(NodeId{1}));
  EXPECT_EQ(queue().wait_used(small.cookie), 0U);
  EXPECT_EQ(queue().wait_used(outside), 0U);
  expect(good, InvalInode(1));
}

// More than one turn takes.
TEST_P(NotificationQueue, ManyBuffersThatCannotBeUsed_DoNotHideTheGoodOne) {
  make_rig({.queue = {.size = 256}});
  for (int i = 0; i < 200; ++i) provide(16);
  const Buffer good = provide();
  ASSERT_TRUE(notifier().inval_inode(NodeId{1}));
  expect(good, InvalInode(1));
}

TEST_P(NotificationQueue, FromInsideAMethod_DoesNotWaitForABuffer) {
  make_rig();
  std::optional<Result<void>> inside;
  rig_->fs.set_in_getattr([&] { inside = notifier().inval_inode(NodeId{8}); });
  EXPECT_EQ(rig_->queue(2).send(getattr_request()).error, 0);
  EXPECT_TRUE(inside.has_value() && inside->has_value());
  expect(provide(), InvalInode(8));
}

TEST_P(NotificationQueue, Retrieve_IsAnsweredOnARequestQueue) {
  make_rig();
  const Buffer buffer = provide();
  std::promise<std::string> retrieved;
  ASSERT_TRUE(notifier().retrieve(NodeId{4}, 0, 100, [&](Result<Retrieved> result) {
    std::vector<std::byte> bytes(result ? result->data.size() : 0);
    if (result) result->data.copy_to(bytes);
    retrieved.set_value(std::string(as_text(bytes)));
  }));
  ASSERT_EQ(queue().wait_used(buffer.cookie), sizeof(fuse_out_header) + sizeof(fuse_notify_retrieve_out));
  fuse_notify_retrieve_out asked{};
  std::memcpy(&asked, buffer.piece.host + sizeof(fuse_out_header), sizeof asked);
  fuse_notify_retrieve_in in{};
  in.size = 6;
  EXPECT_FALSE(rig_->queue(2)
                   .send(Request(FUSE_NOTIFY_REPLY)
                             .unique(asked.notify_unique)
                             .arg(in)
                             .bytes(as_bytes("cached"))
                             .room(-1))
                   .replied);
  EXPECT_EQ(retrieved.get_future().get(), "cached");
}

TEST_P(NotificationQueue, StopAndStart_GoesOnWhereItStood) {
  make_rig();
  for (std::uint64_t round = 1; round <= 20; ++round) {
    const Buffer first = provide(256);
    ASSERT_TRUE(notifier().inval_inode(NodeId{round}));
    rig_->stop(kQueue);
    EXPECT_EQ(rig_->base[kQueue], queue().driver().drained_base());
    expect(first, InvalInode(round));
    // Nothing is taken while it is stopped, and nobody is turned away.
    const Buffer second = provide(256);
    auto sent = std::async(std::launch::async, [&] { return notifier().inval_inode(NodeId{round + 100}); });
    ASSERT_TRUE(rig_->start(kQueue));
    EXPECT_TRUE(sent.get());
    expect(second, InvalInode(round + 100));
  }
}

TEST_P(NotificationQueue, StopWithBuffersOnTheRing_LeavesThemThere) {
  make_rig();
  const Buffer buffer = provide();
  rig_->stop(kQueue);
  EXPECT_FALSE(queue().driver().has_used());
  ASSERT_TRUE(rig_->start(kQueue));
  ASSERT_TRUE(notifier().inval_inode(NodeId{1}));
  expect(buffer, InvalInode(1));
}

TEST_P(NotificationQueue, Disconnect_EndsWhoWaits) {
  make_rig();
  rig_->fs.set_in_getattr([this] { EXPECT_TRUE(notifier().inval_inode(NodeId{8})); });
  EXPECT_EQ(rig_->queue(2).send(getattr_request()).error, 0);
  auto sent = std::async(std::launch::async, [this] { return notifier().inval_inode(NodeId{1}); });
  rig_->device->disconnect();
  const auto result = sent.get();
  // ENOSYS or ENOTCONN at once when it came only after the features were taken back.
  EXPECT_TRUE(result == fail(ENOTCONN) || result == fail(ENOSYS));
  EXPECT_EQ(notifier().inval_inode(NodeId{1}), fail(ENOTCONN));
}

TEST_P(NotificationQueue, BrokenRing_IsReported_AndTakesNothing) {
  make_rig({.notification_patience = std::chrono::milliseconds(5)});
  auto other = *guestmem::SharedMemory::create(GuestAddress(std::uint64_t{1} << 32), 1 << 20);
  rig_->device->set_memory(map_of({&other}));
  EXPECT_TRUE(testing::wait_event(queue().error_fd()));
  EXPECT_EQ(notifier().inval_inode(NodeId{1}), fail(EAGAIN));
}

TEST_P(NotificationQueue, DirtyLog_HasWhatWasWritten) {
  make_rig();
  constexpr std::uint64_t kPage = guestmem::DirtyLog::kPageSize;
  const std::uint64_t end = rig_->memory.description().guest.get() + rig_->memory.size();
  auto log_memory = *guestmem::SharedMemory::create(GuestAddress(0), end / kPage / 8 + kPage);
  auto log = guestmem::DirtyLog::map(log_memory.fd(), log_memory.size(), 0);
  ASSERT_TRUE(log.has_value());
  virtio::RingSetup ring = queue().driver().setup();
  ring.log_used = true;
  // SAFETY: user addresses are our own pointers.
  const GuestAddress used_ring = rig_->memory.guest(
      reinterpret_cast<const void*>(GetParam() ? ring.desc_user_addr : ring.used_user_addr));
  ring.log_guest_addr = used_ring;
  rig_->device->set_queue_logging(kQueue, ring);
  rig_->device->set_dirty_log(*log);
  const auto marked = [&](GuestAddress address) {
    const std::uint64_t bit = address.get() / kPage;
    return ((*log_memory.host(GuestAddress(bit / 8)) >> (bit % 8)) & std::byte{1}) != std::byte{0};
  };
  const Buffer buffer = provide(2 * kPage);
  const GuestAddress second_page(buffer.piece.guest.get() + kPage);
  const std::string data(kBuffer - 40, 'x');  // with its headers one page
  ASSERT_TRUE(notifier().store(NodeId{1}, 0, as_bytes(data)));
  ASSERT_EQ(queue().wait_used(buffer.cookie), kBuffer);
  EXPECT_TRUE(marked(buffer.piece.guest));
  EXPECT_FALSE(marked(second_page)) << "only the message was written";
  rig_->device->set_queue_logging(kQueue, ring);  // the turn has ended
  EXPECT_TRUE(marked(used_ring));
}

}  // namespace
}  // namespace fusewire::virtiofs
