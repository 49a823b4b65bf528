// FLUSH, FSYNC, FALLOCATE, LSEEK and COPY_FILE_RANGE. READ and WRITE are in data_read.cc and data_write.cc.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "io/blocking.h"
#include "io/worker_pool.h"
#include "passthrough/answer.h"
#include "passthrough/credentials.h"
#include "passthrough/lock_table.h"
#include "passthrough/open_directory.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough {
namespace {

// Closing any descriptor of a file reports what a network file system has failed to write.
Result<void> close_a_copy(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return fail_errno();
  // The copy is gone whatever close(2) says; EINTR says nothing about the data.
  if (::close(copy) != 0 && errno != EINTR) return fail_errno();
  return {};
}

Result<void> sync_file(int fd, bool data_only) {
  if ((data_only ? ::fdatasync(fd) : ::fsync(fd)) != 0) return fail_errno();
  return {};
}

// FALLOCATE and COPY_FILE_RANGE change a file as WRITE does, but have no flag that says whether set-user-id
// and set-group-id go. With FUSE_HANDLE_KILLPRIV_V2 the guest's kernel leaves it to us: they stay for its
// root alone.
bool kills_privileges(const Header& header, bool killpriv_v2) {
  return killpriv_v2 && header.uid != GuestUid{0};
}

Result<void> allocate(int fd, const fuse_fallocate_in& in, bool kills) {
  if (!io::is_file_range(in.offset, in.length)) return fail(EFBIG);
  const ScopedFsetidDrop kill_privileges(kills);
  const int mode = static_cast<int>(in.mode);
  const auto offset = static_cast<off_t>(in.offset);
  const auto length = static_cast<off_t>(in.length);
  while (::fallocate(fd, mode, offset, length) != 0) {
    if (errno != EINTR) return fail_errno();
  }
  return {};
}

// --- COPY_FILE_RANGE

// One system call copies this much at most, so that an interrupt or the end of the device is seen between two
// of them.
constexpr std::uint64_t kCopyPiece = 64 << 20;
// fuse_write_out's 32 bits, and whole pages, so that the rest begins where a file system can share blocks.
constexpr std::uint64_t kMostIn32Bits = 0xffffffff & ~std::uint64_t{4095};

template <class Op>
struct Copying {
  Call<Op> call;
  std::shared_ptr<OpenFile> from;
  std::shared_ptr<OpenFile> to;
  std::uint64_t length;  // at most this many bytes
  bool kills_privileges;
};

// The bytes copied; an error counts only if there are none.
template <class Op>
Result<std::uint64_t> copy(const Copying<Op>& copying) {
  const fuse_copy_file_range_in& in = copying.call.in;
  const ScopedFsetidDrop kill_privileges(copying.kills_privileges);
  if (!io::is_file_range(in.off_in, 0) || !io::is_file_range(in.off_out, 0)) return fail(EINVAL);
  auto from = static_cast<off_t>(in.off_in);
  auto to = static_cast<off_t>(in.off_out);
  std::uint64_t copied = 0;
  do {
    const std::uint64_t piece = std::min(copying.length - copied, kCopyPiece);
    const ssize_t moved =
        ::copy_file_range(copying.from->fd.get(), &from, copying.to->fd.get(), &to, piece, 0);
    if (moved < 0) {
      if (errno == EINTR && !copying.call.reply.interrupted()) continue;
      if (copied == 0) return fail_errno();
      break;
    }
    if (moved == 0) break;  // the end of the source
    copied += static_cast<std::uint64_t>(moved);
  } while (copied < copying.length && !copying.call.reply.interrupted());
  return copied;
}

void send_copied(Call<op::CopyFileRange>& call, std::uint64_t copied) {
  std::move(call.reply).ok(static_cast<std::uint32_t>(copied));
}
void send_copied(Call<op::CopyFileRange64>& call, std::uint64_t copied) {
  CopyFileRangeOut out{};
  out.bytes_copied = copied;
  std::move(call.reply).ok(out);
}

using FileResult = Result<std::shared_ptr<OpenFile>>;

// Uses `call` up.
template <class Op>
void start_copy(io::WorkerPool& pool, Call<Op>& call, FileResult from, FileResult to, std::uint64_t length,
                bool kills_privileges) {
  if (!from) return std::move(call.reply).error(from.error());
  if (!to) return std::move(call.reply).error(to.error());
  if (call.in.flags != 0) return std::move(call.reply).error(EINVAL);
  Copying<Op> copying{.call = std::move(call),
                      .from = std::move(*from),
                      .to = std::move(*to),
                      .length = length,
                      .kills_privileges = kills_privileges};
  pool.submit([moved = std::move(copying)]() mutable {
    const auto copied = copy(moved);
    if (!copied) return std::move(moved.call.reply).error(for_guest(copied.error()));
    send_copied(moved.call, *copied);
  });
}

}  // namespace

void PassthroughFs::flush(Call<op::Flush> call) {
  auto opened = file(call.in.fh);
  if (!opened) return std::move(call.reply).error(opened.error());
  const std::shared_ptr<OpenFile> file = std::move(*opened);
  locks().flush(file->node, LockOwner{call.in.lock_owner});
  if (file->storage() != StorageKind::remote) return answer(call, close_a_copy(file->fd.get()));
  pool().submit([moved = std::move(call), file]() mutable { answer(moved, close_a_copy(file->fd.get())); });
}

void PassthroughFs::fsync(Call<op::Fsync> call) {
  auto opened = file(call.in.fh);
  if (!opened) return std::move(call.reply).error(opened.error());
  const bool data_only = (call.in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0;
  // In memory there is nothing to wait for.
  if ((*opened)->storage() == StorageKind::memory)
    return answer(call, sync_file((*opened)->fd.get(), data_only));
  pool().submit([moved = std::move(call), file = std::move(*opened), data_only]() mutable {
    answer(moved, sync_file(file->fd.get(), data_only));
  });
}

void PassthroughFs::fsyncdir(Call<op::Fsyncdir> call) {
  auto opened = directory(call.in.fh);
  if (!opened) return std::move(call.reply).error(opened.error());
  pool().submit([moved = std::move(call), directory = std::move(*opened)]() mutable {
    answer(moved, sync_file(directory->fd(), (moved.in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0));
  });
}

void PassthroughFs::fallocate(Call<op::Fallocate> call) {
  if (const auto writable = check_writable(); !writable) return std::move(call.reply).error(writable.error());
  auto opened = file(call.in.fh);
  if (!opened) return std::move(call.reply).error(opened.error());
  const bool kills = kills_privileges(call.header, negotiated().killpriv_v2);
  pool().submit([moved = std::move(call), file = std::move(*opened), kills]() mutable {
    answer(moved, allocate(file->fd.get(), moved.in, kills));
  });
}

void PassthroughFs::lseek(Call<op::Lseek> call) {
  const auto opened = file(call.in.fh);
  if (!opened) return std::move(call.reply).error(opened.error());
  // The kernel knows the rest by itself. The descriptor's own offset, which this moves, is used by nothing.
  if (call.in.whence != SEEK_DATA && call.in.whence != SEEK_HOLE) return std::move(call.reply).error(EINVAL);
  const off_t found =
      ::lseek((*opened)->fd.get(), static_cast<off_t>(call.in.offset), static_cast<int>(call.in.whence));
  if (found < 0) return std::move(call.reply).error(Errno{errno});
  fuse_lseek_out out{};
  out.offset = static_cast<std::uint64_t>(found);
  std::move(call.reply).ok(out);
}

void PassthroughFs::copy_file_range(Call<op::CopyFileRange> call) {
  const auto writable = check_writable();
  if (!writable) return std::move(call.reply).error(writable.error());
  const std::uint64_t length = std::min<std::uint64_t>(call.in.len, kMostIn32Bits);
  const bool kills = kills_privileges(call.header, negotiated().killpriv_v2);
  start_copy(pool(), call, file(call.in.fh_in), file(call.in.fh_out), length, kills);
}

void PassthroughFs::copy_file_range_64(Call<op::CopyFileRange64> call) {
  const auto writable = check_writable();
  if (!writable) return std::move(call.reply).error(writable.error());
  const bool kills = kills_privileges(call.header, negotiated().killpriv_v2);
  start_copy(pool(), call, file(call.in.fh_in), file(call.in.fh_out), call.in.len, kills);
}

}  // namespace fusewire::passthrough
