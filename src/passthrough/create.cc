// What makes new inodes: CREATE, TMPFILE, MKNOD, MKDIR, SYMLINK. Each is made as the guest's user, so that
// ownership, set-group-id directories, quotas and default ACLs come from the host's kernel.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fusewire/c_string.h"
#include "passthrough/answer.h"
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
  const auto labelled = label->apply(proc_, fd.get());
  const auto stat = stat_of(fd.get());
  if (!stat) return fail(stat.error());
  const auto inode = labelled ? acquire(*stat, fd) : fail(labelled.error());
  if (!inode) {
    take_back(directory, name, *stat);
    return fail(inode.error());
  }
  return entry_out(**inode, *stat, parent->inode->mount().id());
}

// Better nothing made than something that has not got its label, or that cannot be named to the guest. What
// `name` has come to mean meanwhile is left alone.
void PassthroughFs::take_back(int directory, const char* name, const struct statx& made) {
  const auto named = stat_at(directory, name);
  if (!named || identity_of(made) != identity_of(*named)) return;
  ::unlinkat(directory, name, S_ISDIR(made.stx_mode) ? AT_REMOVEDIR : 0);
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
  const auto labelled = label->apply(proc_, opened.get());
  const auto stat = stat_of(opened.get());
  if (!stat) return fail(stat.error());
  const bool has_name = (create_flags & O_CREAT) != 0;
  const auto known = labelled ? enter_created(*stat, opened, has_name) : fail(labelled.error());
  if (!known) {
    if (has_name) take_back(parent->fd.get(), name, *stat);
    return fail(known.error());
  }
  return CreateOut{.entry = entry_out(**known, *stat, parent->inode->mount().id()),
                   .open = enter_open_file(std::move(opened), **known, flags)};
}

Result<InodePtr> PassthroughFs::enter_created(const struct statx& stat, const UniqueFd& opened,
                                              bool has_name) {
  if (opened.get() >= descriptor_limit_) return fail(ENFILE);
  return acquire_open(stat, opened.get(), has_name);
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
  const auto known = acquire(*stat, path_fd);
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
                   .open = enter_open_file(std::move(*opened), **known, flags)};
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
