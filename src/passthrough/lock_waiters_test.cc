#include "passthrough/lock_waiters.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <latch>
#include <memory>
#include <string>
#include <vector>

#include "fusewire/unique_fd.h"
#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

// A file that one description has locked, and others that want it.
class LockWaitersTest : public ::testing::Test {
 protected:
  LockWaitersTest() : holder_(open()) { EXPECT_EQ(::flock(holder_.get(), LOCK_EX), 0); }

  UniqueFd open() const {
    return UniqueFd(::open((directory_.path() / "file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  }
  static LockWaiters::Attempt wait_for(const UniqueFd& fd) {
    return [&fd] { return ::flock(fd.get(), LOCK_EX) == 0 ? 0 : errno; };
  }
  static LockWaiters::Finish tell(std::promise<int>& outcome) {
    return [&outcome](int error) { outcome.set_value(error); };
  }

  testing::TemporaryDirectory directory_;
  UniqueFd holder_;
};

TEST_F(LockWaitersTest, LockThatIsSetFree_EndsTheWait) {
  const UniqueFd fd = open();
  std::promise<int> outcome;
  LockWaiters waiters;
  auto ticket = waiters.reserve();
  ASSERT_TRUE(ticket.has_value());
  waiters.start(*ticket, wait_for(fd), tell(outcome));
  ASSERT_EQ(::flock(holder_.get(), LOCK_UN), 0);
  EXPECT_EQ(outcome.get_future().get(), 0);
}

TEST_F(LockWaitersTest, Cancel_AtAnyMoment_EndsTheWaitWithItsErrno) {
  const UniqueFd fd = open();
  // The moments go from before the thread exists to after it waits.
  for (int round = 0; round < 200; ++round) {
    std::promise<int> outcome;
    std::latch in_attempt(1);
    const bool let_it_begin = round % 2 == 0;
    const auto reason = round % 3 == 0 ? InterruptReason::stopping : InterruptReason::interrupted;
    LockWaiters waiters;
    const auto ticket = waiters.reserve();
    ASSERT_TRUE(ticket.has_value());
    std::atomic<bool> counted = false;
    waiters.start(
        *ticket,
        [&] {
          if (!counted.exchange(true)) in_attempt.count_down();
          return ::flock(fd.get(), LOCK_EX) == 0 ? 0 : errno;
        },
        tell(outcome));
    if (let_it_begin) in_attempt.wait();
    LockWaiters::cancel(*ticket, reason);
    LockWaiters::cancel(*ticket, InterruptReason::stopping);  // the first reason counts
    EXPECT_EQ(outcome.get_future().get(), reason == InterruptReason::stopping ? ENOLCK : EINTR);
  }
}

TEST_F(LockWaitersTest, Cancel_BeforeTheStart_NeverAttempts) {
  const UniqueFd fd = open();
  std::promise<int> outcome;
  std::atomic<bool> attempted = false;
  LockWaiters waiters;
  const auto ticket = waiters.reserve();
  LockWaiters::cancel(*ticket, InterruptReason::interrupted);
  waiters.start(*ticket, [&attempted] { return attempted = true, 0; }, tell(outcome));
  EXPECT_EQ(outcome.get_future().get(), EINTR);
  EXPECT_FALSE(attempted);
}

TEST_F(LockWaitersTest, Cancel_WhenAllIsOver_DoesNothing) {
  LockWaiters::TicketPtr ticket;
  {
    const UniqueFd fd = open();
    ASSERT_EQ(::flock(holder_.get(), LOCK_UN), 0);
    std::promise<int> outcome;
    LockWaiters waiters;
    ticket = *waiters.reserve();
    waiters.start(ticket, wait_for(fd), tell(outcome));
    EXPECT_EQ(outcome.get_future().get(), 0);
    LockWaiters::cancel(ticket, InterruptReason::interrupted);
  }
  LockWaiters::cancel(ticket, InterruptReason::stopping);
}

TEST_F(LockWaitersTest, ErrorOfTheCall_ComesThrough) {
  std::promise<int> outcome;
  LockWaiters waiters;
  waiters.start(*waiters.reserve(), [] { return EDEADLK; }, tell(outcome));
  EXPECT_EQ(outcome.get_future().get(), EDEADLK);
}

TEST_F(LockWaitersTest, StraySignal_TriesAgain) {
  std::promise<int> outcome;
  int attempts = 0;
  LockWaiters waiters;
  waiters.start(*waiters.reserve(), [&attempts] { return ++attempts < 3 ? EINTR : 0; }, tell(outcome));
  EXPECT_EQ(outcome.get_future().get(), 0);
  EXPECT_EQ(attempts, 3);
}

TEST_F(LockWaitersTest, Reserve_BeyondTheCap_IsEnolckUntilAPlaceIsFree) {
  LockWaiters waiters(2);
  auto one = waiters.reserve();
  const auto two = waiters.reserve();
  ASSERT_TRUE(one.has_value() && two.has_value());
  EXPECT_EQ(waiters.waiting(), 2U);
  const auto three = waiters.reserve();
  ASSERT_FALSE(three.has_value());
  EXPECT_EQ(three.error(), Errno{ENOLCK});
  *one = nullptr;
  EXPECT_TRUE(waiters.reserve().has_value());
}

TEST_F(LockWaitersTest, EndAll_BreaksManyWaitsOff_AndNewOnesMayFollow) {
  constexpr int kCount = 300;
  std::vector<UniqueFd> fds;
  fds.reserve(kCount);
  for (int i = 0; i < kCount; ++i) fds.push_back(open());
  std::atomic<int> stopped = 0;
  LockWaiters waiters;
  for (int round = 0; round < 2; ++round) {
    stopped = 0;
    for (const UniqueFd& fd : fds) {
      const auto ticket = waiters.reserve();
      ASSERT_TRUE(ticket.has_value());
      waiters.start(*ticket, wait_for(fd), [&stopped](int error) { stopped += error == ENOLCK ? 1 : 0; });
    }
    waiters.end_all();
    EXPECT_EQ(stopped, kCount);
    EXPECT_EQ(waiters.waiting(), 0U);
  }
}

}  // namespace
}  // namespace fusewire::passthrough
