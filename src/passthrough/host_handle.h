// File handles of the host (name_to_handle_at(2), open_by_handle_at(2)): they name an inode without keeping a
// descriptor open, so that a guest may know a million inodes at the price of their memory.
//
// MountTable holds one descriptor for each mount from which a handle was taken, for as long as such a handle
// lives; the mount and its id cannot go away meanwhile. Thread-safe. Handles are immutable.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>

#include "base/result.h"
#include "base/unique_fd.h"
#include "passthrough/proc_self_fd.h"

namespace fusewire::passthrough {

using MountId = std::uint64_t;  // struct statx::stx_mnt_id

// A mount that is held for open_by_handle_at.
struct Mount {
  UniqueFd fd;
};

class HostHandle {
 public:
  // The handle of the inode behind `fd`. Errors: EOPNOTSUPP when its file system has none.
  static Result<std::unique_ptr<HostHandle>> of(int fd);

  // Says through which mount open() goes. Comes before the first open().
  void attach(std::shared_ptr<const Mount> mount) { mount_ = std::move(mount); }

  // Opens the inode with `flags`; O_CLOEXEC is added. The caller must know that it is a regular file or a
  // directory, or pass O_PATH. Errors: ESTALE when the inode is gone; EPERM without CAP_DAC_READ_SEARCH.
  Result<UniqueFd> open(int flags) const;

  // What tells this inode from a later one with the same number.
  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }

 private:
  HostHandle(std::unique_ptr<std::byte[]> data, std::size_t size) : data_(std::move(data)), size_(size) {}

  std::unique_ptr<std::byte[]> data_;  // struct file_handle with its f_handle
  std::size_t size_;
  std::shared_ptr<const Mount> mount_;
};

class MountTable {
 public:
  // The mount `id`, in which the inode behind `path_fd` (of type `type`, as S_IFMT has it) lies. Errors:
  // EOPNOTSUPP when the mount is not held yet and this inode is neither a directory nor a regular file, so
  // that it cannot be opened.
  Result<std::shared_ptr<const Mount>> hold(MountId id, int path_fd, mode_t type, const ProcSelfFd& proc);

 private:
  std::mutex mutex_;
  std::unordered_map<MountId, std::weak_ptr<const Mount>> mounts_;
};

}  // namespace fusewire::passthrough
