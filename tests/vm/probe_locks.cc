// Record locks and flock between processes. On a share they only exclude if the server was told to carry
// them.
#include <sys/file.h>

#include <cerrno>

#include "probe.h"

namespace probe {
namespace {

struct flock range(short type, off_t from, off_t length) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = from;
  lock.l_len = length;
  return lock;
}

const char* set_lock(int fd, short type, off_t from, off_t length, int command = F_SETLK) {
  struct flock lock = range(type, from, length);
  const char* result = outcome(::fcntl(fd, command, &lock));
  // POSIX allows both names for "somebody else has it".
  return errno == EACCES && result[0] == 'E' ? "EAGAIN" : result;
}

// What another process sees in its way. The holder's process id is left out: a server cannot know it.
void in_the_way(const char* what, off_t from, off_t length) {
  wait_for(start([&] {
    File file("locked", O_RDWR);
    struct flock lock = range(F_WRLCK, from, length);
    const char* result = outcome(::fcntl(file, F_GETLK, &lock));
    const char* type = lock.l_type == F_UNLCK   ? "nothing"
                       : lock.l_type == F_RDLCK ? "a read lock"
                                                : "a write lock";
    say(what, "%s: %s at %lld+%lld", result, type, static_cast<long long>(lock.l_start),
        static_cast<long long>(lock.l_len));
    return 0;
  }));
}

void by_another(const char* what, short type, off_t from, off_t length) {
  wait_for(start([&] {
    File file("locked", O_RDWR);
    say(what, "%s", set_lock(file, type, from, length));
    return 0;
  }));
}

void record_locks() {
  put("locked", "locked");
  File file("locked", O_RDWR);
  say("a write lock", "%s", set_lock(file, F_WRLCK, 0, 100));
  by_another("another's write lock on it", F_WRLCK, 50, 10);
  by_another("another's read lock on it", F_RDLCK, 99, 1);
  by_another("another's lock beside it", F_WRLCK, 100, 10);
  in_the_way("F_GETLK", 90, 20);
  say("unlock the middle", "%s", set_lock(file, F_UNLCK, 40, 20));
  by_another("another's lock in the middle", F_WRLCK, 40, 20);
  in_the_way("F_GETLK after it", 50, 1000);
  say("turn it into a read lock", "%s", set_lock(file, F_RDLCK, 0, 100));
  by_another("another's read lock", F_RDLCK, 0, 100);
  by_another("another's write lock", F_WRLCK, 0, 100);
  in_the_way("F_GETLK", 0, 0);
  say("unlock all", "%s", set_lock(file, F_UNLCK, 0, 0));
  in_the_way("F_GETLK", 0, 0);
  say("lock to the end of all", "%s", set_lock(file, F_WRLCK, 1000, 0));
  by_another("another's lock far out", F_WRLCK, 1LL << 40, 1);
  say("a write lock on a reader", "%s", set_lock(File("locked", O_RDONLY), F_WRLCK, 0, 1));

  // POSIX: closing any descriptor of the file drops all of the process's locks on it.
  File again("locked", O_RDWR);
  must(set_lock(again, F_WRLCK, 0, 0) != nullptr, "lock");
  by_another("while two descriptors are open", F_WRLCK, 0, 1);
  {
    File third("locked", O_RDONLY);
  }
  by_another("after another descriptor of it was closed", F_WRLCK, 0, 1);

  Flag locked;
  Flag leave;
  pid_t holder = start([&] {
    File own("locked", O_RDWR);
    if (set_lock(own, F_WRLCK, 0, 0)[0] != 'o') return 1;
    locked.raise();
    leave.await();
    return 0;
  });
  locked.await();
  say("while a process holds it", "%s", set_lock(again, F_WRLCK, 0, 0));
  leave.raise();
  say("the holder ends", "status %d", wait_for(holder));
  say("... and its lock with it", "%s", set_lock(again, F_WRLCK, 0, 0));
}

// A waiting lock must be granted when its time comes, and must not hold up anything else meanwhile.
void waiting(const char* what, const std::function<long(int)>& lock,
             const std::function<long(int)>& lock_waiting, const std::function<long(int)>& unlock) {
  put("waited", "w");
  File file("waited", O_RDWR);
  say(what, "taken: %s", outcome(lock(file)));
  Flag begun;
  Flag got;
  // Only this process prints: which of the two is first after the release is not determined.
  pid_t waiter = start([&] {
    File own("waited", O_RDWR);
    begun.raise();
    int status = lock_waiting(own) < 0 ? errno : 0;
    got.raise();
    return status;
  });
  begun.await();
  bool early = got.raised_within(400);
  say(what, "the waiter %s", early ? "DID NOT WAIT" : "waits");
  put("meanwhile", "other work goes on");
  say(what, "meanwhile: %s", get("meanwhile").c_str());
  say(what, "released: %s", outcome(unlock(file)));
  errno = wait_for(waiter);
  say(what, "the waiter then: %s", outcome(errno == 0 ? 0 : -1));
}

void flocks() {
  put("flocked", "f");
  auto try_lock = [](const char* what, int kind) {
    wait_for(start([&] {
      File file("flocked", O_RDWR);
      say(what, "%s", outcome(::flock(file, kind | LOCK_NB)));
      return 0;
    }));
  };
  File file("flocked", O_RDWR);
  say("flock exclusive", "%s", outcome(::flock(file, LOCK_EX)));
  try_lock("another's exclusive", LOCK_EX);
  try_lock("another's shared", LOCK_SH);
  {
    File same_process("flocked", O_RDWR);
    say("another descriptor of this process", "%s", outcome(::flock(same_process, LOCK_EX | LOCK_NB)));
  }
  try_lock("after that one was closed", LOCK_EX);
  say("make it shared", "%s", outcome(::flock(file, LOCK_SH)));
  try_lock("another's shared", LOCK_SH);
  try_lock("another's exclusive", LOCK_EX);
  say("unlock", "%s", outcome(::flock(file, LOCK_UN)));
  try_lock("another's exclusive", LOCK_EX);

  // The lock belongs to the open file: it stays until the last copy of the descriptor is closed.
  must(::flock(file, LOCK_EX) == 0, "flock");
  int copy = ::dup(file);
  file.close();
  try_lock("while a copy is open", LOCK_EX);
  ::close(copy);
  try_lock("after the last copy was closed", LOCK_EX);
}

}  // namespace

void locks() {
  record_locks();
  flocks();
  auto record = [](short type, int command) {
    return [type, command](int fd) {
      struct flock lock = range(type, 0, 0);
      return static_cast<long>(::fcntl(fd, command, &lock));
    };
  };
  auto whole = [](int kind) { return [kind](int fd) { return static_cast<long>(::flock(fd, kind)); }; };
  waiting("F_SETLKW", record(F_WRLCK, F_SETLK), record(F_WRLCK, F_SETLKW), record(F_UNLCK, F_SETLK));
  waiting("flock that waits", whole(LOCK_EX), whole(LOCK_EX), whole(LOCK_UN));
}

}  // namespace probe
