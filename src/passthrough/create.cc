// What makes new inodes: CREATE, TMPFILE, MKNOD, MKDIR, SYMLINK. Each is made as the guest's user, so that
// ownership, set-group-id directories, quotas and default ACLs come from the host's kernel.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "passthrough/answer.h"
#include "passthrough/c_string.h"
#include "passthrough/credentials.h"
#include "passthrough/device_number.h"
#include "passthrough/open_flags.h"
#include "passthrough/passthrough.h"
#include "passthrough/permission.h"
#include "passthrough/security_label.h"

namespace fusewire::passthrough {

// What the thread is while it makes an inode; undone in reverse order.
struct PassthroughFs::AsGuest {
  ScopedUmask umask;
  ScopedCredentials credentials;
};

Result<PassthroughFs::AsGuest> PassthroughFs::as_guest(const Header& header,
                                                       const CreateExtensions& extensions,
                                                       std::uint32_t umask) const {
  std::optional<GuestGid> group;
  if (extensions.has_group) group = extensions.group;
  // Without FUSE_DONT_MASK the guest's kernel has applied the umask.
  auto own_umask = ScopedUmask::set(negotiated_.dont_mask ? umask : 0);
  if (!own_umask) return fail(own_umask.error());
  auto credentials = ScopedCredentials::assume(header.uid, header.gid, group);
  if (!credentials) return fail(credentials.error());
  return AsGuest{.umask = std::move(*own_umask), .credentials = std::move(*credentials)};
}

template <class Make>
Result<fuse_entry_out> PassthroughFs::make_entry(const Header& header, const char* name, std::uint32_t umask,
                                                 const CreateExtensions& extensions, const Make& make) {
  const auto parent = writable_parent(header.node);
  if (!parent) return fail(parent.error());
  // Better nothing made than something that cannot be named to the guest.
  if (const auto left = check_descriptors_left(*parent->inode, 0); !left) return fail(left.error());
  const auto label = ScopedLabel::prepare(labels_.get(), extensions);
  if (!label) return fail(label.error());
  const int directory = parent->fd.get();
  {
    const auto guest = as_guest(header, extensions, umask);
    if (!guest) return fail(guest.error());
    if (make(directory) != 0) return fail_errno();
  }
  UniqueFd fd(::openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno();
  if (const auto labelled = label->apply(proc_, fd.get()); !labelled) {
    remove_unlabelled(directory, name, fd.get());
    return fail(labelled.error());
  }
  return entry_for_fd(parent->inode->mount().id(), std::move(fd));
}

// Takes back what has been made and could not be labelled, unless `name` has come to mean something else.
void PassthroughFs::remove_unlabelled(int directory, const char* name, int fd) const {
  const auto made = stat_of(fd);
  const auto named = stat_at(directory, name);
  if (!made || !named || identity_of(*made) != identity_of(*named)) return;
  ::unlinkat(directory, name, S_ISDIR(made->stx_mode) ? AT_REMOVEDIR : 0);
}

void PassthroughFs::mkdir(Call<op::Mkdir> call) {
  const char* name = c_string(call.tail.name);
  const mode_t mode = call.in.mode & 07777;
  answer(call, make_entry(call.header, name, call.in.umask, call.tail.extensions,
                          [&](int directory) { return ::mkdirat(directory, name, mode); }));
}

void PassthroughFs::mknod(Call<op::Mknod> call) {
  const char* name = c_string(call.tail.name);
  const mode_t mode = call.in.mode & (S_IFMT | 07777);
  const dev_t device = decode_device(call.in.rdev);
  answer(call, make_entry(call.header, name, call.in.umask, call.tail.extensions,
                          [&](int directory) { return ::mknodat(directory, name, mode, device); }));
}

void PassthroughFs::symlink(Call<op::Symlink> call) {
  const char* name = c_string(call.tail.name);
  const char* target = c_string(call.tail.target);
  answer(call, make_entry(call.header, name, 0, call.tail.extensions,
                          [&](int directory) { return ::symlinkat(target, directory, name); }));
}

Result<CreateOut> PassthroughFs::create_new(const Header& header, const fuse_create_in& in, const char* name,
                                            const CreateExtensions& extensions, int create_flags) {
  const auto parent = writable_parent(header.node);
  if (!parent) return fail(parent.error());
  if (const auto left = check_descriptors_left(*parent->inode, 1); !left) return fail(left.error());
  const auto label = ScopedLabel::prepare(labels_.get(), extensions);
  if (!label) return fail(label.error());
  const int flags = host_open_flags(in.flags, config_, negotiated_.writeback);
  UniqueFd opened;
  {
    const auto guest = as_guest(header, extensions, in.umask);
    if (!guest) return fail(guest.error());
    opened.reset(
        ::openat(parent->fd.get(), name, flags | create_flags | O_NOFOLLOW | O_CLOEXEC, in.mode & 07777));
    if (!opened) return fail_errno();
  }
  const bool has_name = (create_flags & O_CREAT) != 0;
  if (const auto labelled = label->apply(proc_, opened.get()); !labelled) {
    if (has_name) remove_unlabelled(parent->fd.get(), name, opened.get());
    return fail(labelled.error());
  }
  return enter_created(parent->inode->mount().id(), std::move(opened), flags, has_name);
}

Result<CreateOut> PassthroughFs::enter_created(MountId parent_mount, UniqueFd opened, int flags,
                                               bool has_name) {
  auto kept = keep(std::move(opened));
  if (!kept) return fail(kept.error());
  const auto stat = stat_of(kept->get());
  if (!stat) return fail(stat.error());
  const auto known = acquire_open(*stat, kept->get(), has_name);
  if (!known) return fail(known.error());
  return CreateOut{.entry = entry_out(**known, *stat, parent_mount),
                   .open = enter_open_file(std::move(*kept), (*known)->node(), flags)};
}

// For CREATE without O_EXCL of a name that the host has made since the guest looked. The guest's kernel takes
// the file for new and checks nothing any more, so that only what it would surely have allowed is opened; for
// everything else ESTALE makes it look the name up again and judge by what it finds.
Result<CreateOut> PassthroughFs::create_existing(const Header& header, const fuse_create_in& in,
                                                 const char* name) {
  const auto parent = parent_directory(header.node);
  if (!parent) return fail(parent.error());
  UniqueFd path_fd(::openat(parent->fd.get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!path_fd) return fail_errno();
  const auto stat = stat_of(path_fd.get());
  if (!stat) return fail(stat.error());
  const std::uint32_t access_mode = in.flags & O_ACCMODE;
  std::uint32_t wanted = access_mode == O_RDONLY ? R_OK : access_mode == O_WRONLY ? W_OK : R_OK | W_OK;
  if ((in.flags & O_TRUNC) != 0) wanted |= W_OK;
  if (!S_ISREG(stat->stx_mode) || !is_allowed(*stat, header.uid, header.gid, wanted)) return fail(ESTALE);
  const auto known = acquire(*stat, std::move(path_fd));
  if (!known) return fail(known.error());
  const int flags = host_open_flags(in.flags, config_, negotiated_.writeback);
  auto opened = open_regular(*known, flags, {.flags = in.flags, .open_flags = in.open_flags});
  // O_TRUNC may have changed what was found.
  const auto now = opened ? stat_of(opened->get()) : fail(opened.error());
  if (!now) {
    inodes_.forget((*known)->node(), 1);
    return fail(now.error());
  }
  return CreateOut{.entry = entry_out(**known, *now, parent->inode->mount().id()),
                   .open = enter_open_file(std::move(*opened), (*known)->node(), flags)};
}

void PassthroughFs::create(Call<op::Create> call) {
  answer(call, do_create(call.header, call.in, call.tail));
}

Result<CreateOut> PassthroughFs::do_create(const Header& header, const fuse_create_in& in,
                                           const NewEntry& entry) {
  // The host may remove and make the name between the two; a guest's request does not wait for it for ever.
  constexpr int kMostAttempts = 8;
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    auto created = create_new(header, in, c_string(entry.name), entry.extensions, O_CREAT | O_EXCL);
    if (created || created.error() != Errno{EEXIST} || (in.flags & O_EXCL) != 0) return created;
    auto existing = create_existing(header, in, c_string(entry.name));
    if (existing || existing.error() != Errno{ENOENT}) return existing;
  }
  return fail(ESTALE);
}

void PassthroughFs::tmpfile(Call<op::Tmpfile> call) {
  // O_EXCL: the file may never get a name.
  const int create_flags = O_TMPFILE | static_cast<int>(call.in.flags & O_EXCL);
  answer(call, create_new(call.header, call.in, ".", call.tail.extensions, create_flags));
}

}  // namespace fusewire::passthrough
