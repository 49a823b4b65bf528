// The operations on names that make no new inode: READLINK, UNLINK, RMDIR, RENAME, RENAME2, LINK.
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "fusewire/c_string.h"
#include "passthrough/answer.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough {

Result<ReachedInode> PassthroughFs::parent_directory(NodeId node) {
  auto found = reach(node);
  if (found && !found->inode->is_directory()) return fail(ENOTDIR);
  return found;
}

Result<ReachedInode> PassthroughFs::writable_parent(NodeId node) {
  if (const auto writable = check_writable(); !writable) return fail(writable.error());
  return parent_directory(node);
}

void PassthroughFs::readlink(Call<op::Readlink> call) {
  const auto known = reach(call.header.node);
  if (!known) return std::move(call.reply).error(for_guest(known.error()));
  if (!known->inode->is_symlink()) return std::move(call.reply).error(EINVAL);
  std::array<char, PATH_MAX> target;
  const ssize_t size = ::readlinkat(known->fd.get(), "", target.data(), target.size());
  if (size < 0) return std::move(call.reply).error(errno);
  std::move(call.reply).ok(as_bytes(std::string_view(target.data(), static_cast<std::size_t>(size))));
}

Result<void> PassthroughFs::remove_name(NodeId parent, const char* name, int flags) {
  const auto directory = writable_parent(parent);
  if (!directory) return fail(directory.error());
  if (::unlinkat(directory->fd.get(), name, flags) != 0) return fail_errno();
  return {};
}

void PassthroughFs::unlink(Call<op::Unlink> call) {
  answer(call, remove_name(call.header.node, c_string(call.tail.name), 0));
}

void PassthroughFs::rmdir(Call<op::Rmdir> call) {
  answer(call, remove_name(call.header.node, c_string(call.tail.name), AT_REMOVEDIR));
}

Result<void> PassthroughFs::do_rename(NodeId old_parent, NodeId new_parent, const EntryNames& names,
                                      std::uint32_t flags) {
  constexpr std::uint32_t kKnown = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;
  if ((flags & ~kKnown) != 0) return fail(EINVAL);
  const auto from = writable_parent(old_parent);
  if (!from) return fail(from.error());
  const auto to = writable_parent(new_parent);
  if (!to) return fail(to.error());
  // The raw call: libc may have a fallback for flags that the file system does not know.
  if (::syscall(SYS_renameat2, from->fd.get(), c_string(names.old_name), to->fd.get(),
                c_string(names.new_name), flags) != 0)
    return fail_errno();
  return {};
}

void PassthroughFs::rename(Call<op::Rename> call) {
  answer(call, do_rename(call.header.node, NodeId{call.in.newdir}, call.tail, 0));
}

void PassthroughFs::rename2(Call<op::Rename2> call) {
  answer(call, do_rename(call.header.node, NodeId{call.in.newdir}, call.tail, call.in.flags));
}

Result<fuse_entry_out> PassthroughFs::do_link(NodeId target, NodeId parent, const char* name) {
  const auto directory = writable_parent(parent);
  if (!directory) return fail(directory.error());
  const auto known = reach(target);
  if (!known) return fail(known.error());
  // By way of /proc/self/fd it takes no privilege, other than with AT_EMPTY_PATH; the link ends at the inode
  // itself, also when that is a symbolic link or a file without a name (TMPFILE).
  const ProcSelfFd::Name source(known->fd.get());
  if (::linkat(proc_.directory(), source.c_str(), directory->fd.get(), name, AT_SYMLINK_FOLLOW) != 0)
    return fail_errno();
  return entry_of_known(*known, directory->inode->mount().id());
}

void PassthroughFs::link(Call<op::Link> call) {
  answer(call, do_link(NodeId{call.in.oldnodeid}, call.header.node, c_string(call.tail.name)));
}

}  // namespace fusewire::passthrough
