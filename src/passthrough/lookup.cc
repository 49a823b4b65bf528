// LOOKUP and FORGET, and how an inode of the host becomes an entry for the guest.
#include <fcntl.h>

#include <string_view>

#include "base/log.h"
#include "fusewire/c_string.h"
#include "passthrough/answer.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough {
namespace {

constexpr int kPathFlags = O_PATH | O_NOFOLLOW | O_CLOEXEC;

// How many of the files that this thread looked up last were unknown, one after the other. A guest that walks
// a tree for the first time asks for nothing else, and then it is quicker to open at once than to ask first.
thread_local unsigned unknown_in_a_row = 0;
constexpr unsigned kWalking = 4;

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
  const auto directory = reach(parent);
  if (!directory) return fail(directory.error());
  // NFS export: a kernel that has dropped its names asks what a node is, and what is above it.
  if (name == std::string_view(".")) return entry_of_known(*directory, directory->inode->mount().id());
  if (!directory->inode->is_directory()) return fail(ENOTDIR);
  if (name == std::string_view("..")) return entry_of_parent(*directory);
  return entry_for(directory->inode->mount().id(), directory->fd.get(), name);
}

Result<fuse_entry_out> PassthroughFs::entry_of_known(const ReachedInode& known, MountId parent_mount) {
  const auto stat = stat_of(known.fd.get());
  if (!stat) return fail(stat.error());
  if (!inodes_.acquire_again(known.inode)) return fail(ESTALE);
  return entry_out(*known.inode, *stat, parent_mount);
}

Result<fuse_entry_out> PassthroughFs::entry_of_parent(const ReachedInode& directory) {
  const auto root = reach(kRootNode);
  if (!root) return fail(root.error());
  const MountId root_mount = root->inode->mount().id();
  if (directory.inode == root->inode) return entry_of_known(*root, root_mount);
  UniqueFd parent(::openat(directory.fd.get(), "..", kPathFlags | O_DIRECTORY));
  if (!parent) return fail_errno();
  const auto stat = stat_of(parent.get());
  if (!stat) return fail(stat.error());
  const Identity root_identity = root->inode->identity();
  if (identity_of(*stat) == root_identity) return entry_of_known(*root, root_mount);
  const auto inside = is_below(parent.get(), root_identity);
  if (!inside) return fail(inside.error());
  if (!*inside) return fail(ESTALE);
  return entry_for_fd(stat->stx_mnt_id, std::move(parent));
}

Result<fuse_entry_out> PassthroughFs::entry_for(MountId parent_mount, int directory_fd, const char* name) {
  // What is known already needs no descriptor of its own: one statx(2), and for an inode that is held by its
  // handle the handle that is found under the name.
  if (unknown_in_a_row >= kWalking) {
    UniqueFd fd(::openat(directory_fd, name, kPathFlags));
    if (!fd && errno != EMFILE && errno != ENFILE) return fail_errno();
    // Where descriptors are short, what is known can be found without one.
    if (fd && fd.get() < descriptor_limit_) return entry_for_fd(parent_mount, std::move(fd));
  }
  const std::uint32_t before = inodes_.now();
  const auto stat = stat_at(directory_fd, name);
  if (!stat) return fail(stat.error());
  const auto known = inodes_.find_known(identity_of(*stat), before);
  if (known.inode && (known.counted || acquire_by_handle(known.inode, directory_fd, name))) {
    unknown_in_a_row = 0;
    return entry_out(*known.inode, *stat, parent_mount);
  }
  UniqueFd fd(::openat(directory_fd, name, kPathFlags));
  if (!fd) return fail_errno();
  return entry_for_fd(parent_mount, std::move(fd));
}

// An inode whose handle is still found was there all the time since it was looked up: the number that
// statx(2) saw meanwhile was its own. Anything else is left to who opens what the name means now.
bool PassthroughFs::acquire_by_handle(const InodePtr& known, int directory_fd, const char* name) {
  const auto handle = HostHandle::at(directory_fd, name);
  if (!handle || known->handle() != *handle || !inodes_.acquire_again(known)) return false;
  descriptors_.warm(known);
  return true;
}

Result<fuse_entry_out> PassthroughFs::entry_for_fd(MountId parent_mount, UniqueFd path_fd) {
  const auto stat = stat_of(path_fd.get());
  if (!stat) return fail(stat.error());
  const auto inode = acquire(*stat, path_fd);
  if (!inode) return fail(inode.error());
  return entry_out(**inode, *stat, parent_mount);
}

Result<InodePtr> PassthroughFs::acquire(const struct statx& stat, UniqueFd& path_fd) {
  auto reach = reach_for(stat, path_fd);
  if (!reach) return fail(reach.error());
  auto acquired = inodes_.acquire(stat, *reach);
  if (acquired && !acquired->inode) {
    const auto handle = HostHandle::of(reach->path_fd.get());
    if (!handle) return fail(handle.error());
    reach->handle = *handle;
    acquired = inodes_.acquire(stat, *reach);
  }
  if (!acquired) return fail(acquired.error());
  unknown_in_a_row = acquired->entered ? unknown_in_a_row + 1 : 0;
  if (file_handles_ == FileHandleMode::automatic) {
    if (acquired->entered) {
      entered(acquired->inode);
    } else if (reach->path_fd && acquired->inode->held_fd() < 0) {
      descriptors_.offer(acquired->inode, std::move(reach->path_fd));
    }
  }
  return std::move(acquired->inode);
}

Result<InodePtr> PassthroughFs::acquire_open(const struct statx& stat, int opened_fd, bool has_name) {
  // Without a name, in automatic mode only a descriptor is sure to keep it.
  if (keeps_handles() || (file_handles_ == FileHandleMode::automatic && has_name)) {
    InodeTable::Reach reach{.mount = mounts_.of(stat.stx_mnt_id), .path_fd = {}, .handle = {}};
    if (const auto handle = handle_of(*reach.mount, opened_fd, stat.stx_mode & S_IFMT)) {
      reach.handle = *handle;
      auto acquired = inodes_.acquire(stat, reach);
      if (!acquired) return fail(acquired.error());
      return std::move(acquired->inode);
    }
  }
  auto path_fd = proc_.reopen(opened_fd, O_PATH);
  if (!path_fd) return fail(path_fd.error());
  return acquire(stat, *path_fd);
}

// Leaves `path_fd` alone when a handle is enough.
Result<InodeTable::Reach> PassthroughFs::reach_for(const struct statx& stat, UniqueFd& path_fd) {
  InodeTable::Reach reach{.mount = mounts_.of(stat.stx_mnt_id), .path_fd = {}, .handle = {}};
  const bool may_keep = path_fd.get() < descriptor_limit_;
  if (keeps_handles() || (file_handles_ == FileHandleMode::automatic && !may_keep)) {
    const auto handle = handle_of(*reach.mount, path_fd.get(), stat.stx_mode & S_IFMT);
    if (handle) {
      reach.handle = *handle;
      return reach;
    }
    if (file_handles_ == FileHandleMode::mandatory) return fail(handle.error());
  }
  if (!may_keep) return fail(ENFILE);
  reach.path_fd = std::move(path_fd);
  return reach;
}

// In automatic mode.
void PassthroughFs::entered(const InodePtr& inode) {
  const int fd = inode->held_fd();
  if (fd < 0) return;
  // A mount is best held by a directory (usually its topmost): held by a file, that would live on after it
  // was removed. When it cannot be held, its inodes keep their descriptors.
  if (inode->is_directory() && inode->mount().fd() < 0) {
    if (const auto held = mounts_.hold_for_good(inode->mount(), fd, inode->type(), proc_); !held)
      log::debug("no file handles in mount {}: {}", inode->mount().id(), to_string(held.error()));
  }
  descriptors_.added(inode);
}

Result<HostHandle> PassthroughFs::handle_of(Mount& mount, int fd, mode_t type) {
  const auto held = file_handles_ == FileHandleMode::automatic ? mounts_.hold_for_good(mount, fd, type, proc_)
                                                               : mounts_.hold(mount, fd, type, proc_);
  if (!held) return fail(held.error());
  return HostHandle::of(fd);
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
  if (negotiated_.submounts && inode.is_directory() && inode.mount().id() != parent_mount)
    out.attr.flags |= FUSE_ATTR_SUBMOUNT;
  return out;
}

}  // namespace fusewire::passthrough
