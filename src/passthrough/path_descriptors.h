// PathDescriptors: which of the known inodes have an O_PATH descriptor open, and how the others are reached.
//
// Descriptors are the quickest way to an inode and the only one that keeps a removed one alive, but a process
// may have few of them and a guest know millions of inodes. So there is a budget. Beyond it, the inodes that
// were not used for longest go over to file handles: a descriptor is closed, and opened again from the handle
// when the inode is used the next time (second chance: a queue in the order of their opening, which those
// that were used since they were last looked at go through again).
//
// Thread-safe. System calls are made, and descriptors closed, outside the lock.
#pragma once

#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "passthrough/inode.h"
#include "passthrough/inode_table.h"
#include "passthrough/mount_table.h"
#include "passthrough/proc_self_fd.h"

namespace fusewire::passthrough {

// A descriptor to name an inode with in *at calls (with AT_EMPTY_PATH, or as their directory): borrowed from
// the inode, or opened for the occasion. It must not outlive the InodePtr that it was asked for with.
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

// An inode and a descriptor of it, in the order in which they have to go.
struct ReachedInode {
  InodePtr inode;
  PathFd fd;
};

class PathDescriptors {
 public:
  // Refers to the three for its life. `limit`: descriptors with this number and above are not kept.
  PathDescriptors(const InodeTable& inodes, MountTable& mounts, const ProcSelfFd& proc, int limit)
      : inodes_(inodes), mounts_(mounts), proc_(proc), limit_(limit) {}
  PathDescriptors(const PathDescriptors&) = delete;
  PathDescriptors& operator=(const PathDescriptors&) = delete;

  // From now on at most `budget` inodes keep descriptors, as far as that is in our hands. Without it, each
  // inode stays as it was entered: with its descriptor for good, or without one.
  void set_budget(std::size_t budget) { budget_ = budget; }
  bool has_budget() const { return budget_ != 0; }

  // Errors: ESTALE when the inode is known by handle and gone; ENFILE, EMFILE.
  Result<PathFd> path_fd(const InodePtr& inode);

  // Opens the inode for I/O, as open(2) with `flags` would, O_CLOEXEC added. Only regular files and
  // directories are ever opened: ELOOP for a symbolic link, EBADF for anything else. `flags` must hold
  // neither O_CREAT nor O_TMPFILE.
  Result<UniqueFd> open(const InodePtr& inode, int flags) const;

  // `inode` has come into the table with a descriptor of its own. With a budget, others may lose theirs.
  void added(const InodePtr& inode);
  // Opens a descriptor for an inode that has none, if nobody has to give one up for it: the next lookup needs
  // no handle then.
  void warm(const InodePtr& inode);
  // Lends `fd`, an O_PATH descriptor of it, to an inode that has none. Without a budget `fd` is just closed.
  void offer(const InodePtr& inode, UniqueFd fd);

 private:
  enum class Converted { yes, not_now, never };

  // False when there is no memory: the inode keeps its descriptor until it is forgotten then, which is no
  // reason to fail a request.
  bool enqueue(NodeId node);
  // The next inode that is to lose its descriptor; null when the budget is kept, or all that were looked at
  // are in use.
  InodePtr next_victim();
  Converted convert(Inode& inode);

  const InodeTable& inodes_;
  MountTable& mounts_;
  const ProcSelfFd& proc_;
  const int limit_;
  std::size_t budget_ = 0;  // 0: there is none

  std::mutex mutex_;
  std::deque<NodeId> queue_;
};

}  // namespace fusewire::passthrough
