#include "passthrough/mount_table.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/check.h"
#include "passthrough/host_handle.h"
#include "passthrough/storage_kind.h"

namespace fusewire::passthrough {

MountRef::~MountRef() {
  if (mount_ != nullptr) mount_->table_.drop_user(*mount_);
}

MountTable::~MountTable() {
  for (const auto& [id, mount] : mounts_) {
    FUSEWIRE_CHECK(mount->users_.load(std::memory_order_acquire) == 0);
  }
}

MountRef MountTable::of(MountId id) {
  const std::lock_guard lock(mutex_);
  make_room(mounts_);
  auto& mount = mounts_[id];
  if (!mount) mount.reset(new Mount(*this, id));
  // SAFETY: relaxed, as a new user needs to see nothing that other users did.
  mount->users_.fetch_add(1, std::memory_order_relaxed);
  return MountRef(mount.get());
}

void MountTable::drop_user(Mount& mount) {
  std::uint64_t users = mount.users_.load(std::memory_order_relaxed);
  while (users > 1) {
    if (mount.users_.compare_exchange_weak(users, users - 1, std::memory_order_acq_rel)) return;
  }
  UniqueFd closed;  // after the lock is released
  const std::lock_guard lock(mutex_);
  if (mount.users_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  closed.reset(mount.fd_.exchange(-1, std::memory_order_acq_rel));
  // The id may come to mean another mount.
  mount.handles_.store(Mount::Handles::untried, std::memory_order_release);
}

Result<void> MountTable::hold(Mount& mount, int path_fd, mode_t type, const ProcSelfFd& proc) {
  if (mount.fd() >= 0) return {};
  if (!S_ISDIR(type) && !S_ISREG(type)) return fail(EOPNOTSUPP);
  auto opened = proc.reopen(path_fd, O_RDONLY | O_NONBLOCK);
  if (!opened) return fail(opened.error());
  const std::lock_guard lock(mutex_);
  if (mount.fd() < 0) mount.fd_.store(opened->release(), std::memory_order_release);
  return {};
}

Result<void> MountTable::hold_for_good(Mount& mount, int path_fd, mode_t type, const ProcSelfFd& proc) {
  const auto settle = [&mount](Mount::Handles found) {
    mount.handles_.store(found, std::memory_order_release);
  };
  switch (mount.handles_.load(std::memory_order_acquire)) {
    case Mount::Handles::last:
      return {};
    case Mount::Handles::do_not_last:
      return fail(EOPNOTSUPP);
    case Mount::Handles::untried:
      break;
  }
  if (!has_lasting_file_handles(path_fd)) {
    settle(Mount::Handles::do_not_last);
    return fail(EOPNOTSUPP);
  }
  // What stands in the way of this inode alone says nothing of the others.
  if ((!S_ISDIR(type) && !S_ISREG(type)) || !hold(mount, path_fd, type, proc)) return fail(EAGAIN);
  const auto handle = HostHandle::of(path_fd);
  const auto opened = handle ? handle->open(mount.fd(), O_PATH) : fail(handle.error());
  if (!opened && (opened.error() == Errno{EMFILE} || opened.error() == Errno{ENFILE})) return fail(EAGAIN);
  settle(opened ? Mount::Handles::last : Mount::Handles::do_not_last);
  if (!opened) return fail(opened.error());
  return {};
}

}  // namespace fusewire::passthrough
