// VIRTIO_FS_F_NOTIFICATION as a front-end sees it: negotiated over the vhost-user socket, and the
// notification queue started, stopped and taken away by its messages.
#include <linux/virtio_fs.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <thread>

#include "fusewire/notifier.h"
#include "vhost_user/backend.h"
#include "vhost_user/frontend.h"
#include "virtiofs/device_rig_test.h"

namespace fusewire::virtiofs {
namespace {

using guestmem::GuestAddress;
using vhost_user::Frontend;
using virtio::GuestBuffer;

constexpr std::uint32_t kBuffer = 2048;
constexpr GuestQueueOptions kQueue{.size = 16, .arena = 1 << 20};

// A device behind a socket, and a guest with three queues: hiprio, notifications, and requests.
class NotificationOverVhostUser : public ::testing::Test {
 protected:
  // Another connection to the same device.
  void connect(std::uint64_t refused_features) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    backend_ =
        std::thread([this, socket = ends[0]] { vhost_user::Backend(UniqueFd(socket), *device_, -1).run(); });
    frontend_.emplace(UniqueFd(ends[1]));
    memory_.emplace(*guestmem::SharedMemory::create(
        GuestAddress(0x100000), 3 * GuestQueue::memory_size(kQueue) + std::size_t{16} * 4096));
    queues_.clear();
    ASSERT_TRUE(frontend_->negotiate(kQueue.accepted(device_->features()) & ~refused_features));
    const auto region = Frontend::share(*memory_);
    ASSERT_TRUE(frontend_->set_mem_table({&region, 1}));
    for (unsigned index = 0; index < 3; ++index) {
      queues_.push_back(std::make_unique<GuestQueue>(*memory_, kQueue));
      start(index, queues_.back()->driver().setup());
    }
  }
  void start(unsigned index, const virtio::RingSetup& ring) {
    GuestQueue& queue = *queues_[index];
    ASSERT_TRUE(frontend_->start_ring(index, ring, queue.kick_fd(), queue.call_fd(), queue.error_fd()));
    ASSERT_TRUE(frontend_->set_vring_enable(index, true));
  }
  void disconnect() {
    frontend_.reset();
    if (backend_.joinable()) backend_.join();
  }
  ~NotificationOverVhostUser() override { disconnect(); }

  // Provides a buffer; and checks that it came back with an inval_inode of this node.
  struct Buffer {
    guestmem::SharedMemory::Piece piece;
    std::uint64_t cookie = 0;
  };
  Buffer provide() {
    GuestQueue& queue = *queues_[1];
    Buffer buffer{testing::allocate_from(*memory_, kBuffer), queue.next_cookie()};
    const GuestBuffer writable{buffer.piece.guest, kBuffer};
    EXPECT_TRUE(queue.driver().stage({}, {&writable, 1}, buffer.cookie));
    queue.publish();
    return buffer;
  }
  void expect_inval(const Buffer& buffer, std::uint64_t node) {
    const std::size_t size = sizeof(fuse_out_header) + sizeof(fuse_notify_inval_inode_out);
    ASSERT_EQ(queues_[1]->wait_used(buffer.cookie), size);
    fuse_notify_inval_inode_out out{};
    std::memcpy(&out, buffer.piece.host + sizeof(fuse_out_header), sizeof out);
    EXPECT_EQ(out.ino, node);
  }

  HeldFs fs_;
  std::unique_ptr<Device> device_ = *Device::create(
      fs_, {.tag = "share", .notification_buffer = kBuffer, .notification_patience = testing::kPatience});
  std::thread backend_;
  std::optional<Frontend> frontend_;
  std::optional<guestmem::SharedMemory> memory_;
  std::vector<std::unique_ptr<GuestQueue>> queues_;
};

TEST_F(NotificationOverVhostUser, Negotiated_NotificationsArrive_AlsoAfterThePause) {
  connect(0);
  EXPECT_NE(frontend_->features() & virtio::kFsNotification, 0U);
  EXPECT_EQ(frontend_->get_queue_num(), 3U);
  const auto config = frontend_->get_config(0, 44);
  ASSERT_TRUE(config && config->size() == 44);
  EXPECT_EQ(std::memcmp(config->data() + 40, &kBuffer, 4), 0);

  ASSERT_EQ(queues_[2]->send(init_request()).error, 0);
  const Buffer first = provide();
  ASSERT_TRUE(fs_.notifier()->inval_inode(NodeId{11}));
  expect_inval(first, 11);

  // A VM that is paused, and goes on: with a buffer on the ring.
  const Buffer second = provide();
  virtio::RingSetup ring = queues_[1]->driver().setup();
  const auto base = frontend_->get_vring_base(1);
  ASSERT_TRUE(base);
  ring.base = *base;
  start(1, ring);
  ASSERT_TRUE(fs_.notifier()->inval_inode(NodeId{12}));
  expect_inval(second, 12);
}

TEST_F(NotificationOverVhostUser, AnotherGuestThatRefusesIt_HasNone) {
  connect(0);
  ASSERT_EQ(queues_[2]->send(init_request()).error, 0);
  const auto first = fs_.notifier();
  disconnect();
  EXPECT_EQ(first->inval_inode(NodeId{1}), fail(ENOTCONN));

  connect(virtio::kFsNotification);
  ASSERT_EQ(queues_[1]->send(init_request()).error, 0);
  EXPECT_EQ(fs_.notifier()->inval_inode(NodeId{1}), fail(ENOSYS));
  EXPECT_EQ(queues_[2]->send(getattr_request()).error, 0);
}

}  // namespace
}  // namespace fusewire::virtiofs
