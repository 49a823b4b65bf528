// LOOKUP and FORGET, and how an inode of the host becomes an entry for the guest.
#include <fcntl.h>

#include <string_view>

#include "passthrough/answer.h"
#include "passthrough/c_string.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough {
namespace {

constexpr int kPathFlags = O_PATH | O_NOFOLLOW | O_CLOEXEC;

// Whether walking up from `directory` comes to `root`. Not so when the host has moved the directory out of
// the share. The walk ends at the top of the process's file system, or after more levels than a path can
// have.
Result<bool> is_below(int directory, const Identity& root) {
  constexpr int kMostLevels = 4096;
  UniqueFd current;
  Identity last;
  for (int level = 0; level < kMostLevels; ++level) {
    const auto stat = stat_of(current ? current.get() : directory);
    if (!stat) return fail(stat.error());
    const Identity identity = identity_of(*stat);
    if (identity == root) return true;
    if (level > 0 && identity == last) return false;
    last = identity;
    UniqueFd parent(::openat(current ? current.get() : directory, "..", kPathFlags | O_DIRECTORY));
    if (!parent) return fail_errno();
    current = std::move(parent);
  }
  return false;
}

}  // namespace

void PassthroughFs::lookup(Call<op::Lookup> call) {
  answer(call, do_lookup(call.header.node, c_string(call.tail.name)));
}

void PassthroughFs::forget_node(NodeId node, std::uint64_t lookups) { inodes_.forget(node, lookups); }

Result<fuse_entry_out> PassthroughFs::do_lookup(NodeId parent, const char* name) {
  const auto directory = inode(parent);
  if (!directory) return fail(directory.error());
  // NFS export: a kernel that has dropped its names asks what a node is, and what is above it.
  if (name == std::string_view(".")) return entry_of_known(*directory, (*directory)->mount());
  if (!(*directory)->is_directory()) return fail(ENOTDIR);
  if (name == std::string_view("..")) return entry_of_parent(*directory);
  const auto fd = (*directory)->path_fd();
  if (!fd) return fail(fd.error());
  return entry_for(**directory, fd->get(), name);
}

Result<fuse_entry_out> PassthroughFs::entry_of_known(const InodePtr& inode, MountId parent_mount) {
  const auto fd = inode->path_fd();
  if (!fd) return fail(fd.error());
  const auto stat = stat_of(fd->get());
  if (!stat) return fail(stat.error());
  if (!inodes_.acquire_again(inode)) return fail(ESTALE);
  return entry_out(*inode, *stat, parent_mount);
}

Result<fuse_entry_out> PassthroughFs::entry_of_parent(const InodePtr& directory) {
  const auto root = inode(kRootNode);
  if (!root) return fail(root.error());
  if (directory == *root) return entry_of_known(*root, (*root)->mount());
  const auto fd = directory->path_fd();
  if (!fd) return fail(fd.error());
  UniqueFd parent(::openat(fd->get(), "..", kPathFlags | O_DIRECTORY));
  if (!parent) return fail_errno();
  const auto stat = stat_of(parent.get());
  if (!stat) return fail(stat.error());
  const Identity root_identity = (*root)->identity();
  if (identity_of(*stat) == root_identity) return entry_of_known(*root, (*root)->mount());
  const auto inside = is_below(parent.get(), root_identity);
  if (!inside) return fail(inside.error());
  if (!*inside) return fail(ESTALE);
  return entry_for_fd(stat->stx_mnt_id, std::move(parent));
}

Result<fuse_entry_out> PassthroughFs::entry_for(const Inode& directory, int directory_fd, const char* name) {
  if (file_handles_ == FileHandleMode::never) {
    // What is known already needs no descriptor of its own: an inode that was held since before statx cannot
    // have lost its number to another one.
    const NodeId before = inodes_.next_node();
    const auto stat = stat_at(directory_fd, name);
    if (!stat) return fail(stat.error());
    if (const auto known = inodes_.acquire_known(identity_of(*stat), before))
      return entry_out(*known, *stat, directory.mount());
  }
  UniqueFd fd(::openat(directory_fd, name, kPathFlags));
  if (!fd) return fail_errno();
  return entry_for_fd(directory.mount(), std::move(fd));
}

Result<fuse_entry_out> PassthroughFs::entry_for_fd(MountId parent_mount, UniqueFd path_fd) {
  const auto stat = stat_of(path_fd.get());
  if (!stat) return fail(stat.error());
  const auto inode = acquire(*stat, std::move(path_fd));
  if (!inode) return fail(inode.error());
  return entry_out(**inode, *stat, parent_mount);
}

Result<InodePtr> PassthroughFs::acquire(const struct statx& stat, UniqueFd path_fd) {
  if (file_handles_ != FileHandleMode::never) {
    auto handle = handle_of(stat, path_fd.get());
    if (handle) return inodes_.acquire(stat, std::move(*handle));
    if (file_handles_ == FileHandleMode::mandatory) return fail(handle.error());
  }
  auto kept = keep(std::move(path_fd));
  if (!kept) return fail(kept.error());
  return inodes_.acquire(stat, std::move(*kept));
}

Result<std::unique_ptr<HostHandle>> PassthroughFs::handle_of(const struct statx& stat, int path_fd) {
  auto handle = HostHandle::of(path_fd);
  if (!handle) return fail(handle.error());
  auto mount = mounts_.hold(stat.stx_mnt_id, path_fd, stat.stx_mode & S_IFMT, proc_);
  if (!mount) return fail(mount.error());
  (*handle)->attach(std::move(*mount));
  return handle;
}

fuse_entry_out PassthroughFs::entry_out(const Inode& inode, const struct statx& stat,
                                        MountId parent_mount) const {
  fuse_entry_out out{};
  out.nodeid = inode.node().get();
  // The kernel gives its root generation 0.
  out.generation = inode.node() == kRootNode ? 0 : negotiated_.generation;
  out.entry_valid = timeout_s_;
  out.entry_valid_nsec = timeout_ns_;
  out.attr_valid = timeout_s_;
  out.attr_valid_nsec = timeout_ns_;
  out.attr = attr_from_stat(stat);
  if (negotiated_.submounts && inode.is_directory() && inode.mount() != parent_mount)
    out.attr.flags |= FUSE_ATTR_SUBMOUNT;
  return out;
}

}  // namespace fusewire::passthrough
