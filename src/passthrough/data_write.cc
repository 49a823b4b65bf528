// WRITE: from the guest's pages into the host's page cache on the queue's own thread; direct I/O
// through the thread's io_uring; what has to reach the disk before it is answered, and what the ring cannot
// do, on a thread of the pool.
#include <fcntl.h>
#include <sys/uio.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "io/blocking.h"
#include "io/direct.h"
#include "io/ring.h"
#include "io/worker_pool.h"
#include "passthrough/answer.h"
#include "passthrough/credentials.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough {
namespace {

struct Writing {
  Call<op::Write> call;
  std::shared_ptr<OpenFile> file;
  int flags = 0;         // RWF_*
  std::size_t done = 0;  // bytes written; call.tail.data is the rest
};

// The RWF_* that say per write what the guest's descriptor says. Pages that the guest's kernel writes back
// carry their place in the file, and come through any descriptor of the inode: its flags do not count for
// them.
//
// O_APPEND is never set on the host's descriptor (host_open_flags), for such pages would all land at the end.
// The offset that the kernel sends with an appending write is the end as it knows it; the host knows better,
// also when somebody else appends.
int write_flags(const fuse_write_in& in, bool writeback) {
  if ((in.write_flags & FUSE_WRITE_CACHE) != 0) return 0;
  int flags = 0;
  if (!writeback && (in.flags & O_APPEND) != 0) flags |= RWF_APPEND;
  if ((in.flags & O_SYNC) == O_SYNC) {
    flags |= RWF_SYNC;
  } else if ((in.flags & O_DSYNC) != 0) {
    flags |= RWF_DSYNC;
  }
  return flags;
}

bool may_wait(const Writing& writing) {
  constexpr int kWaiting = O_DIRECT | O_DSYNC | O_SYNC;
  return (writing.file->flags & kWaiting) != 0 || (writing.flags & (RWF_SYNC | RWF_DSYNC)) != 0;
}

// What was written before an error counts; the guest's kernel comes back for the rest and meets the error
// then.
void finish(Writing& writing, const io::Progress& last) {
  writing.done += last.done;
  if (writing.done == 0 && last.error != 0)
    return std::move(writing.call.reply).error(for_guest(Errno{last.error}));
  std::move(writing.call.reply).ok(static_cast<std::uint32_t>(writing.done));
}

void write_now(Writing& writing) {
  const fuse_write_in& in = writing.call.in;
  const std::uint64_t offset = in.offset + writing.done;
  const OpenFile& file = *writing.file;
  io::Progress progress;
  {
    // Without CAP_FSETID the host's kernel clears set-user-id and set-group-id; security.capability it always
    // removes.
    const ScopedFsetidDrop kill_privileges((in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0);
    IoVecs& data = writing.call.tail.data;
    progress = (file.flags & O_DIRECT) != 0 ? io::write_direct_at(file.fd.get(), data, offset, writing.flags)
                                            : io::write_at(file.fd.get(), data, offset, writing.flags);
  }
  finish(writing, progress);
}

void write_on_pool(io::WorkerPool& pool, Writing writing) {
  pool.submit([moved = std::move(writing)]() mutable { write_now(moved); });
}

// `result` as pwritev2(2) has it, or a negative errno. What the ring cannot do, a thread can: among it direct
// I/O from memory that the device does not take, and the rest of a write that was cut short.
void go_on(io::WorkerPool& pool, Writing writing, int result) {
  if (result == -EINVAL || result == -EAGAIN || result == -EINTR || result == -EOPNOTSUPP)
    return write_on_pool(pool, std::move(writing));
  if (result < 0) return finish(writing, {.done = 0, .error = -result});
  const auto written = static_cast<std::size_t>(result);
  writing.call.tail.data.drop_front(written);
  if (written == 0 || writing.call.tail.data.empty()) return finish(writing, {.done = written, .error = 0});
  writing.done += written;
  write_on_pool(pool, std::move(writing));
}

// Capabilities that are dropped for a write would have to be dropped when the ring is submitted.
bool fits_ring(const Writing& writing) {
  const fuse_write_in& in = writing.call.in;
  const IoVecs& data = writing.call.tail.data;
  return (writing.file->flags & O_DIRECT) != 0 && (in.write_flags & FUSE_WRITE_KILL_SUIDGID) == 0 &&
         !data.empty() && io::is_file_range(in.offset, data.size());
}

void write_in_background(io::WorkerPool& pool, Writing writing) {
  io::Ring* const ring = io::Ring::of_this_thread();
  if (ring == nullptr || !ring->has_room() || !fits_ring(writing))
    return write_on_pool(pool, std::move(writing));
  const int fd = writing.file->fd.get();
  const std::span<const iovec> from = writing.call.tail.data.head();
  const std::uint64_t offset = writing.call.in.offset;
  const int flags = writing.flags;
  ring->write(fd, from, offset, flags, [&pool, moved = std::move(writing)](int result) mutable {
    go_on(pool, std::move(moved), result);
  });
}

}  // namespace

void PassthroughFs::write(Call<op::Write> call) {
  if (const auto writable = check_writable(); !writable) return std::move(call.reply).error(writable.error());
  auto opened = file(call.in.fh);
  if (!opened) return std::move(call.reply).error(opened.error());
  const int flags = write_flags(call.in, negotiated().writeback);
  Writing writing{.call = std::move(call), .file = std::move(*opened), .flags = flags};
  if (!may_wait(writing)) return write_now(writing);
  write_in_background(pool(), std::move(writing));
}

}  // namespace fusewire::passthrough
