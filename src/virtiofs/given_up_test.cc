// Calls that nobody answers: what a stopping queue, a front-end that leaves and the end of the device do with
// them, and that a late answer touches nothing.
#include <array>
#include <cstring>
#include <future>
#include <utility>

#include "virtiofs/device_rig_test.h"

namespace fusewire::virtiofs {
namespace {

using guestmem::GuestAddress;
using std::chrono::milliseconds;

// Stops do not wait for long here; nothing that these tests answer in time depends on it.
constexpr milliseconds kShort{20};

class GivenUp : public EitherRing {
 protected:
  static RigOptions impatient(RigOptions made = {}) {
    made.stop_patience = kShort;
    made.grace = kShort;
    return options(made);
  }
  // A READ that is parked, and its call.
  struct Kept {
    GuestQueue::Ticket ticket;
    Call<op::Read> call;
  };
  static Kept keep(Rig& rig, unsigned queue = 1) {
    const auto ticket = rig.queue(queue).start(read_request(HeldFs::kParked, 3, 5000));
    rig.fs.wait_parked(1);
    return {ticket, *rig.fs.take_parked()};
  }
  static std::vector<std::byte> content_of(const guestmem::SharedMemory& memory) {
    const std::byte* bytes = memory.host(memory.description().guest);
    return {bytes, bytes + memory.size()};
  }
};
INSTANTIATE_TEST_SUITE_P(SplitAndPacked, GivenUp, ::testing::Bool(), ring_kind_name);

TEST_P(GivenUp, Stop_AnswersEio_AndTheRingGoesOn) {
  Rig rig(impatient());
  const Kept kept = keep(rig);

  rig.stop(1);

  EXPECT_EQ(rig.queue(1).take_now(kept.ticket).error, EIO);
  ASSERT_TRUE(rig.start(1));
  EXPECT_EQ(rig.queue(1).send(getattr_request()).error, 0);
  EXPECT_EQ(rig.fs.destroys, 0) << "the guest's session lives on";
}

TEST_P(GivenUp, LateAnswer_TouchesNoGuestMemory) {
  Rig rig(impatient());
  Kept kept = keep(rig);
  rig.stop(1);
  const auto before = content_of(rig.memory);

  EXPECT_EQ(kept.call.reply.room().size(), 0u);
  std::move(kept.call.reply).ok(std::vector<std::byte>(5000, std::byte{0xee}));

  EXPECT_EQ(content_of(rig.memory), before);
}

TEST_P(GivenUp, RoomThatWasLent_IsNeverReturnedAndStaysMapped) {
  Rig rig(impatient());
  auto more = *guestmem::SharedMemory::create(GuestAddress(std::uint64_t{1} << 32), 8 << 20);
  std::weak_ptr<const guestmem::MemoryRegion> watched;
  {
    const auto region = guestmem::MemoryRegion::map(more.description(), more.fd());
    ASSERT_TRUE(region.has_value());
    watched = *region;
    rig.device->set_memory(*rig.map->with(*region));
  }
  rig.queue(1).use_arena(more, 4 << 20);
  {
    Kept kept = keep(rig);
    IoVecs room = kept.call.reply.room();
    ASSERT_EQ(room.size(), 5000u);
    rig.device->reset();
    rig.device->set_memory(guestmem::MemoryMap::empty());
    rig.map.reset();

    EXPECT_FALSE(rig.queue(1).take(kept.ticket).has_value());
    EXPECT_FALSE(watched.expired());
    for (const iovec& part : room.head()) std::memset(part.iov_base, 0xee, part.iov_len);
    std::move(kept.call.reply).ok(5000);
    EXPECT_FALSE(rig.queue(1).take(kept.ticket).has_value());
  }
  EXPECT_TRUE(watched.expired());
}

TEST_P(GivenUp, PayloadThatWasLent_IsNeverReturned) {
  Rig rig(impatient());
  fuse_write_in in{};
  in.fh = HeldFs::kParked;
  in.size = 100;
  const std::vector<std::byte> data(100, std::byte{1});
  const auto ticket =
      rig.queue(1).start(Request(FUSE_WRITE).arg(in).bytes(data).room(sizeof(fuse_write_out)));
  auto call = rig.fs.take_parked_write();
  ASSERT_TRUE(call);
  rig.stop(1);
  EXPECT_FALSE(rig.queue(1).take(ticket).has_value());
  std::move(call->reply).ok(100);
  EXPECT_FALSE(rig.queue(1).take(ticket).has_value());
  ASSERT_TRUE(rig.start(1));
  EXPECT_EQ(rig.queue(1).send(getattr_request()).error, 0);
}

TEST_P(GivenUp, Disconnect_DestroysTheSession_AndTheNextGuestIsServed) {
  Rig rig(impatient({.request_queues = 2}));
  const Kept kept = keep(rig, 2);
  const std::uint64_t features = rig.device->features();

  rig.device->disconnect();

  EXPECT_EQ(rig.fs.destroys, 1);
  rig.device->set_features(GuestQueueOptions{.packed = GetParam()}.accepted(features));
  rig.device->set_memory(rig.map);
  rig.base[1] = rig.queue(1).driver().drained_base();
  ASSERT_TRUE(rig.start(1));
  rig.device->set_queue_enabled(1, true);
  EXPECT_EQ(rig.queue(1).send(init_request()).error, 0);
}

TEST_P(GivenUp, AnswerAfterTheDeviceIsGone_DoesNothing) {
  Rig rig(impatient());
  Kept kept = keep(rig);
  ASSERT_EQ(kept.call.reply.room().size(), 5000u);
  rig.device.reset();
  kept.call.reply.set_interrupt_handler(
      [](InterruptReason reason) { EXPECT_EQ(reason, InterruptReason::stopping); });
  std::move(kept.call.reply).error(EAGAIN);
  EXPECT_FALSE(rig.queue(1).take(kept.ticket).has_value());
}

TEST_P(GivenUp, AnswersThatRaceWithTheStop_AreEitherSentOrGivenUp) {
  constexpr std::size_t kCalls = 16;
  RigOptions made = options();
  made.stop_patience = milliseconds(0);
  Rig rig(made);
  std::size_t given_up = 0;
  const auto answer_some = [&rig](std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      auto call = rig.fs.take_parked();
      std::array<std::byte, 300> bytes;
      for (std::size_t n = 0; n < bytes.size(); ++n) bytes[n] = HeldFs::content(3 + n);
      std::move(call->reply).ok(bytes);
    }
  };
  for (int round = 0; round < 30; ++round) {
    std::vector<GuestQueue::Ticket> tickets;
    for (std::size_t i = 0; i < kCalls; ++i)
      tickets.push_back(rig.queue(1).start(read_request(HeldFs::kParked, 3, 300)));
    rig.fs.wait_parked(kCalls);
    auto answers = std::async(std::launch::async, [&] { answer_some(kCalls - 1); });
    rig.stop(1);
    answers.get();
    answer_some(1);
    for (const auto ticket : tickets) {
      const Answer answer = rig.queue(1).take_now(ticket);
      EXPECT_TRUE(answer.error == EIO || is_content(answer, 3, 300)) << answer.error;
      if (answer.error == EIO) ++given_up;
    }
    ASSERT_TRUE(rig.start(1));
  }
  EXPECT_GE(given_up, 30u) << "one in each round is answered after the stop";
}

TEST_P(GivenUp, InitBehindACallThatNobodyAnswers_FailsInsteadOfWaitingForEver) {
  Rig rig(impatient({.request_queues = 2}));
  Kept kept = keep(rig, 2);
  EXPECT_EQ(rig.queue(1).send(init_request()).error, EBUSY);
  EXPECT_EQ(rig.queue(1).send(Request(FUSE_DESTROY).room(0)).error, EBUSY);
  HeldFs::fill(std::move(kept.call));
  EXPECT_EQ(rig.queue(1).send(init_request()).error, 0);
}

class GivenUpWithNotifications : public GivenUp {
 protected:
  static RigOptions notifying(RigOptions made) {
    made.notification_buffer = 4096;
    return made;
  }
  static constexpr unsigned kRequests = 2;
};
INSTANTIATE_TEST_SUITE_P(SplitAndPacked, GivenUpWithNotifications, ::testing::Bool(), ring_kind_name);

TEST_P(GivenUpWithNotifications, NotificationWithoutABuffer_DoesNotHoldUpTheEnd) {
  Rig rig(notifying(impatient()));
  const Kept kept = keep(rig, kRequests);
  auto sent = std::async(std::launch::async,
                         [notifier = rig.fs.notifier()] { return notifier->inval_inode(NodeId{1}); });
  rig.device->disconnect();
  EXPECT_EQ(sent.get(), fail(ENOTCONN));
}

TEST_P(GivenUpWithNotifications, CallThatIsAnsweredBehindItsNotification_IsAnsweredAtTheEnd) {
  Rig rig(notifying(options()));  // a patience that no test lives through
  Kept kept = keep(rig, kRequests);
  auto answered = std::async(std::launch::async, [&] {
    EXPECT_EQ(rig.fs.notifier()->inval_inode(NodeId{1}), fail(ENOTCONN));
    HeldFs::fill(std::move(kept.call));
  });
  rig.device->disconnect();
  answered.get();
  EXPECT_TRUE(is_content(rig.queue(kRequests).take_now(kept.ticket), 3, 5000));
}

}  // namespace
}  // namespace fusewire::virtiofs
