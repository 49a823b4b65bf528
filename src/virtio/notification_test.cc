// Kicks and signals: none is lost, and those that nobody asked for are not sent.
#include <poll.h>
#include <sys/eventfd.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "virtio/queue_fixture_test.h"

namespace fusewire::virtio {
namespace {

// Returns `count` chains that were popped before.
void return_chains(Ring& ring, unsigned count) {
  Chain chain;
  for (unsigned i = 0; i < count; ++i) {
    ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
    ring.device.push_used(chain.id, 0);
  }
  ring.device.publish();
}
void offer(Ring& ring, unsigned count) {
  static const GuestBuffer byte{kGuestBase, 1};
  for (unsigned i = 0; i < count; ++i) ASSERT_TRUE(ring.driver.stage({{byte}}, {}, 0));
  ring.driver.publish();
}

// What split and packed rings have in common.
class EitherNotification : public testing::TestWithParam<bool> {
 protected:
  static DriverOptions options(DriverOptions made = {}) {
    made.packed = GetParam();
    return made;
  }
};

TEST_P(EitherNotification, NeedsSignal_NothingPublished_IsFalse) {
  Ring ring(4, options());
  EXPECT_FALSE(ring.device.needs_signal());
}

TEST_P(EitherNotification, NeedsSignal_WithFlag_FollowsTheDriver) {
  Ring ring(8, options());
  offer(ring, 4);
  return_chains(ring, 1);
  EXPECT_TRUE(ring.device.needs_signal());
  EXPECT_FALSE(ring.device.needs_signal()) << "nothing new";
  ring.driver.disable_interrupts();
  return_chains(ring, 1);
  EXPECT_FALSE(ring.device.needs_signal());
  EXPECT_TRUE(ring.driver.enable_interrupts()) << "used chains are there already";
  return_chains(ring, 1);
  EXPECT_TRUE(ring.device.needs_signal());
}

TEST_P(EitherNotification, NeedsSignal_WithEventIndex_OncePerEnable) {
  Ring ring(8, options({.event_idx = true, .initial_index = 65535}));
  offer(ring, 8);
  return_chains(ring, 1);
  EXPECT_TRUE(ring.device.needs_signal()) << "the first time";
  while (ring.driver.poll_used()) {
  }
  EXPECT_FALSE(ring.driver.enable_interrupts());
  return_chains(ring, 2);
  EXPECT_TRUE(ring.device.needs_signal());
  return_chains(ring, 2);
  EXPECT_FALSE(ring.device.needs_signal()) << "it was told already";
  EXPECT_TRUE(ring.driver.enable_interrupts()) << "used chains are there already";
}

INSTANTIATE_TEST_SUITE_P(SplitAndPacked, EitherNotification, testing::Bool(),
                         [](const auto& tested) { return tested.param ? "Packed" : "Split"; });

TEST(SplitNotification, NeedsSignal_WithEventIndex_OnlyWhenItIsPassed) {
  Ring ring(8, {.event_idx = true, .initial_index = 65533});
  offer(ring, 8);
  return_chains(ring, 1);  // Used index 65534.
  EXPECT_TRUE(ring.device.needs_signal()) << "the first time";
  ring.driver.split().set_used_event(65535);  // Wants to know when 65535 becomes 0.
  return_chains(ring, 1);                     // 65535
  EXPECT_FALSE(ring.device.needs_signal());
  return_chains(ring, 2);  // 1
  EXPECT_TRUE(ring.device.needs_signal());
  return_chains(ring, 1);  // 2
  EXPECT_FALSE(ring.device.needs_signal()) << "passed already";
  ring.driver.split().set_used_event(2);
  return_chains(ring, 1);
  EXPECT_TRUE(ring.device.needs_signal());
}

TEST(SplitNotification, NeedsSignal_EventIndexIgnoresTheFlag) {
  Ring ring(8, {.event_idx = true});
  offer(ring, 2);
  return_chains(ring, 1);
  EXPECT_TRUE(ring.device.needs_signal());
  *reinterpret_cast<std::uint16_t*>(ring.memory.host(kGuestBase) + 128) = VRING_AVAIL_F_NO_INTERRUPT;
  ring.driver.split().set_used_event(1);
  return_chains(ring, 1);
  EXPECT_TRUE(ring.device.needs_signal());  // virtio 1.2, 2.7.7.2
}

TEST(SplitNotification, NeedsSignal_AskedAfterAWholeTurn_IsTrue) {
  Ring ring(32768, {.event_idx = true});
  for (int i = 0; i < 2; ++i) {
    ring.driver.split().set_used_event(0xffff);
    for (int half = 0; half < 2; ++half) {
      offer(ring, 32768);
      return_chains(ring, 32768);
      while (ring.driver.poll_used()) {
      }
    }
    EXPECT_TRUE(ring.device.needs_signal());
  }
}

TEST_P(EitherNotification, KickNeeded_WithFlag_FollowsTheDevice) {
  Ring ring(8, options());
  offer(ring, 1);
  EXPECT_TRUE(ring.driver.kick_needed());
  ring.device.disable_kicks();
  offer(ring, 1);
  EXPECT_FALSE(ring.driver.kick_needed());
  EXPECT_TRUE(ring.device.enable_kicks()) << "chains are there already";
  return_chains(ring, 2);
  EXPECT_FALSE(ring.device.enable_kicks());
  offer(ring, 1);
  EXPECT_TRUE(ring.driver.kick_needed());
}

TEST_P(EitherNotification, KickNeeded_WithEventIndex_OncePerEnable) {
  Ring ring(8, options({.event_idx = true, .initial_index = 65535}));
  EXPECT_FALSE(ring.device.enable_kicks());
  offer(ring, 1);
  EXPECT_TRUE(ring.driver.kick_needed());
  offer(ring, 1);
  EXPECT_FALSE(ring.driver.kick_needed());
  return_chains(ring, 2);
  EXPECT_FALSE(ring.device.enable_kicks());
  offer(ring, 2);
  EXPECT_TRUE(ring.driver.kick_needed());
}

// Every event that the driver may wish for, at every place of the ring, against positions counted without
// turns.
TEST(PackedNotification, WantsEvent_IsTrueIfTheEventWasPassed) {
  for (unsigned size = 1; size <= 7; ++size) {
    const auto at = [size](unsigned linear) {
      return PackedPosition{static_cast<std::uint16_t>(linear % size), linear / size % 2 == 0};
    };
    for (unsigned now = 2 * size; now < 4 * size; ++now)
      for (unsigned event = now - size; event < now + size; ++event)
        for (unsigned count = 1; count < size; ++count) {
          const std::uint32_t word = packed_event_word(at(event).word(), VRING_PACKED_EVENT_FLAG_DESC);
          EXPECT_EQ(wants_packed_event(word, true, at(now), count, size), event < now && event + count >= now)
              << "size " << size << " now " << now << " event " << event << " count " << count;
        }
  }
}

TEST(PackedNotification, WantsEvent_FlagsAndWholeTurns) {
  const PackedPosition now{3, true};
  const auto wants = [&](std::uint16_t off_wrap, unsigned flags, bool event_idx, std::uint32_t count) {
    return wants_packed_event(packed_event_word(off_wrap, static_cast<std::uint16_t>(flags)), event_idx, now,
                              count, 8);
  };
  for (const bool event_idx : {false, true}) {
    EXPECT_TRUE(wants(0, VRING_PACKED_EVENT_FLAG_ENABLE, event_idx, 1));
    EXPECT_FALSE(wants(0x8002, VRING_PACKED_EVENT_FLAG_DISABLE, event_idx, 1));
    EXPECT_TRUE(wants(0, 3, event_idx, 1)) << "reserved";
    EXPECT_TRUE(wants(0, 0xffff, event_idx, 1)) << "reserved";
  }
  EXPECT_FALSE(wants(0x8003, VRING_PACKED_EVENT_FLAG_DESC, true, 1));
  EXPECT_TRUE(wants(0x8003, VRING_PACKED_EVENT_FLAG_DESC, false, 1)) << "not negotiated";
  EXPECT_TRUE(wants(0x8003, VRING_PACKED_EVENT_FLAG_DESC, true, 8)) << "a whole turn";
  EXPECT_FALSE(wants(0xffff, VRING_PACKED_EVENT_FLAG_DESC, true, 7)) << "no such descriptor";
  EXPECT_FALSE(wants(0x7fff, VRING_PACKED_EVENT_FLAG_DESC, true, 7)) << "no such descriptor";
}

TEST(PackedNotification, NeedsSignal_WithDescriptorEvent_OnlyWhenItIsPassed) {
  Ring ring(8, {.event_idx = true, .initial_index = 5, .packed = true});
  const auto wish_for = [&](std::uint16_t off_wrap) {
    ring.driver.packed().set_driver_event(off_wrap, VRING_PACKED_EVENT_FLAG_DESC);
  };
  offer(ring, 8);
  return_chains(ring, 1);  // Descriptor 5.
  EXPECT_TRUE(ring.device.needs_signal()) << "the first time";
  wish_for(0x0000);  // The first of the next turn.
  return_chains(ring, 2);
  EXPECT_FALSE(ring.device.needs_signal());
  return_chains(ring, 2);
  EXPECT_TRUE(ring.device.needs_signal());
  return_chains(ring, 1);
  EXPECT_FALSE(ring.device.needs_signal()) << "passed already";
  wish_for(0x0003);
  return_chains(ring, 1);
  EXPECT_TRUE(ring.device.needs_signal());
}

TEST(PackedNotification, DeviceEvent_SaysWhatTheDeviceWants) {
  for (const bool event_idx : {false, true}) {
    Ring ring(4, {.event_idx = event_idx, .initial_index = 7, .packed = true});
    offer(ring, 2);
    return_chains(ring, 2);
    ring.device.disable_kicks();
    EXPECT_EQ(ring.driver.packed().device_event().flags, VRING_PACKED_EVENT_FLAG_DISABLE);
    EXPECT_FALSE(ring.driver.kick_needed());
    EXPECT_FALSE(ring.device.enable_kicks());
    const auto event = ring.driver.packed().device_event();
    EXPECT_EQ(event.flags, event_idx ? VRING_PACKED_EVENT_FLAG_DESC : VRING_PACKED_EVENT_FLAG_ENABLE);
    EXPECT_EQ(event.off_wrap, event_idx ? 0x8001 : 0) << "7 + 2 descriptors: the second of the third turn";
  }
}

// A worker and a driver on a thread each, which sleep whenever the ring tells them that they may. A lost kick
// or signal would leave both waiting, which the time limit of wait_for() turns into a failure.
struct Shape {
  unsigned size;
  bool event_idx;
  bool packed = false;
};
class TwoThreads : public testing::TestWithParam<Shape> {};

class Event {
 public:
  void signal() {
    const std::uint64_t one = 1;
    EXPECT_EQ(write(fd_.get(), &one, sizeof(one)), 8);
    ++count_;
  }
  // False when nothing comes for 20 seconds: somebody forgot us.
  bool wait_for() {
    pollfd waiting{fd_.get(), POLLIN, 0};
    if (poll(&waiting, 1, 20000) != 1) return false;
    std::uint64_t count = 0;
    return read(fd_.get(), &count, sizeof(count)) == 8;
  }
  std::uint64_t count() const { return count_; }

 private:
  UniqueFd fd_{eventfd(0, EFD_CLOEXEC)};
  std::atomic<std::uint64_t> count_{0};
};

TEST_P(TwoThreads, RandomRun_LosesNoKickAndNoSignal) {
  constexpr std::uint64_t kChains = 200000;
  const auto [size, event_idx, packed] = GetParam();
  Ring ring(size, {.event_idx = event_idx, .initial_index = 60000, .packed = packed});
  Event kick;
  Event call;
  std::atomic<bool> failed{false};

  std::jthread worker([&] {
    std::mt19937 random(1);
    Chain chain;
    std::uint64_t handled = 0;
    unsigned batch = 0;
    const auto flush = [&] {
      ring.device.publish();
      if (ring.device.needs_signal()) call.signal();
      batch = 0;
    };
    while (handled < kChains && !failed) {
      switch (ring.device.pop(chain, *ring.map)) {
        case Pop::chain:
          ring.device.push_used(chain.id, 1);
          ++handled;
          if (++batch > random() % 32) flush();
          break;
        case Pop::nothing:
          flush();
          // Sometimes asks several times, sometimes switches kicks off for a while.
          if (random() % 4 == 0) {
            ring.device.disable_kicks();
            break;
          }
          if (ring.device.enable_kicks()) break;
          if (!kick.wait_for()) failed = true;
          break;
        default:
          failed = true;
      }
    }
    flush();
  });

  std::mt19937 random(2);
  const GuestBuffer byte{kGuestBase, 1};
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  while (received < kChains && !failed) {
    const unsigned burst = random() % (size + 1);
    for (unsigned i = 0; i < burst && sent < kChains; ++i) {
      if (!ring.driver.stage({}, {{byte}}, sent)) break;
      ++sent;
    }
    ring.driver.publish();
    if (ring.driver.kick_needed()) kick.signal();
    if (random() % 2 == 0) ring.driver.disable_interrupts();
    bool any = false;
    while (ring.driver.poll_used()) {
      ++received;
      any = true;
    }
    if (any || received == sent || random() % 2 == 0) continue;
    if (ring.driver.enable_interrupts()) continue;
    if (!call.wait_for()) failed = true;
  }
  worker.join();
  EXPECT_FALSE(failed);
  EXPECT_EQ(received, kChains);
  EXPECT_LT(call.count(), kChains);
  RecordProperty("kicks", std::to_string(kick.count()));
  RecordProperty("signals", std::to_string(call.count()));
}

INSTANTIATE_TEST_SUITE_P(Sizes, TwoThreads,
                         testing::Values(Shape{4, false}, Shape{4, true}, Shape{64, false}, Shape{64, true},
                                         Shape{32768, false}, Shape{32768, true}, Shape{3, false, true},
                                         Shape{3, true, true}, Shape{64, false, true}, Shape{64, true, true},
                                         Shape{32767, false, true}, Shape{32767, true, true}));

// One side spins and so acts in the very moment in which the other goes to sleep: that is where a missing
// barrier between "wake me" and the last look at the ring would lose the wake-up.
class OneSleeper : public testing::TestWithParam<std::tuple<bool, bool>> {
 protected:
  static constexpr std::uint64_t kRounds = 30000;

  static DriverOptions options() {
    return {.event_idx = std::get<0>(GetParam()), .packed = std::get<1>(GetParam())};
  }
  static bool spin(auto&& done) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (std::uint32_t turn = 1; !done(); ++turn) {
      if (turn % 1024 != 0) continue;
      if (std::chrono::steady_clock::now() > give_up) return false;
      std::this_thread::yield();  // Both threads may share one processor.
    }
    return true;
  }
};

TEST_P(OneSleeper, DeviceSleeps_NoKickIsLost) {
  Ring ring(4, options());
  Event kick;
  std::jthread worker([&] {
    Chain chain;
    for (std::uint64_t handled = 0; handled < kRounds;) {
      if (ring.device.pop(chain, *ring.map) == Pop::chain) {
        ring.device.push_used(chain.id, 0);
        ring.device.publish();
        ++handled;
      } else if (!ring.device.enable_kicks() && !kick.wait_for()) {
        return;
      } else {
        ring.device.disable_kicks();
      }
    }
  });
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    ASSERT_TRUE(ring.driver.add({}, {{{kGuestBase, 1}}}, 0));
    if (ring.driver.kick_needed()) kick.signal();
    ASSERT_TRUE(spin([&] { return ring.driver.poll_used().has_value(); })) << "kick lost in round " << round;
  }
}

TEST_P(OneSleeper, DriverSleeps_NoSignalIsLost) {
  Ring ring(4, options());
  Event call;
  std::jthread worker([&] {
    Chain chain;
    for (std::uint64_t handled = 0; handled < kRounds; ++handled) {
      if (!spin([&] { return ring.device.pop(chain, *ring.map) == Pop::chain; })) return;
      ring.device.push_used(chain.id, 0);
      ring.device.publish();
      if (ring.device.needs_signal()) call.signal();
    }
  });
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    ring.driver.disable_interrupts();
    ASSERT_TRUE(ring.driver.add({}, {{{kGuestBase, 1}}}, 0));
    while (!ring.driver.poll_used()) {
      if (ring.driver.enable_interrupts()) continue;
      ASSERT_TRUE(call.wait_for()) << "signal lost in round " << round;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EventIndexAndPacked, OneSleeper, testing::Combine(testing::Bool(), testing::Bool()));

}  // namespace
}  // namespace fusewire::virtio
