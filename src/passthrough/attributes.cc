// GETATTR, SETATTR, STATX, ACCESS, STATFS: what is known about an inode, and changing it.
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <limits>

#include "fusewire/answers.h"
#include "fusewire/file_times.h"
#include "passthrough/answer.h"
#include "passthrough/credentials.h"
#include "passthrough/device_number.h"
#include "passthrough/passthrough.h"
#include "passthrough/permission.h"

namespace fusewire::passthrough {
namespace {

StatxTime wire_time(const struct statx_timestamp& time) {
  return {.tv_sec = time.tv_sec, .tv_nsec = time.tv_nsec, .reserved = 0};
}

StatxAttr statx_attr(const struct statx& stat) {
  StatxAttr out{};
  out.mask = stat.stx_mask & (STATX_BASIC_STATS | STATX_BTIME);
  out.blksize = stat.stx_blksize;
  out.attributes = stat.stx_attributes;
  out.nlink = stat.stx_nlink;
  out.uid = stat.stx_uid;
  out.gid = stat.stx_gid;
  out.mode = stat.stx_mode;
  out.ino = stat.stx_ino;
  out.size = stat.stx_size;
  out.blocks = stat.stx_blocks;
  out.attributes_mask = stat.stx_attributes_mask;
  out.atime = wire_time(stat.stx_atime);
  out.btime = wire_time(stat.stx_btime);
  out.ctime = wire_time(stat.stx_ctime);
  out.mtime = wire_time(stat.stx_mtime);
  out.rdev_major = stat.stx_rdev_major;
  out.rdev_minor = stat.stx_rdev_minor;
  out.dev_major = stat.stx_dev_major;
  out.dev_minor = stat.stx_dev_minor;
  return out;
}

}  // namespace

fuse_attr PassthroughFs::attr_from_stat(const struct statx& stat) {
  fuse_attr attr{};
  attr.ino = stat.stx_ino;
  attr.size = stat.stx_size;
  attr.blocks = stat.stx_blocks;
  attr.atime = static_cast<std::uint64_t>(stat.stx_atime.tv_sec);
  attr.mtime = static_cast<std::uint64_t>(stat.stx_mtime.tv_sec);
  attr.ctime = static_cast<std::uint64_t>(stat.stx_ctime.tv_sec);
  attr.atimensec = stat.stx_atime.tv_nsec;
  attr.mtimensec = stat.stx_mtime.tv_nsec;
  attr.ctimensec = stat.stx_ctime.tv_nsec;
  attr.mode = stat.stx_mode;
  attr.nlink = stat.stx_nlink;
  attr.uid = stat.stx_uid;
  attr.gid = stat.stx_gid;
  attr.rdev = encode_device(stat.stx_rdev_major, stat.stx_rdev_minor);
  attr.blksize = stat.stx_blksize;
  return attr;
}

fuse_attr_out PassthroughFs::attr_out(const struct statx& stat) const {
  return {.attr_valid = timeout_s_, .attr_valid_nsec = timeout_ns_, .dummy = 0, .attr = attr_from_stat(stat)};
}

Result<struct statx> PassthroughFs::stat_node(NodeId node, std::optional<std::uint64_t> handle, unsigned mask,
                                              int sync_flags) {
  if (handle) {
    const auto open_file = file(*handle);
    if (!open_file) return fail(open_file.error());
    return stat_of((*open_file)->fd.get(), mask, sync_flags);
  }
  const auto known = reach(node);
  if (!known) return fail(known.error());
  return stat_of(known->fd.get(), mask, sync_flags);
}

void PassthroughFs::getattr(Call<op::Getattr> call) {
  std::optional<std::uint64_t> handle;
  if ((call.in.getattr_flags & FUSE_GETATTR_FH) != 0) handle = call.in.fh;
  const auto stat = stat_node(call.header.node, handle, kStatMask, 0);
  if (!stat) return std::move(call.reply).error(for_guest(stat.error()));
  std::move(call.reply).ok(attr_out(*stat));
}

void PassthroughFs::statx(Call<op::Statx> call) {
  std::optional<std::uint64_t> handle;
  if ((call.in.getattr_flags & FUSE_GETATTR_FH) != 0) handle = call.in.fh;
  const auto stat = stat_node(call.header.node, handle, STATX_BASIC_STATS | STATX_BTIME,
                              static_cast<int>(call.in.sx_flags & AT_STATX_SYNC_TYPE));
  if (!stat) return std::move(call.reply).error(for_guest(stat.error()));
  StatxOut out{};
  out.attr_valid = timeout_s_;
  out.attr_valid_nsec = timeout_ns_;
  out.stat = statx_attr(*stat);
  std::move(call.reply).ok(out);
}

void PassthroughFs::setattr(Call<op::Setattr> call) { answer(call, do_setattr(call.header.node, call.in)); }

Result<fuse_attr_out> PassthroughFs::do_setattr(NodeId node, const fuse_setattr_in& in) {
  if (const auto writable = check_writable(); !writable) return fail(writable.error());
  if ((in.valid & FATTR_FH) != 0) {
    const auto open_file = file(in.fh);
    if (!open_file) return fail(open_file.error());
    const int flags = (*open_file)->flags;
    return set_attributes({.fd = (*open_file)->fd.get(), .type = S_IFREG, .open_flags = flags}, in);
  }
  const auto known = reach(node);
  if (!known && known.error() == Errno{ESTALE} && is_write_back(in)) return times_of_removed(node, in);
  if (!known) return fail(known.error());
  return set_attributes({.fd = known->fd.get(), .type = known->inode->type(), .open_flags = O_PATH}, in);
}

// With the write-back cache the kernel sends the times of a file when it drops it, removed or not
// (fuse_write_inode() in fs/fuse/inode.c).
bool PassthroughFs::is_write_back(const fuse_setattr_in& in) const {
  return negotiated_.writeback && (in.valid & ~std::uint32_t{FATTR_LOCKOWNER}) == (FATTR_MTIME | FATTR_CTIME);
}

// An inode that has no name any more and that nobody has open has no use for them. As an error it would come
// out of the guest's next syncfs(2), where it means lost data.
Result<fuse_attr_out> PassthroughFs::times_of_removed(NodeId node, const fuse_setattr_in& in) const {
  const auto known = inode(node);
  if (!known) return fail(known.error());
  fuse_attr_out out{};
  out.attr.ino = (*known)->identity().ino;
  out.attr.mode = (*known)->type();
  out.attr.mtime = in.mtime;
  out.attr.mtimensec = in.mtimensec;
  out.attr.ctime = in.ctime;
  out.attr.ctimensec = in.ctimensec;
  return out;
}

Result<fuse_attr_out> PassthroughFs::set_attributes(const Target& target, const fuse_setattr_in& in) const {
  if ((in.valid & (FATTR_UID | FATTR_GID)) != 0) {
    if (const auto done = change_owner(target, in); !done) return fail(done.error());
  }
  if ((in.valid & FATTR_MODE) != 0) {
    if (const auto done = change_mode(target, in.mode); !done) return fail(done.error());
  }
  if ((in.valid & FATTR_SIZE) != 0) {
    if (const auto done = change_size(target, in); !done) return fail(done.error());
  }
  if ((in.valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW)) != 0) {
    if (const auto done = change_times(target, in); !done) return fail(done.error());
  }
  const auto stat = stat_of(target.fd);
  if (!stat) return fail(stat.error());
  return attr_out(*stat);
}

// The kernel clears set-user-id and set-group-id of anything but directories on every change of owner.
Result<void> PassthroughFs::change_owner(const Target& target, const fuse_setattr_in& in) const {
  const uid_t uid = (in.valid & FATTR_UID) != 0 ? in.uid : std::numeric_limits<uid_t>::max();
  const gid_t gid = (in.valid & FATTR_GID) != 0 ? in.gid : std::numeric_limits<gid_t>::max();
  if (::fchownat(target.fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) return fail_errno();
  return {};
}

Result<void> PassthroughFs::change_mode(const Target& target, std::uint32_t mode) const {
  if (S_ISLNK(target.type)) return fail(EOPNOTSUPP);
  const ProcSelfFd::Name name(target.fd);
  if (::fchmodat(proc_.directory(), name.c_str(), mode & 07777, 0) != 0) return fail_errno();
  return {};
}

Result<void> PassthroughFs::change_size(const Target& target, const fuse_setattr_in& in) const {
  if (in.size > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) return fail(EFBIG);
  if (S_ISDIR(target.type)) return fail(EISDIR);
  if (!S_ISREG(target.type)) return fail(EINVAL);
  UniqueFd opened;
  const int access = target.open_flags & O_ACCMODE;
  const bool can_write = (target.open_flags & O_PATH) == 0 && access != O_RDONLY;
  if (!can_write) {
    auto result = proc_.reopen(target.fd, O_WRONLY | O_NONBLOCK);
    if (!result) return fail(result.error());
    opened = std::move(*result);
  }
  const ScopedFsetidDrop kill_privileges(negotiated_.killpriv_v2 && (in.valid & FATTR_KILL_SUIDGID) != 0);
  if (::ftruncate(can_write ? target.fd : opened.get(), static_cast<off_t>(in.size)) != 0)
    return fail_errno();
  return {};
}

Result<void> PassthroughFs::change_times(const Target& target, const fuse_setattr_in& in) const {
  const std::array<timespec, 2> times = times_to_set(in);
  const ProcSelfFd::Name name(target.fd);
  if (::utimensat(proc_.directory(), name.c_str(), times.data(), 0) != 0) return fail_errno();
  return {};
}

void PassthroughFs::access(Call<op::Access> call) {
  const std::uint32_t mask = call.in.mask & (R_OK | W_OK | X_OK);
  const auto stat = stat_node(call.header.node, std::nullopt, kStatMask, 0);
  if (!stat) return std::move(call.reply).error(for_guest(stat.error()));
  const mode_t type = stat->stx_mode & S_IFMT;
  const bool holds_data = S_ISREG(type) || S_ISDIR(type) || S_ISLNK(type);
  if ((mask & W_OK) != 0 && config_.readonly && holds_data) return std::move(call.reply).error(EROFS);
  if (!is_allowed(*stat, call.header.uid, call.header.gid, mask)) return std::move(call.reply).error(EACCES);
  std::move(call.reply).ok();
}

void PassthroughFs::statfs(Call<op::Statfs> call) {
  const auto known = reach(call.header.node);
  if (!known) return std::move(call.reply).error(for_guest(known.error()));
  struct statvfs host{};
  if (::fstatvfs(known->fd.get(), &host) != 0) return std::move(call.reply).error(errno);
  std::move(call.reply).ok(fuse_statfs_out{.st = statfs_of(host)});
}

}  // namespace fusewire::passthrough
