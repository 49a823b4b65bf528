#include "virtiofs/busy_poll.h"

#include <gtest/gtest.h>

#include <barrier>
#include <thread>
#include <vector>

namespace fusewire::virtiofs {
namespace {

using std::chrono::microseconds;

constexpr microseconds kNever{0};
constexpr microseconds kLong = std::chrono::minutes(1);

// A sleep that ends at once.
void short_sleep(BusyPoll& poll) {
  poll.falls_asleep();
  poll.woke_up();
}

TEST(BusyPoll, BeforeTheFirstShortSleep_DoesNotPoll) {
  BusyPoll poll(kLong);
  EXPECT_FALSE(poll.wait([] { return true; }));
}

TEST(BusyPoll, AfterAShortSleep_PollsUntilReady) {
  BusyPoll poll(kLong);
  short_sleep(poll);
  int looks = 0;
  EXPECT_TRUE(poll.wait([&] { return ++looks == 1000; }));
  EXPECT_EQ(looks, 1000);
  // What was found soon is waited for awake again.
  EXPECT_TRUE(poll.wait([] { return true; }));
}

TEST(BusyPoll, LimitOfZero_NeverPolls) {
  BusyPoll poll(kNever);
  short_sleep(poll);
  EXPECT_FALSE(poll.wait([] { return true; }));
}

TEST(BusyPoll, NothingWithinTheLimit_GivesUpAndAfterALongSleepDoesNotPoll) {
  BusyPoll poll(microseconds(1));
  short_sleep(poll);
  EXPECT_FALSE(poll.wait([] { return false; }));
  poll.falls_asleep();
  // Longer than the limit and what waking up takes, however slow the clock's steps are.
  const auto begin = BusyPoll::Clock::now();
  while (BusyPoll::Clock::now() - begin < std::chrono::milliseconds(1)) {
  }
  poll.woke_up();
  EXPECT_FALSE(poll.wait([] { return true; }));
}

TEST(BusyPoll, MoreWorkersThanHalfTheProcessors_LeavesTheRestAsleep) {
  const unsigned most = std::max(1U, std::thread::hardware_concurrency() / 2);
  std::barrier all_poll(static_cast<std::ptrdiff_t>(most) + 1);
  std::atomic<bool> end{false};
  std::vector<std::thread> pollers;
  for (unsigned i = 0; i < most; ++i) {
    pollers.emplace_back([&] {
      BusyPoll poll(kLong);
      short_sleep(poll);
      bool arrived = false;
      EXPECT_TRUE(poll.wait([&] {
        if (!std::exchange(arrived, true)) all_poll.arrive_and_wait();
        return end.load();
      }));
    });
  }
  all_poll.arrive_and_wait();

  BusyPoll one_more(kLong);
  short_sleep(one_more);
  EXPECT_FALSE(one_more.wait([] { return true; }));

  end = true;
  for (std::thread& poller : pollers) poller.join();
  EXPECT_TRUE(one_more.wait([] { return true; }));
}

}  // namespace
}  // namespace fusewire::virtiofs
