// Record locks and flock(2) locks over the socket, against locks of the host and of other owners.
#include <sys/file.h>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

class Locks : public DaemonTest {
 protected:
  void boot_with_file(std::vector<std::string> arguments = {"--posix-lock", "--flock"}) {
    write_host("file", std::string(100, 'x'));
    boot(std::move(arguments), {.request_queues = 2});
    node = *client().walk("file");
    handle = client().open(node)->fh;
  }
  // A lock that a program of the host has on bytes of the file.
  UniqueFd lock_on_host(off_t start, off_t length) {
    UniqueFd fd(::open(host("file").c_str(), O_RDWR | O_CLOEXEC));
    struct flock range = {};
    range.l_type = F_WRLCK;
    range.l_start = start;
    range.l_len = length;
    EXPECT_EQ(::fcntl(fd.get(), F_OFD_SETLK, &range), 0);
    return fd;
  }
  NodeId node;
  std::uint64_t handle = 0;
};

TEST_F(Locks, WriteLock_ExcludesOtherOwnersAndTheHost) {
  boot_with_file();
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 1, F_WRLCK, 0, 9), 0);
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 2, F_WRLCK, 5, 20), EAGAIN);
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 2, F_WRLCK, 10, 20), 0);
  UniqueFd fd(::open(host("file").c_str(), O_RDWR | O_CLOEXEC));
  struct flock range = {};
  range.l_type = F_WRLCK;
  range.l_len = 5;
  EXPECT_EQ(::fcntl(fd.get(), F_OFD_SETLK, &range), -1);
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 1, F_UNLCK, 0, 9), 0);
  EXPECT_EQ(::fcntl(fd.get(), F_OFD_SETLK, &range), 0);
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 1, F_WRLCK, 0, 9), EAGAIN);
}

TEST_F(Locks, Getlk_TellsWhoseLockItIs) {
  boot_with_file();
  const auto query = [&](std::uint64_t owner) {
    return client()
        .send(Client::lock_request(FUSE_GETLK, node, handle, owner, F_WRLCK, 0, 100))
        .as<fuse_lk_out>();
  };
  EXPECT_EQ(query(1).lk.type, static_cast<std::uint32_t>(F_UNLCK));
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 2, F_RDLCK, 10, 19), 0);
  const auto found = query(1);
  EXPECT_EQ(found.lk.type, static_cast<std::uint32_t>(F_RDLCK));
  EXPECT_EQ(found.lk.start, 10u);
  EXPECT_EQ(found.lk.end, 19u);
  EXPECT_EQ(query(2).lk.type, static_cast<std::uint32_t>(F_UNLCK));
}

TEST_F(Locks, Flush_DropsTheOwnersLocks) {
  boot_with_file();
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 1, F_WRLCK), 0);
  fuse_flush_in in{};
  in.fh = handle;
  in.lock_owner = 1;
  EXPECT_EQ(client().send(make_request(FUSE_FLUSH, node, in).room(0)).error, 0);
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 2, F_WRLCK), 0);
}

TEST_F(Locks, Setlkw_WaitsWithoutHoldingUpItsQueue) {
  boot_with_file();
  const UniqueFd held = lock_on_host(0, 10);
  const auto waiting = client().start(Client::lock_request(FUSE_SETLKW, node, handle, 1, F_WRLCK, 0, 20));
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(client().read(node, handle, 0, 10).has_value());
  EXPECT_FALSE(guest().queue(1).take(waiting).has_value());
  struct flock range = {};
  range.l_type = F_UNLCK;
  EXPECT_EQ(::fcntl(held.get(), F_OFD_SETLK, &range), 0);
  EXPECT_EQ(client().wait(waiting).error, 0);
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 2, F_RDLCK, 15, 15), EAGAIN);
}

TEST_F(Locks, Interrupt_EndsTheWaitWithEintr) {
  boot_with_file();
  const UniqueFd held = lock_on_host(0, 0);
  const Request request = Client::lock_request(FUSE_SETLKW, node, handle, 1, F_WRLCK);
  const auto waiting = client().start(request);
  EXPECT_TRUE(client().read(node, handle, 0, 1).has_value());  // the lock has been tried
  Client hiprio(guest(), 0);
  const Answer interrupt = hiprio.send(
      make_request(FUSE_INTERRUPT, NodeId{0}, fuse_interrupt_in{.unique = request.unique()}).room(0));
  EXPECT_FALSE(interrupt.replied);
  EXPECT_EQ(client().wait(waiting).error, EINTR);
}

TEST_F(Locks, InterruptThatOvertakesItsLock_EndsItToo) {
  boot_with_file();
  const UniqueFd held = lock_on_host(0, 0);
  const Request request = Client::lock_request(FUSE_SETLKW, node, handle, 1, F_WRLCK);
  Client hiprio(guest(), 0);
  const auto interrupt = hiprio.start(
      make_request(FUSE_INTERRUPT, NodeId{0}, fuse_interrupt_in{.unique = request.unique()}).room(0));
  // Which of the two the daemon sees first is open; both orders end the wait.
  EXPECT_EQ(client().send(request).error, EINTR);
  EXPECT_FALSE(hiprio.wait(interrupt).replied);
}

TEST_F(Locks, UnmatchedInterrupt_IsEagain) {
  boot_with_file();
  Client hiprio(guest(), 0);
  const auto interrupt =
      hiprio.start(make_request(FUSE_INTERRUPT, NodeId{0}, fuse_interrupt_in{.unique = 0x123456789}).room(0));
  // Requests that are not the one show that it came too late.
  while (!guest().queue(0).take(interrupt)) {
    ASSERT_TRUE(client().getattr(kRootNode).has_value());
  }
}

TEST_F(Locks, ManyWaitingLocks_AllComeThroughOneByOne) {
  boot_with_file();
  constexpr int kWaiters = 40;
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 1, F_WRLCK), 0);
  std::vector<GuestQueue::Ticket> waiting;
  waiting.reserve(kWaiters);
  for (int i = 0; i < kWaiters; ++i)
    waiting.push_back(client().start(
        Client::lock_request(FUSE_SETLKW, node, handle, static_cast<std::uint64_t>(i) + 2, F_WRLCK)));
  Client other(guest(), 2);
  EXPECT_EQ(other.lock(FUSE_SETLK, node, handle, 1, F_UNLCK), 0);
  std::vector<bool> got(kWaiters);
  for (int done = 0; done < kWaiters;) {
    bool any = false;
    for (int i = 0; i < kWaiters; ++i) {
      if (got[static_cast<std::size_t>(i)]) continue;
      const auto answer = guest().queue(1).take(waiting[static_cast<std::size_t>(i)]);
      if (!answer) continue;
      EXPECT_EQ(answer->error, 0);
      // Only one has it at a time, and it gives it to the next.
      EXPECT_EQ(other.lock(FUSE_SETLK, node, handle, static_cast<std::uint64_t>(i) + 2, F_UNLCK), 0);
      got[static_cast<std::size_t>(i)] = any = true;
      ++done;
    }
    if (!any) {
      ASSERT_TRUE(guest().queue(1).wait_for_any());
    }
  }
}

TEST_F(Locks, Flock_ExcludesOtherHandlesAndTheHost) {
  boot_with_file();
  const auto second = client().open(node);
  const auto flock = [&](std::uint64_t of, std::uint32_t type) {
    return client().lock(FUSE_SETLK, node, of, 1, type, 0, 0, FUSE_LK_FLOCK);
  };
  EXPECT_EQ(flock(handle, F_WRLCK), 0);
  EXPECT_EQ(flock(second->fh, F_RDLCK), EAGAIN);
  UniqueFd fd(::open(host("file").c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_EQ(::flock(fd.get(), LOCK_SH | LOCK_NB), -1);
  const auto waiting =
      client().start(Client::lock_request(FUSE_SETLKW, node, second->fh, 2, F_WRLCK, 0, 0, FUSE_LK_FLOCK));
  EXPECT_EQ(flock(handle, F_UNLCK), 0);
  EXPECT_EQ(client().wait(waiting).error, 0);
  EXPECT_EQ(client().release(node, second->fh), 0);
  EXPECT_EQ(::flock(fd.get(), LOCK_EX | LOCK_NB), 0);
}

TEST_F(Locks, WithoutTheOptions_AreEnosys) {
  boot_with_file({});
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 1, F_WRLCK), ENOSYS);
  EXPECT_EQ(client().lock(FUSE_SETLKW, node, handle, 1, F_WRLCK, 0, 0, FUSE_LK_FLOCK), ENOSYS);
  EXPECT_EQ(client().send(Client::lock_request(FUSE_GETLK, node, handle, 1, F_WRLCK)).error, ENOSYS);
  EXPECT_EQ(guest().init_reply().flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS), 0u);
}

TEST_F(Locks, COptionsStyle_TurnsThemOn) {
  boot_with_file({"-o", "posix_lock,flock"});
  EXPECT_EQ(guest().init_reply().flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS),
            static_cast<unsigned>(FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS));
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 1, F_WRLCK), 0);
}

TEST_F(Locks, WaitingLock_EndsWithDestroy) {
  boot_with_file();
  const UniqueFd held = lock_on_host(0, 0);
  const auto waiting = client().start(Client::lock_request(FUSE_SETLKW, node, handle, 1, F_WRLCK));
  EXPECT_TRUE(client().read(node, handle, 0, 1).has_value());
  Client other(guest(), 2);
  EXPECT_EQ(other.send(make_request(FUSE_DESTROY, NodeId{0}).room(0)).error, 0);
  EXPECT_EQ(client().wait(waiting).error, ENOLCK);
}

}  // namespace
}  // namespace fusewire::tests
