// READ: from the page cache straight into the guest's pages on the queue's own thread, or as a range of the
// file where the transport can move its pages; what is not in the cache, and direct I/O, through the thread's
// io_uring, or where there is none on a thread of the pool.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "io/blocking.h"
#include "io/direct.h"
#include "io/page_cache.h"
#include "io/ring.h"
#include "io/worker_pool.h"
#include "passthrough/answer.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough {
namespace {

// A READ under way. The scatter list lives in the call's slot.
struct Reading {
  Call<op::Read> call;
  std::shared_ptr<OpenFile> file;
  IoVecs rest;           // the room that is still empty
  std::size_t done = 0;  // bytes read
};

// To the guest's kernel a short read means that the file ends there: it fills the rest with zeros and may cut
// its own idea of the size. So an error after some bytes is an error, and the kernel asks again page by page.
void finish(Reading& reading, int error) {
  if (error != 0) return std::move(reading.call.reply).error(for_guest(Errno{error}));
  std::move(reading.call.reply).ok(reading.done);
}

void read_waiting(Reading& reading) {
  const std::uint64_t offset = reading.call.in.offset + reading.done;
  const OpenFile& file = *reading.file;
  const io::Progress progress = (file.flags & O_DIRECT) != 0
                                    ? io::read_direct_at(file.fd.get(), reading.rest, offset)
                                    : io::read_at(file.fd.get(), reading.rest, offset);
  reading.done += progress.done;
  finish(reading, progress.error);
}

// Whether what was read reaches the end of the file. Kernels 5.9 and 5.10 can answer 0 to RWF_NOWAIT in front
// of it.
bool at_end_of_file(const Reading& reading) {
  struct stat stat = {};
  if (::fstat(reading.file->fd.get(), &stat) != 0) return false;
  return reading.call.in.offset + reading.done >= static_cast<std::uint64_t>(stat.st_size);
}

// Answers from the page cache, or returns false with the part that is missing still to be read.
bool read_cached(Reading& reading) {
  const io::Progress progress =
      io::read_at(reading.file->fd.get(), reading.rest, reading.call.in.offset, RWF_NOWAIT);
  reading.done = progress.done;
  switch (progress.error) {
    case 0:
      if (!reading.rest.empty() && !at_end_of_file(reading)) return false;
      finish(reading, 0);
      return true;
    case EAGAIN:
      return false;
    case EOPNOTSUPP:
      // SAFETY: relaxed, a hint; at worst another request finds it out too.
      reading.file->probes_cache.store(false, std::memory_order_relaxed);
      return false;
    default:
      finish(reading, progress.error);
      return true;
  }
}

// How much of what was asked for the file has, as things stand: to send a range that goes beyond the end
// costs the transport more than to read it.
std::size_t size_before_end(const Reading& reading) {
  struct stat stat = {};
  if (::fstat(reading.file->fd.get(), &stat) != 0) return 0;
  const std::uint64_t offset = reading.call.in.offset;
  const auto end = static_cast<std::uint64_t>(stat.st_size);
  return offset < end ? std::min<std::uint64_t>(reading.rest.size(), end - offset) : 0;
}

// Answers with a range of the file where that moves its pages instead of copying them; false where it does
// not, or would hold up the queue for a disk. What a server far away says of a file's size may be old.
bool send_range(Reading& reading, bool may_wait) {
  const auto& reply = reading.call.reply;
  if (!reply.moves_file_range(reading.rest.size())) return false;
  const StorageKind storage = reading.file->storage();
  if (storage == StorageKind::remote) return false;
  const std::size_t size = size_before_end(reading);
  if (!reply.moves_file_range(size)) return false;
  const int fd = reading.file->fd.get();
  const std::uint64_t offset = reading.call.in.offset;
  if (!may_wait && storage != StorageKind::memory && !io::is_cached(fd, offset, size)) return false;
  std::move(reading.call.reply)
      .ok(FileRange{.fd = fd, .offset = static_cast<std::int64_t>(offset), .size = size});
  return true;
}

bool is_direct(const Reading& reading) { return (reading.file->flags & O_DIRECT) != 0; }

void read_on_pool(io::WorkerPool& pool, Reading reading) {
  pool.submit([moved = std::move(reading)]() mutable { read_waiting(moved); });
}

void read_in_background(io::WorkerPool& pool, Reading reading);

// `result` as preadv(2) has it, or a negative errno.
void go_on(io::WorkerPool& pool, Reading reading, int result) {
  // What the ring cannot do, a thread can: among it direct I/O to memory that the device does not take.
  if (result == -EINVAL || result == -EAGAIN || result == -EINTR || result == -EOPNOTSUPP)
    return read_on_pool(pool, std::move(reading));
  if (result < 0) return finish(reading, -result);
  reading.rest.drop_front(static_cast<std::size_t>(result));
  reading.done += static_cast<std::size_t>(result);
  const bool in_block = is_direct(reading) && static_cast<std::size_t>(result) % io::kLeastBlock != 0;
  if (result == 0 || reading.rest.empty() || in_block || at_end_of_file(reading)) return finish(reading, 0);
  read_in_background(pool, std::move(reading));
}

void read_in_background(io::WorkerPool& pool, Reading reading) {
  io::Ring* const ring = io::Ring::of_this_thread();
  const std::uint64_t offset = reading.call.in.offset + reading.done;
  if (ring == nullptr || !ring->has_room() || !io::is_file_range(offset, reading.rest.size()))
    return read_on_pool(pool, std::move(reading));
  const int fd = reading.file->fd.get();
  const std::span<const iovec> to = reading.rest.head();
  ring->read(fd, to, offset, [&pool, moved = std::move(reading)](int result) mutable {
    go_on(pool, std::move(moved), result);
  });
}

}  // namespace

void PassthroughFs::read(Call<op::Read> call) {
  auto opened = file(call.in.fh);
  if (!opened) return std::move(call.reply).error(opened.error());
  Reading reading{.call = std::move(call), .file = std::move(*opened), .rest = {}};
  reading.rest = reading.call.reply.room();
  OpenFile& file = *reading.file;
  // SAFETY: relaxed, see read_cached().
  const bool probes_cache = file.probes_cache.load(std::memory_order_relaxed);
  const bool waits_itself = pool().max_threads() == 0;
  const bool direct = is_direct(reading);
  if (!direct && send_range(reading, waits_itself)) return;
  if (!waits_itself) {
    if (!direct && probes_cache && read_cached(reading)) return;
    // With O_DIRECT too: it goes past nothing there.
    if (file.storage() == StorageKind::memory) return read_waiting(reading);
  }
  read_in_background(pool(), std::move(reading));
}

}  // namespace fusewire::passthrough
