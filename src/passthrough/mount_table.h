// MountTable: the mounts of the host in which known inodes lie. A Mount is its id while inodes are held by
// descriptors; for file handles it keeps a descriptor of its own, through which they are opened, and which
// keeps the mount and its id from going away. That descriptor is closed with the mount's last user.
//
// Thread-safe. Mounts live as long as their table: there are only as many as the host has had at a time.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "passthrough/proc_self_fd.h"
#include "passthrough/steady_table.h"

namespace fusewire::passthrough {

using MountId = std::uint64_t;  // struct statx::stx_mnt_id

class MountTable;

class Mount {
 public:
  MountId id() const { return id_; }
  // For open_by_handle_at(2); -1 while it is not held. Stays what it is as long as the caller is a user.
  int fd() const { return fd_.load(std::memory_order_acquire); }
  // What hold_for_good() found out; false before.
  bool handles_last() const { return handles_.load(std::memory_order_acquire) == Handles::last; }
  // The kernel has refused a file of this mount as a backing file: no other one is tried.
  std::atomic<bool> refuses_backing{false};

 private:
  friend class MountTable;
  friend class MountRef;
  Mount(MountTable& table, MountId id) : table_(table), id_(id) {}

  enum class Handles : std::uint8_t { untried, last, do_not_last };

  MountTable& table_;
  const MountId id_;
  std::atomic<std::uint64_t> users_{0};  // becomes 1 or 0 under the table's lock only
  std::atomic<int> fd_{-1};  // owned; changes under the table's lock, and becomes -1 without users
  std::atomic<Handles> handles_{Handles::untried};
};

// One user of a mount.
class MountRef {
 public:
  MountRef() = default;
  MountRef(MountRef&& other) noexcept : mount_(std::exchange(other.mount_, nullptr)) {}
  MountRef& operator=(MountRef&& other) noexcept {
    std::swap(mount_, other.mount_);
    return *this;
  }
  ~MountRef();

  Mount* get() const { return mount_; }
  Mount& operator*() const { return *mount_; }
  Mount* operator->() const { return mount_; }
  explicit operator bool() const { return mount_ != nullptr; }

 private:
  friend class MountTable;
  explicit MountRef(Mount* counted) : mount_(counted) {}
  Mount* mount_ = nullptr;
};

class MountTable {
 public:
  MountTable() = default;
  MountTable(const MountTable&) = delete;
  MountTable& operator=(const MountTable&) = delete;
  ~MountTable();

  // The mount `id`. Something must keep the mount alive while this is called: a descriptor in it.
  MountRef of(MountId id);

  // Gives the mount its descriptor, if it has none, by way of an inode in it: the one behind `path_fd`, of
  // type `type` as S_IFMT has it. Errors: EOPNOTSUPP when that is neither a directory nor a regular file, so
  // that it cannot be opened; those of open(2).
  Result<void> hold(Mount& mount, int path_fd, mode_t type, const ProcSelfFd& proc);

  // As hold(), and finds out whether an inode of this mount can be relied on to be found again by its handle
  // alone, whenever that is. Tries once, and remembers what it found. Errors: EAGAIN when this inode is not
  // one to try it with; any other when it cannot (the first time, why: EPERM without CAP_DAC_READ_SEARCH).
  Result<void> hold_for_good(Mount& mount, int path_fd, mode_t type, const ProcSelfFd& proc);

 private:
  friend class MountRef;
  void drop_user(Mount& mount);

  std::mutex mutex_;
  SteadyMap<MountId, std::unique_ptr<Mount>> mounts_;
};

}  // namespace fusewire::passthrough
