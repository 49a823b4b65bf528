// OPEN, RELEASE and SYNCFS, and the descriptors that outlive a request.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/log.h"
#include "fusewire/answers.h"
#include "io/worker_pool.h"
#include "passthrough/answer.h"
#include "passthrough/credentials.h"
#include "passthrough/lock_table.h"
#include "passthrough/open_flags.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough {
namespace {

// The guest caches no file data. Writes need not wait for one another in the guest: the host's file system
// has locks.
constexpr std::uint32_t kDirectIo = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;

}  // namespace

Result<UniqueFd> PassthroughFs::keep(UniqueFd fd) const {
  // The kernel gives out the lowest free number, so a high one means that few are left below the limit.
  if (fd.get() >= descriptor_limit_) return fail(ENFILE);
  return fd;
}

std::uint32_t PassthroughFs::open_reply_flags(bool is_directory) const {
  switch (config_.cache) {
    case CachePolicy::never:
      return is_directory ? 0 : kDirectIo;
    case CachePolicy::metadata:
      return is_directory ? FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE : kDirectIo;
    case CachePolicy::automatic:
      return 0;
    case CachePolicy::always:
      return is_directory ? FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE : FOPEN_KEEP_CACHE;
  }
  return 0;
}

// All that have an inode open must have it open in the same way. One that is backed stays so until nobody has
// it open; any other one has been refused, with its whole mount, for good.
std::shared_ptr<const BackingFile> PassthroughFs::backing_for(const Inode& inode, int fd) {
  if (negotiated_.backing_files == nullptr) return nullptr;
  std::atomic<bool>& refused = inode.mount().refuses_backing;
  const std::lock_guard lock(backing_mutex_);
  if (refused.load()) return negotiated_.backing_files->find(inode.node());
  // The kernel does the I/O with this thread's credentials: set-user-ID bits go with a write. To have the
  // kernel find out at each write who writes (no killpriv_v2) would cost a GETXATTR each time.
  const ScopedFsetidDrop bits_go(true);
  auto backing = negotiated_.backing_files->open(inode.node(), fd);
  if (backing) return *std::move(backing);
  refused.store(true);
  log::info("the kernel does not read and write files of mount {} of '{}' itself: {}", inode.mount().id(),
            config_.shared_directory, to_string(backing.error()));
  return nullptr;
}

fuse_open_out PassthroughFs::enter_open_file(UniqueFd fd, const Inode& inode, int flags) {
  const auto backing = backing_for(inode, fd.get());
  const FileHandle handle =
      files_.insert(std::make_shared<OpenFile>(std::move(fd), inode.node(), flags, backing));
  if (backing != nullptr) return BackedOpenAnswer{.handle = handle, .file = *backing};
  fuse_open_out out{};
  out.fh = handle.get();
  out.open_flags = open_reply_flags(false);
  return out;
}

Result<UniqueFd> PassthroughFs::open_regular(const InodePtr& inode, int flags, const GuestOpen& guest) const {
  if (inode->is_directory()) return fail(EISDIR);
  const bool kills = negotiated_.killpriv_v2 && (guest.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
  const ScopedFsetidDrop kill_privileges(kills && (flags & O_TRUNC) != 0);
  auto opened = open_inode(inode, flags);
  // An append-only inode (chattr +a) opens for writing with O_APPEND alone.
  if (!opened && opened.error() == Errno{EPERM} && (guest.flags & O_APPEND) != 0)
    opened = open_inode(inode, flags | O_APPEND);
  if (!opened) return fail(opened.error());
  return keep(std::move(*opened));
}

Result<fuse_open_out> PassthroughFs::do_open(NodeId node, const fuse_open_in& in) {
  if (opens_for_writing(in.flags)) {
    if (const auto writable = check_writable(); !writable) return fail(writable.error());
  }
  auto known = inode(node);
  if (!known) return fail(known.error());
  const int flags = host_open_flags(in.flags, config_, negotiated_.writeback);
  auto opened = open_regular(*known, flags, {.flags = in.flags, .open_flags = in.open_flags});
  if (!opened) return fail(opened.error());
  return enter_open_file(std::move(*opened), **known, flags);
}

void PassthroughFs::open(Call<op::Open> call) { answer(call, do_open(call.header.node, call.in)); }

void PassthroughFs::release(Call<op::Release> call) {
  const FileHandle handle{call.in.fh};
  // Closed when the last request that uses it is done, so that its flock(2) locks are dropped here where the
  // guest says that there are any.
  const auto file = files_.remove(handle);
  if (file == nullptr) return std::move(call.reply).error(EBADF);
  locks().release(file->node, handle);
  if ((call.in.release_flags & FUSE_RELEASE_FLOCK_UNLOCK) != 0 && ::flock(file->fd.get(), LOCK_UN) != 0)
    return std::move(call.reply).error(Errno{errno});
  std::move(call.reply).ok();
}

Result<void> PassthroughFs::do_syncfs(NodeId node) const {
  const auto known = inode(node);
  if (!known) return fail(known.error());
  const auto opened = open_inode(*known, O_RDONLY | O_NONBLOCK);
  if (!opened) return fail(opened.error());
  if (::syncfs(opened->get()) != 0) return fail_errno();
  return {};
}

void PassthroughFs::syncfs(Call<op::Syncfs> call) {
  pool().submit([this, moved = std::move(call)]() mutable { answer(moved, do_syncfs(moved.header.node)); });
}

}  // namespace fusewire::passthrough
