#include "passthrough/inode.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include "passthrough/inode_slab.h"

namespace fusewire::passthrough {
namespace {

Result<struct statx> call_statx(int fd, const char* name, int flags, unsigned mask) {
  struct statx stat{};
  if (::statx(fd, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, mask, &stat) != 0) return fail_errno();
  return stat;
}

}  // namespace

NodeId Inode::node() const { return InodeSlab::node_of(*this); }

bool Inode::try_hold(std::uint64_t mark) {
  std::uint64_t state = state_.load(std::memory_order_relaxed);
  while ((state & kKnown) != 0) {
    if (state_.compare_exchange_weak(state, (state + 1) | mark, std::memory_order_acquire,
                                     std::memory_order_relaxed))
      return true;
  }
  return false;
}

void Inode::retire() {
  // Nobody can come to hold it any more: it is not known.
  const UniqueFd closed(fd_of(state_.exchange(0, std::memory_order_acquire)));
  handle_.clear();
  mount_ = MountRef();
  lookups_ = 0;
  detached_ = false;
  InodeSlab::give_back(*this);
}

bool Inode::install(UniqueFd& fd) {
  if (static_cast<std::uint64_t>(fd.get()) >= kFdBits) return false;
  std::uint64_t state = state_.load(std::memory_order_relaxed);
  do {
    if (fd_of(state) >= 0) return false;
  } while (!state_.compare_exchange_weak(state, with_fd(state, fd.get()), std::memory_order_acq_rel));
  (void)fd.release();
  return true;
}

UniqueFd Inode::take_unused_fd() {
  std::uint64_t state = state_.load(std::memory_order_relaxed);
  do {
    if ((state & kHolders) != 2 || (state & kKnown) == 0) return {};
  } while (!state_.compare_exchange_weak(state, with_fd(state, -1), std::memory_order_acq_rel));
  return UniqueFd(fd_of(state));
}

Result<struct statx> stat_of(int fd, unsigned mask, int sync_flags) {
  return call_statx(fd, "", AT_EMPTY_PATH | sync_flags, mask);
}

Result<struct statx> stat_at(int directory_fd, const char* name) {
  return call_statx(directory_fd, name, 0, kStatMask);
}

Identity identity_of(const struct statx& stat) {
  return {
      .dev = makedev(stat.stx_dev_major, stat.stx_dev_minor), .ino = stat.stx_ino, .mount = stat.stx_mnt_id};
}

}  // namespace fusewire::passthrough
