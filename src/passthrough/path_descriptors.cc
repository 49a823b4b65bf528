#include "passthrough/path_descriptors.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <new>

namespace fusewire::passthrough {

Result<PathFd> PathDescriptors::path_fd(const InodePtr& inode) {
  if (const int fd = inode->held_fd(); fd >= 0) return PathFd(fd);
  auto opened = inode->handle().open(inode->mount().fd(), O_PATH);
  if (!opened) return fail(opened.error());
  if (!has_budget() || opened->get() >= limit_) return PathFd(std::move(*opened));
  offer(inode, std::move(*opened));
  // Ours, or that of another request which was quicker.
  return PathFd(inode->held_fd());
}

Result<UniqueFd> PathDescriptors::open(const InodePtr& inode, int flags) const {
  if (inode->is_symlink()) return fail(ELOOP);
  if (!inode->is_regular() && !inode->is_directory()) return fail(EBADF);
  if (const int fd = inode->held_fd(); fd >= 0) return proc_.reopen(fd, flags);
  return inode->handle().open(inode->mount().fd(), flags & ~O_NOFOLLOW);
}

void PathDescriptors::offer(const InodePtr& inode, UniqueFd fd) {
  if (has_budget() && inode->install(fd)) added(inode);
}

void PathDescriptors::warm(const InodePtr& inode) {
  if (!has_budget() || inode->held_fd() >= 0) return;
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() >= budget_) return;
  }
  auto opened = inode->handle().open(inode->mount().fd(), O_PATH);
  if (opened && opened->get() < limit_) offer(inode, std::move(*opened));
}

void PathDescriptors::added(const InodePtr& inode) {
  if (!has_budget()) return;
  if (!enqueue(inode->node())) return;
  // One goes for one that comes; more are tried when some could not go before.
  constexpr int kMostAttempts = 8;
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    const InodePtr victim = next_victim();
    if (!victim) return;
    if (convert(*victim) == Converted::not_now && !enqueue(victim->node())) return;
  }
}

bool PathDescriptors::enqueue(NodeId node) {
  const std::lock_guard lock(mutex_);
  try {
    queue_.push_back(node);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

InodePtr PathDescriptors::next_victim() {
  constexpr int kMostSteps = 32;
  for (int step = 0; step < kMostSteps; ++step) {
    NodeId node;
    {
      const std::lock_guard lock(mutex_);
      if (queue_.size() <= budget_) return {};
      node = queue_.front();
      queue_.pop_front();
    }
    InodePtr inode = inodes_.find_quietly(node);
    if (!inode || inode->held_fd() < 0) continue;  // forgotten
    if (!inode->take_used()) return inode;
    if (!enqueue(node)) return {};
  }
  return {};
}

// Nobody else converts this inode at the same time: it has left the queue, in which it stands once.
PathDescriptors::Converted PathDescriptors::convert(Inode& inode) {
  const int fd = inode.held_fd();
  // A handle does not keep an inode alive, and this one's names may be gone while the guest still has it.
  const auto stat = stat_of(fd, STATX_NLINK);
  if (!stat || stat->stx_nlink == 0) return Converted::not_now;
  if (inode.handle_.empty()) {
    const auto held = mounts_.hold_for_good(inode.mount(), fd, inode.type(), proc_);
    if (!held) return held.error() == Errno{EAGAIN} ? Converted::not_now : Converted::never;
    const auto handle = HostHandle::of(fd);
    if (!handle) return Converted::never;
    if (!inode.handle_.store(*handle)) return Converted::not_now;
  }
  return inode.take_unused_fd() ? Converted::yes : Converted::not_now;
}

}  // namespace fusewire::passthrough
