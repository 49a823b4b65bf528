// Inode: what is known about one inode of the host that the guest has looked up, and what keeps it reachable:
// an O_PATH descriptor, or a file handle. Held by the inode table, by open files and by requests under way
// (shared_ptr). Immutable but for its lookup count, which belongs to the table. Thread-safe.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"
#include "fuse/wire.h"
#include "passthrough/host_handle.h"
#include "passthrough/proc_self_fd.h"

namespace fusewire::passthrough {

// Which inode this is. While a descriptor is held the three numbers cannot come to mean another inode; an
// inode that is known by its file handle is told apart by the handle's bytes as well.
struct Identity {
  dev_t dev = 0;
  ino_t ino = 0;
  MountId mount = 0;
  std::span<const std::byte> handle;  // empty when a descriptor is held; dies with its HostHandle

  friend bool operator==(const Identity& a, const Identity& b);
};

// A descriptor to name an inode with in *at calls (with AT_EMPTY_PATH, or as their directory): borrowed from
// the Inode, or opened for the occasion. It must not outlive the Inode.
class PathFd {
 public:
  explicit PathFd(int borrowed) : fd_(borrowed) {}
  explicit PathFd(UniqueFd owned) : owned_(std::move(owned)), fd_(owned_.get()) {}
  PathFd(PathFd&&) noexcept = default;
  PathFd& operator=(PathFd&&) noexcept = default;
  int get() const { return fd_; }

 private:
  UniqueFd owned_;
  int fd_;
};

class Inode {
 public:
  // `stat` must hold type, ino, dev and mount id of the inode behind `path_fd` or `handle`.
  Inode(NodeId node, const struct statx& stat, UniqueFd path_fd);
  Inode(NodeId node, const struct statx& stat, std::unique_ptr<HostHandle> handle);
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;

  NodeId node() const { return node_; }
  MountId mount() const { return mount_; }
  // The view of the handle in it lives as long as this Inode.
  Identity identity() const;

  // The type as S_IFMT has it. An inode never changes its type.
  mode_t type() const { return type_; }
  bool is_directory() const { return S_ISDIR(type_); }
  bool is_regular() const { return S_ISREG(type_); }
  bool is_symlink() const { return S_ISLNK(type_); }

  // Errors: ESTALE when the inode is known by handle and gone; ENFILE, EMFILE.
  Result<PathFd> path_fd() const;

  // Opens the inode for I/O, as open(2) with `flags` would, O_CLOEXEC added. Only regular files and
  // directories are ever opened: ELOOP for a symbolic link, EBADF for anything else. `flags` must hold
  // neither O_CREAT nor O_TMPFILE.
  Result<UniqueFd> open(const ProcSelfFd& proc, int flags) const;

 private:
  friend class InodeTable;

  const dev_t dev_;
  const ino_t ino_;
  const MountId mount_;
  const NodeId node_;
  std::uint64_t lookups_ = 0;  // guarded by the lock of the table's shard for this identity
  const UniqueFd path_fd_;
  const std::unique_ptr<const HostHandle> handle_;  // set when path_fd_ is not
  const mode_t type_;
};

// What is asked of statx(2) where nothing else is said.
inline constexpr unsigned kStatMask = STATX_BASIC_STATS | STATX_MNT_ID;

// statx(2) of the inode behind `fd` itself. `sync_flags`: AT_STATX_*.
Result<struct statx> stat_of(int fd, unsigned mask = kStatMask, int sync_flags = 0);
// statx(2) of the entry `name` of the directory `directory_fd`; a symbolic link is not followed.
Result<struct statx> stat_at(int directory_fd, const char* name);

// The identity that an inode with this `stat` has when it is held by a descriptor.
Identity identity_of(const struct statx& stat);

}  // namespace fusewire::passthrough
