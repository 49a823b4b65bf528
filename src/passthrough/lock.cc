// GETLK, SETLK and SETLKW: record locks, and flock(2) locks by FUSE_LK_FLOCK. Each kind reaches the host only
// if it was asked for; else ENOSYS, and the guest's kernel, which was not told of the capability, keeps its
// locks to itself.
//
// A lock is tried without waiting first; only if somebody else holds it, the request goes to a thread that
// waits.
#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <utility>

#include "passthrough/answer.h"
#include "passthrough/file_lock.h"
#include "passthrough/lock_table.h"
#include "passthrough/lock_waiters.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough {
namespace {

using FilePtr = std::shared_ptr<OpenFile>;

int errno_unless(int result) { return result == 0 ? 0 : errno; }

// A record lock that is to be set or dropped.
struct RecordLock {
  LockTable::Lease owner;
  struct flock range;

  int try_now() { return errno_unless(::fcntl(owner.fd(), F_OFD_SETLK, &range)); }
  int wait() { return errno_unless(::fcntl(owner.fd(), F_OFD_SETLKW, &range)); }
  // Before the answer: the guest may close the file the moment it has it.
  void settle(int error) {
    if (error == 0 && range.l_type != F_UNLCK) owner.keep_lock();
    const LockTable::Lease given_back = std::move(owner);
  }
};

// A flock(2) lock: it belongs to the open file description, as on the guest's side.
struct WholeFileLock {
  FilePtr file;
  int operation;

  static Result<WholeFileLock> of(FilePtr file, const fuse_file_lock& lock) {
    switch (lock.type) {
      case F_RDLCK:
        return WholeFileLock{std::move(file), LOCK_SH};
      case F_WRLCK:
        return WholeFileLock{std::move(file), LOCK_EX};
      case F_UNLCK:
        return WholeFileLock{std::move(file), LOCK_UN};
      default:
        return fail(EINVAL);
    }
  }
  int try_now() { return errno_unless(::flock(file->fd.get(), operation | LOCK_NB)); }
  int wait() { return errno_unless(::flock(file->fd.get(), operation)); }
  void settle(int) { file.reset(); }
};

// A SETLKW under way, shared by the two steps of its wait.
template <class Lock>
struct Waiting {
  Call<op::Setlkw> call;
  Lock lock;
};

template <class Call, class Lock>
void finish(Call& call, Lock& lock, int error) {
  lock.settle(error);
  if (error != 0) return std::move(call.reply).error(for_guest(Errno{error}));
  std::move(call.reply).ok();
}

template <class Lock>
void wait_for(LockWaiters& waiters, Call<op::Setlkw> call, Lock lock) {
  const auto place = waiters.reserve();
  if (!place) return finish(call, lock, place.error().value);
  call.reply.set_interrupt_handler(
      [ticket = *place](InterruptReason reason) { LockWaiters::cancel(ticket, reason); });
  auto waiting = std::make_shared<Waiting<Lock>>(std::move(call), std::move(lock));
  waiters.start(
      *place, [waiting] { return waiting->lock.wait(); },
      [waiting](int error) { finish(waiting->call, waiting->lock, error); });
}

// Uses `call` and `lock` up.
template <class Lock>
void lock_now(LockWaiters&, Call<op::Setlk>& call, Lock& lock) {
  finish(call, lock, lock.try_now());
}
template <class Lock>
void lock_now(LockWaiters& waiters, Call<op::Setlkw>& call, Lock& lock) {
  const int error = lock.try_now();
  if (error != EAGAIN && error != EACCES) return finish(call, lock, error);
  wait_for(waiters, std::move(call), std::move(lock));
}

bool is_flock(const fuse_lk_in& in) { return (in.lk_flags & FUSE_LK_FLOCK) != 0; }

// The owner's descriptor, made with `open` if it locks for the first time. One that only unlocks needs none.
Result<RecordLock> record_lock(LockTable& table, const OpenFile& file, const fuse_lk_in& in,
                               const std::function<Result<UniqueFd>()>& open) {
  const auto range = flock_of(in.lk);
  if (!range) return fail(range.error());
  const LockOwner owner{in.owner};
  if (range->l_type == F_UNLCK) return RecordLock{table.find(file.node, owner), *range};
  auto lease = table.lease(file.node, owner, FileHandle{in.fh}, open);
  if (!lease) return fail(lease.error());
  return RecordLock{std::move(*lease), *range};
}

// Whether the lock is of a kind that reaches the host.
bool is_offered(const fuse_lk_in& in, const Config& config) {
  return is_flock(in) ? config.flock : config.posix_lock;
}

// A read lock needs a descriptor for reading and a write lock one for writing, and the owner may come with
// either, through any of the files that it has open; its kernel checks that they fit.
Result<UniqueFd> open_for_locks(const OpenFile& file, const ProcSelfFd& proc, const Config& config) {
  const int access = file.flags & O_ACCMODE;
  if (!config.readonly && access != O_RDWR) {
    if (auto opened = proc.reopen(file.fd.get(), O_RDWR)) return opened;
  }
  return proc.reopen(file.fd.get(), access);
}

template <class Op>
void set_lock(Call<Op>& call, LockTable& table, FilePtr file, const std::function<Result<UniqueFd>()>& open) {
  if (is_flock(call.in)) {
    auto lock = WholeFileLock::of(std::move(file), call.in.lk);
    if (!lock) return std::move(call.reply).error(lock.error());
    return lock_now(table.waiters(), call, *lock);
  }
  auto lock = record_lock(table, *file, call.in, open);
  if (!lock) return std::move(call.reply).error(for_guest(lock.error()));
  if (lock->owner.fd() < 0) return std::move(call.reply).ok();  // there is nothing to unlock
  lock_now(table.waiters(), call, *lock);
}

}  // namespace

void PassthroughFs::getlk(Call<op::Getlk> call) {
  if (!config().posix_lock) return std::move(call.reply).error(ENOSYS);
  if (is_flock(call.in)) return std::move(call.reply).error(EINVAL);
  const auto opened = file(call.in.fh);
  if (!opened) return std::move(call.reply).error(opened.error());
  auto range = flock_of(call.in.lk);
  if (!range) return std::move(call.reply).error(range.error());
  // The owner's own locks do not count. One without a descriptor has none; then any descriptor without locks
  // will do.
  const LockTable::Lease owner = locks().find((*opened)->node, LockOwner{call.in.owner});
  const int fd = owner.fd() >= 0 ? owner.fd() : (*opened)->fd.get();
  if (::fcntl(fd, F_OFD_GETLK, &*range) != 0) return std::move(call.reply).error(Errno{errno});
  fuse_lk_out out{};
  out.lk = file_lock_of(*range);
  std::move(call.reply).ok(out);
}

template <class Op>
void PassthroughFs::set_offered_lock(Call<Op> call) {
  if (!is_offered(call.in, config())) return std::move(call.reply).error(ENOSYS);
  const auto opened = file(call.in.fh);
  if (!opened) return std::move(call.reply).error(opened.error());
  set_lock(call, locks(), *opened, [&]() -> Result<UniqueFd> {
    auto fd = open_for_locks(**opened, proc_, config());
    return fd ? keep(std::move(*fd)) : std::move(fd);
  });
}

void PassthroughFs::setlk(Call<op::Setlk> call) { set_offered_lock(std::move(call)); }
void PassthroughFs::setlkw(Call<op::Setlkw> call) { set_offered_lock(std::move(call)); }

}  // namespace fusewire::passthrough
