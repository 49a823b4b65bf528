#include "passthrough/inode.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <algorithm>

namespace fusewire::passthrough {
namespace {

Result<struct statx> call_statx(int fd, const char* name, int flags, unsigned mask) {
  struct statx stat{};
  if (::statx(fd, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, mask, &stat) != 0) return fail_errno();
  return stat;
}

}  // namespace

bool operator==(const Identity& a, const Identity& b) {
  return a.ino == b.ino && a.dev == b.dev && a.mount == b.mount && std::ranges::equal(a.handle, b.handle);
}

Inode::Inode(NodeId node, const struct statx& stat, UniqueFd path_fd)
    : dev_(makedev(stat.stx_dev_major, stat.stx_dev_minor)),
      ino_(stat.stx_ino),
      mount_(stat.stx_mnt_id),
      node_(node),
      path_fd_(std::move(path_fd)),
      type_(stat.stx_mode & S_IFMT) {}

Inode::Inode(NodeId node, const struct statx& stat, std::unique_ptr<HostHandle> handle)
    : dev_(makedev(stat.stx_dev_major, stat.stx_dev_minor)),
      ino_(stat.stx_ino),
      mount_(stat.stx_mnt_id),
      node_(node),
      handle_(std::move(handle)),
      type_(stat.stx_mode & S_IFMT) {}

Identity Inode::identity() const {
  Identity identity{.dev = dev_, .ino = ino_, .mount = mount_, .handle = {}};
  if (handle_) identity.handle = handle_->bytes();
  return identity;
}

Result<PathFd> Inode::path_fd() const {
  if (path_fd_) return PathFd(path_fd_.get());
  auto opened = handle_->open(O_PATH);
  if (!opened) return fail(opened.error());
  return PathFd(std::move(*opened));
}

Result<UniqueFd> Inode::open(const ProcSelfFd& proc, int flags) const {
  if (is_symlink()) return fail(ELOOP);
  if (!is_regular() && !is_directory()) return fail(EBADF);
  if (path_fd_) return proc.reopen(path_fd_.get(), flags);
  return handle_->open(flags & ~O_NOFOLLOW);
}

Result<struct statx> stat_of(int fd, unsigned mask, int sync_flags) {
  return call_statx(fd, "", AT_EMPTY_PATH | sync_flags, mask);
}

Result<struct statx> stat_at(int directory_fd, const char* name) {
  return call_statx(directory_fd, name, 0, kStatMask);
}

Identity identity_of(const struct statx& stat) {
  return {.dev = makedev(stat.stx_dev_major, stat.stx_dev_minor),
          .ino = stat.stx_ino,
          .mount = stat.stx_mnt_id,
          .handle = {}};
}

}  // namespace fusewire::passthrough
