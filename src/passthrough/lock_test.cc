// GETLK, SETLK, SETLKW, and what FLUSH, RELEASE and DESTROY do to locks, through the session.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "passthrough/file_lock.h"
#include "passthrough/lock_waiters.h"
#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::Answer;
using testing::Request;
using testing::Share;
using MemorySlot = fusewire::testing::MemorySlot;

// --- ranges

TEST(FileLockTest, Range_BecomesStartAndLength) {
  const auto some = flock_of({.start = 10, .end = 19, .type = F_WRLCK, .pid = 7});
  ASSERT_TRUE(some.has_value());
  EXPECT_EQ(some->l_start, 10);
  EXPECT_EQ(some->l_len, 10);
  EXPECT_EQ(some->l_type, F_WRLCK);
  EXPECT_EQ(some->l_whence, SEEK_SET);
  EXPECT_EQ(some->l_pid, 0);  // F_OFD_* refuse anything else
  const auto to_end = flock_of({.start = 5, .end = kLastOffset, .type = F_RDLCK, .pid = 0});
  ASSERT_TRUE(to_end.has_value());
  EXPECT_EQ(to_end->l_len, 0);
  const auto longest = flock_of({.start = 0, .end = kLastOffset - 1, .type = F_RDLCK, .pid = 0});
  ASSERT_TRUE(longest.has_value());
  EXPECT_EQ(static_cast<std::uint64_t>(longest->l_len), kLastOffset);
}

TEST(FileLockTest, RangeThatNoKernelSends_IsEinval) {
  EXPECT_EQ(flock_of({.start = 10, .end = 9, .type = F_WRLCK, .pid = 0}).error(), Errno{EINVAL});
  EXPECT_EQ(flock_of({.start = 0, .end = kLastOffset + 1, .type = F_WRLCK, .pid = 0}).error(), Errno{EINVAL});
  EXPECT_EQ(flock_of({.start = ~0ULL, .end = ~0ULL, .type = F_WRLCK, .pid = 0}).error(), Errno{EINVAL});
  for (const std::uint32_t type : {3U, 0x10000U, ~0U}) {
    EXPECT_EQ(flock_of({.start = 0, .end = 9, .type = type, .pid = 0}).error(), Errno{EINVAL}) << type;
  }
}

TEST(FileLockTest, HostsAnswer_BecomesARange) {
  struct flock host = {};
  host.l_type = F_WRLCK;
  host.l_start = 10;
  host.l_len = 10;
  host.l_pid = 42;
  fuse_file_lock lock = file_lock_of(host);
  EXPECT_EQ(lock.start, 10U);
  EXPECT_EQ(lock.end, 19U);
  EXPECT_EQ(lock.type, static_cast<std::uint32_t>(F_WRLCK));
  EXPECT_EQ(lock.pid, 42U);
  host.l_len = 0;
  host.l_pid = -1;
  lock = file_lock_of(host);
  EXPECT_EQ(lock.end, kLastOffset);
  EXPECT_EQ(lock.pid, 0U);
  host.l_type = F_UNLCK;
  EXPECT_EQ(file_lock_of(host).type, static_cast<std::uint32_t>(F_UNLCK));
}

// --- operations

constexpr std::uint64_t kAlice = 0xa11ce;
constexpr std::uint64_t kBob = 0xb0b;

class LockTest : public ::testing::Test {
 protected:
  LockTest() {
    share_.write_host("f", "0123456789");
    node_ = share_.node("f");
    alice_ = open();
    bob_ = open();
  }

  std::uint64_t open(std::uint32_t flags = O_RDWR) {
    const Answer answer = share_.open(node_, flags);
    EXPECT_EQ(answer.error, 0);
    return answer.as<fuse_open_out>().fh;
  }
  Request request(std::uint32_t opcode, std::uint64_t handle, std::uint64_t owner, std::uint32_t type,
                  std::uint64_t start = 0, std::uint64_t end = kLastOffset,
                  std::uint32_t lk_flags = 0) const {
    fuse_lk_in in{};
    in.fh = handle;
    in.owner = owner;
    in.lk = {.start = start, .end = end, .type = type, .pid = 77};
    in.lk_flags = lk_flags;
    return Request(opcode, node_).arg(in);
  }
  int setlk(std::uint64_t handle, std::uint64_t owner, std::uint32_t type, std::uint64_t start = 0,
            std::uint64_t end = kLastOffset) {
    return share_.send(request(FUSE_SETLK, handle, owner, type, start, end)).error;
  }
  int flock(std::uint64_t handle, std::uint32_t type) {
    return share_.send(request(FUSE_SETLK, handle, 1, type, 0, kLastOffset, FUSE_LK_FLOCK)).error;
  }
  std::unique_ptr<MemorySlot> start_wait(std::uint64_t handle, std::uint64_t owner, std::uint32_t type,
                                         std::uint32_t lk_flags = 0) {
    return share_.kernel().start(request(FUSE_SETLKW, handle, owner, type, 0, kLastOffset, lk_flags));
  }
  int flush(std::uint64_t handle, std::uint64_t owner) {
    return share_
        .send(Request(FUSE_FLUSH, node_)
                  .arg(fuse_flush_in{.fh = handle, .unused = 0, .padding = 0, .lock_owner = owner}))
        .error;
  }
  int interrupt(std::uint64_t unique) {
    return share_.send(Request(FUSE_INTERRUPT).arg(fuse_interrupt_in{.unique = unique})).error;
  }

  // What a process of the host gets that tries to lock all of the file: 0 or its errno.
  int host_try(short type) const {
    const UniqueFd fd(::open(share_.host("f").c_str(), O_RDWR | O_CLOEXEC));
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    return ::fcntl(fd.get(), F_OFD_SETLK, &lock) == 0 ? 0 : errno;
  }

  Share share_{[](Config& config) { config.posix_lock = config.flock = true; }};
  NodeId node_;
  std::uint64_t alice_ = 0, bob_ = 0;
};

TEST_F(LockTest, OwnersExcludeEachOther_AndTheHost) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK, 0, 9), 0);
  EXPECT_EQ(setlk(bob_, kBob, F_WRLCK, 5, 20), EAGAIN);
  EXPECT_EQ(setlk(bob_, kBob, F_WRLCK, 10, 20), 0);
  EXPECT_EQ(host_try(F_RDLCK), EAGAIN);
  EXPECT_EQ(setlk(alice_, kAlice, F_UNLCK), 0);
  EXPECT_EQ(setlk(bob_, kBob, F_WRLCK, 5, 9), 0);
  EXPECT_EQ(setlk(bob_, kBob, F_UNLCK), 0);
  EXPECT_EQ(host_try(F_WRLCK), 0);
}

TEST_F(LockTest, OwnersAreTheSame_ThroughWhicheverHandle) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), 0);
  EXPECT_EQ(setlk(bob_, kAlice, F_WRLCK), 0);
  EXPECT_EQ(setlk(bob_, kAlice, F_UNLCK), 0);
  EXPECT_EQ(setlk(bob_, kBob, F_WRLCK), 0);
}

TEST_F(LockTest, ReadLocks_AreShared_AlsoOnReadOnlyHandles) {
  const std::uint64_t reader = open(O_RDONLY);
  EXPECT_EQ(setlk(reader, kAlice, F_RDLCK), 0);
  EXPECT_EQ(setlk(bob_, kBob, F_RDLCK), 0);
  EXPECT_EQ(setlk(bob_, kBob, F_WRLCK), EAGAIN);
  EXPECT_EQ(host_try(F_RDLCK), 0);
  EXPECT_EQ(host_try(F_WRLCK), EAGAIN);
}

TEST_F(LockTest, Getlk_ReportsTheConflictAndNotTheOwnersOwn) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK, 100, 199), 0);
  const Answer other = share_.send(request(FUSE_GETLK, bob_, kBob, F_RDLCK, 150, kLastOffset));
  EXPECT_EQ(other.error, 0);
  const auto lock = other.as<fuse_lk_out>().lk;
  EXPECT_EQ(lock.type, static_cast<std::uint32_t>(F_WRLCK));
  EXPECT_EQ(lock.start, 100U);
  EXPECT_EQ(lock.end, 199U);
  EXPECT_EQ(lock.pid, 0U);
  for (const auto& [owner, start] : {std::pair{kAlice, 100ULL}, std::pair{kBob, 200ULL}}) {
    const Answer none = share_.send(request(FUSE_GETLK, bob_, owner, F_WRLCK, start, kLastOffset));
    EXPECT_EQ(none.error, 0);
    EXPECT_EQ(none.as<fuse_lk_out>().lk.type, static_cast<std::uint32_t>(F_UNLCK));
  }
}

TEST_F(LockTest, Flush_DropsTheLocksOfThatOwnerOnly) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK, 0, 9), 0);
  EXPECT_EQ(setlk(bob_, kBob, F_WRLCK, 10, 19), 0);
  EXPECT_EQ(flush(alice_, kAlice), 0);
  EXPECT_EQ(setlk(bob_, kBob, F_WRLCK, 0, 9), 0);
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK, 10, 19), EAGAIN);
}

TEST_F(LockTest, Release_DropsLocksThatWereNeverFlushed) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), 0);
  EXPECT_EQ(host_try(F_WRLCK), EAGAIN);
  EXPECT_EQ(share_.release(node_, alice_).error, 0);
  EXPECT_EQ(host_try(F_WRLCK), 0);
}

TEST_F(LockTest, Destroy_DropsAllLocks) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), 0);
  EXPECT_EQ(flock(alice_, F_WRLCK), 0);
  EXPECT_EQ(share_.send(Request(FUSE_DESTROY)).error, 0);
  EXPECT_EQ(host_try(F_WRLCK), 0);
  const UniqueFd host(::open(share_.host("f").c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_EQ(::flock(host.get(), LOCK_EX | LOCK_NB), 0);
}

TEST_F(LockTest, UnlockWithoutLock_TakesNoDescriptor) {
  EXPECT_EQ(setlk(alice_, kAlice, F_UNLCK), 0);
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), 0);
  EXPECT_EQ(setlk(alice_, kBob, F_UNLCK), 0);
  EXPECT_EQ(setlk(bob_, kBob, F_WRLCK), EAGAIN);
}

TEST_F(LockTest, Setlkw_OfAFreeRange_IsAnsweredAtOnce) {
  EXPECT_TRUE(start_wait(alice_, kAlice, F_WRLCK)->answered());
  EXPECT_TRUE(start_wait(alice_, 1, F_WRLCK, FUSE_LK_FLOCK)->answered());
}

TEST_F(LockTest, Setlkw_WaitsUntilTheOwnerLetsGo) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), 0);
  const auto waiting = start_wait(bob_, kBob, F_WRLCK);
  EXPECT_FALSE(waiting->answered());
  EXPECT_EQ(setlk(alice_, kAlice, F_UNLCK), 0);
  EXPECT_EQ(waiting->wait().error, 0);
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), EAGAIN);
}

TEST_F(LockTest, Setlkw_WaitsForAProcessOfTheHost) {
  int to_child[2];
  int from_child[2];
  ASSERT_EQ(::pipe(to_child), 0);
  ASSERT_EQ(::pipe(from_child), 0);
  const std::string path = share_.host("f");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    char byte = 0;
    const int fd = ::open(path.c_str(), O_RDWR);
    const bool ok = ::fcntl(fd, F_SETLK, &lock) == 0 && ::write(from_child[1], &byte, 1) == 1 &&
                    ::read(to_child[0], &byte, 1) == 1;
    ::_exit(ok ? 0 : 1);
  }
  char byte = 0;
  ASSERT_EQ(::read(from_child[0], &byte, 1), 1);
  const auto conflict = share_.send(request(FUSE_GETLK, alice_, kAlice, F_RDLCK)).as<fuse_lk_out>().lk;
  EXPECT_EQ(conflict.pid, static_cast<std::uint32_t>(child));
  const auto waiting = start_wait(alice_, kAlice, F_WRLCK);
  EXPECT_FALSE(waiting->answered());
  ASSERT_EQ(::write(to_child[1], &byte, 1), 1);
  EXPECT_EQ(waiting->wait().error, 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  for (const int fd : {to_child[0], to_child[1], from_child[0], from_child[1]}) ::close(fd);
}

TEST_F(LockTest, Interrupt_EndsTheWaitWithEintr_AndNoLockIsLeft) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), 0);
  EXPECT_EQ(flock(alice_, F_WRLCK), 0);
  for (const std::uint32_t lk_flags : {0U, std::uint32_t{FUSE_LK_FLOCK}}) {
    const Request wait = request(FUSE_SETLKW, bob_, kBob, F_WRLCK, 0, kLastOffset, lk_flags);
    const auto waiting = share_.kernel().start(wait);
    EXPECT_FALSE(waiting->answered());
    interrupt(wait.unique());
    EXPECT_EQ(waiting->wait().error, EINTR);
  }
  EXPECT_EQ(setlk(alice_, kAlice, F_UNLCK), 0);
  EXPECT_EQ(host_try(F_WRLCK), 0);
}

TEST_F(LockTest, StoppingQueue_EndsItsWaitsWithEnolck) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), 0);
  std::vector<std::unique_ptr<MemorySlot>> waiting;
  waiting.reserve(LockWaiters::kMaxWaiters);
  for (int i = 0; i < 50; ++i)
    waiting.push_back(
        share_.kernel().start(request(FUSE_SETLKW, bob_, kBob + static_cast<unsigned>(i), F_WRLCK).queue(3)));
  const auto elsewhere = share_.kernel().start(request(FUSE_SETLKW, bob_, 1, F_WRLCK).queue(2));
  share_.kernel().engine().end_waits(3);
  for (const auto& slot : waiting) EXPECT_EQ(slot->wait().error, ENOLCK);
  EXPECT_FALSE(elsewhere->answered());
  EXPECT_EQ(setlk(alice_, kAlice, F_UNLCK), 0);
  EXPECT_EQ(elsewhere->wait().error, 0);
}

TEST_F(LockTest, Destroy_EndsWaits) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), 0);
  EXPECT_EQ(flock(alice_, F_WRLCK), 0);
  const auto record = start_wait(bob_, kBob, F_WRLCK);
  const auto whole = start_wait(bob_, kBob, F_WRLCK, FUSE_LK_FLOCK);
  share_.kernel().engine().reset();
  EXPECT_EQ(record->wait().error, ENOLCK);
  EXPECT_EQ(whole->wait().error, ENOLCK);
  EXPECT_EQ(host_try(F_WRLCK), 0);
}

TEST_F(LockTest, FlushAndReleaseWhileTheOwnerWaits_DoNotBlock_AndTheLockComes) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK, 0, 9), 0);
  EXPECT_EQ(setlk(bob_, kBob, F_WRLCK, 100, 109), 0);
  const auto waiting = start_wait(bob_, kBob, F_WRLCK);
  EXPECT_EQ(flush(bob_, kBob), 0);
  // What was held is gone, what was waited for is still to come.
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK, 100, 109), 0);
  EXPECT_FALSE(waiting->answered());
  EXPECT_EQ(flush(alice_, kAlice), 0);
  EXPECT_EQ(waiting->wait().error, 0);
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), EAGAIN);
  EXPECT_EQ(flush(bob_, kBob), 0);
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), 0);

  const auto again = start_wait(bob_, kBob, F_WRLCK);
  EXPECT_EQ(share_.release(node_, bob_).error, 0);
  EXPECT_EQ(flush(alice_, kAlice), 0);
  EXPECT_EQ(again->wait().error, 0);
  EXPECT_EQ(host_try(F_WRLCK), 0);  // nobody could drop it any more
}

TEST_F(LockTest, Flock_BelongsToTheHandle) {
  EXPECT_EQ(flock(alice_, F_WRLCK), 0);
  EXPECT_EQ(flock(bob_, F_RDLCK), EAGAIN);
  EXPECT_EQ(flock(alice_, F_RDLCK), 0);
  EXPECT_EQ(flock(bob_, F_RDLCK), 0);
  EXPECT_EQ(flock(alice_, F_UNLCK), 0);
  EXPECT_EQ(flock(bob_, F_WRLCK), 0);
  const auto waiting = start_wait(alice_, 1, F_WRLCK, FUSE_LK_FLOCK);
  EXPECT_FALSE(waiting->answered());
  EXPECT_EQ(
      share_
          .send(Request(FUSE_RELEASE, node_)
                    .arg(fuse_release_in{
                        .fh = bob_, .flags = 0, .release_flags = FUSE_RELEASE_FLOCK_UNLOCK, .lock_owner = 1}))
          .error,
      0);
  EXPECT_EQ(waiting->wait().error, 0);
}

TEST_F(LockTest, MoreWaitsThanPlaces_AreEnolck) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), 0);
  std::vector<std::unique_ptr<MemorySlot>> waiting;
  waiting.reserve(LockWaiters::kMaxWaiters);
  for (std::size_t i = 0; i < LockWaiters::kMaxWaiters; ++i)
    waiting.push_back(start_wait(bob_, 1000 + i, F_WRLCK));
  for (const auto& slot : waiting) ASSERT_FALSE(slot->answered());
  EXPECT_EQ(share_.send(request(FUSE_SETLKW, bob_, kBob, F_WRLCK)).error, ENOLCK);
  share_.kernel().engine().reset();
  for (const auto& slot : waiting) EXPECT_EQ(slot->wait().error, ENOLCK);
}

TEST_F(LockTest, WaitsHoldUpNeitherQueueNorPool) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK), 0);
  std::vector<std::unique_ptr<MemorySlot>> waiting;
  waiting.reserve(LockWaiters::kMaxWaiters);
  for (unsigned i = 0; i < 40; ++i) waiting.push_back(start_wait(bob_, 1000 + i, F_RDLCK));
  EXPECT_EQ(
      share_.send(Request(FUSE_FSYNC, node_).arg(fuse_fsync_in{.fh = bob_, .fsync_flags = 0, .padding = 0}))
          .error,
      0);
  EXPECT_EQ(share_.read(node_, alice_, 0, 10).text(), "0123456789");
  EXPECT_EQ(flush(alice_, kAlice), 0);
  for (const auto& slot : waiting) EXPECT_EQ(slot->wait().error, 0);
}

TEST_F(LockTest, HostileRequests_AreErrors) {
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK, 10, 5), EINVAL);
  EXPECT_EQ(setlk(alice_, kAlice, F_WRLCK, ~0ULL, ~0ULL), EINVAL);
  EXPECT_EQ(setlk(alice_, kAlice, 99), EINVAL);
  EXPECT_EQ(flock(alice_, 99), EINVAL);
  EXPECT_EQ(setlk(12345, kAlice, F_WRLCK), EBADF);
  EXPECT_EQ(share_.send(request(FUSE_GETLK, 12345, kAlice, F_WRLCK)).error, EBADF);
  EXPECT_EQ(share_.send(request(FUSE_GETLK, alice_, kAlice, F_WRLCK, 9, 5)).error, EINVAL);
  EXPECT_EQ(share_.send(request(FUSE_GETLK, alice_, kAlice, F_WRLCK, 0, 5, FUSE_LK_FLOCK)).error, EINVAL);
}

TEST_F(LockTest, KindsThatWereNotAskedFor_AreEnosys) {
  Share share;
  share.write_host("f", "");
  const std::uint64_t handle = share.open(share.node("f"), O_RDWR).as<fuse_open_out>().fh;
  for (const std::uint32_t opcode : {FUSE_GETLK, FUSE_SETLK, FUSE_SETLKW}) {
    EXPECT_EQ(share.send(request(opcode, handle, kAlice, F_WRLCK)).error, ENOSYS);
    if (opcode == FUSE_GETLK) continue;
    EXPECT_EQ(share.send(request(opcode, handle, kAlice, F_WRLCK, 0, 9, FUSE_LK_FLOCK)).error, ENOSYS);
  }
}

}  // namespace
}  // namespace fusewire::passthrough
