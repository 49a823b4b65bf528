#include "io/busy_poll.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

namespace fusewire::io {
namespace {

using std::chrono::microseconds;

constexpr microseconds kNever{0};
constexpr microseconds kLong = std::chrono::minutes(1);

// The test's own thread is a worker.
class BusyPollTest : public ::testing::Test {
 protected:
  BusyPollTest() { worker_.starts(); }
  ~BusyPollTest() override { worker_.ends(); }
  BusyPoll worker_{kLong};
};

// A sleep that ends at once.
void short_sleep(BusyPoll& poll) {
  poll.falls_asleep();
  poll.woke_up();
}

TEST_F(BusyPollTest, BeforeTheFirstShortSleep_DoesNotPoll) {
  BusyPoll poll(kLong);
  EXPECT_FALSE(poll.wait([] { return true; }));
}

TEST_F(BusyPollTest, AfterAShortSleep_PollsUntilReady) {
  BusyPoll poll(kLong);
  short_sleep(poll);
  int looks = 0;
  EXPECT_TRUE(poll.wait([&] { return ++looks == 1000; }));
  EXPECT_EQ(looks, 1000);
  // What was found soon is waited for awake again.
  EXPECT_TRUE(poll.wait([] { return true; }));
}

TEST_F(BusyPollTest, LimitOfZero_NeverPolls) {
  BusyPoll poll(kNever);
  short_sleep(poll);
  EXPECT_FALSE(poll.wait([] { return true; }));
}

TEST_F(BusyPollTest, NothingWithinTheLimit_GivesUpAndAfterALongSleepDoesNotPoll) {
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

TEST_F(BusyPollTest, MoreWorkersAwakeThanHalfTheProcessors_DoesNotPoll) {
  const unsigned most = std::max(1U, std::thread::hardware_concurrency() / 2);
  BusyPoll poll(kLong);
  short_sleep(poll);
  // With this one, as many as may be.
  for (unsigned others = 1; others < most; ++others) worker_.starts();
  EXPECT_TRUE(poll.wait([] { return true; }));

  BusyPoll never(kNever);
  never.starts();
  EXPECT_TRUE(poll.wait([] { return true; }));

  BusyPoll one_more(kLong);
  one_more.starts();
  EXPECT_FALSE(poll.wait([] { return true; }));
  one_more.falls_asleep();
  EXPECT_TRUE(poll.wait([] { return true; }));
  one_more.woke_up();
  EXPECT_FALSE(poll.wait([] { return true; }));

  for (unsigned others = 0; others < most; ++others) worker_.ends();
}

TEST_F(BusyPollTest, PartnerOnTheSameProcessor_IsWaitedForHoweverManyAreAwake) {
  std::vector<BusyPoll> others(std::max(1U, std::thread::hardware_concurrency()), BusyPoll(kLong));
  for (BusyPoll& other : others) other.starts();
  BusyPoll anywhere(kLong);
  BusyPoll here(kLong, BusyPoll::Partner::here);
  short_sleep(anywhere);
  short_sleep(here);
  EXPECT_FALSE(anywhere.wait([] { return true; }));
  EXPECT_TRUE(here.wait([] { return true; }));
  anywhere.ends();
  for (BusyPoll& other : others) other.ends();
}

}  // namespace
}  // namespace fusewire::io
