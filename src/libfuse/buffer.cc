// fuse_bufvec: sizes, and copies between memory and descriptors, with splice(2) where both are descriptors.
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

#include "fuse3/fuse_common.h"

namespace {

constexpr std::size_t kUnlimited = std::numeric_limits<std::size_t>::max();

// A transfer that succeeded in part counts as a success of that part.
ssize_t outcome(std::size_t copied) { return copied != 0 ? static_cast<ssize_t>(copied) : -errno; }

// Where a member stands, `off` bytes into it.
struct Place {
  const fuse_buf& buf;
  std::size_t off;

  bool is_fd() const { return (buf.flags & FUSE_BUF_IS_FD) != 0; }
  bool seeks() const { return (buf.flags & FUSE_BUF_FD_SEEK) != 0; }
  bool retries() const { return (buf.flags & FUSE_BUF_FD_RETRY) != 0; }
  off_t position() const { return buf.pos + static_cast<off_t>(off); }
  char* memory() const { return static_cast<char*>(buf.mem) + off; }
  // One system call; -1 with errno, 0 at end of file.
  ssize_t read(char* to, std::size_t len, std::size_t done) const {
    return seeks() ? pread(buf.fd, to, len, position() + static_cast<off_t>(done)) : ::read(buf.fd, to, len);
  }
  ssize_t write(const char* from, std::size_t len, std::size_t done) const {
    return seeks() ? pwrite(buf.fd, from, len, position() + static_cast<off_t>(done))
                   : ::write(buf.fd, from, len);
  }
};

ssize_t memory_to_fd(const Place& dst, const Place& src, std::size_t len) {
  std::size_t copied = 0;
  while (copied < len) {
    const ssize_t n = dst.write(src.memory() + copied, len - copied, copied);
    if (n < 0) return outcome(copied);
    copied += static_cast<std::size_t>(n);
    if (n == 0 || !dst.retries()) break;
  }
  return static_cast<ssize_t>(copied);
}

ssize_t fd_to_memory(const Place& dst, const Place& src, std::size_t len) {
  std::size_t copied = 0;
  while (copied < len) {
    const ssize_t n = src.read(dst.memory() + copied, len - copied, copied);
    if (n < 0) return outcome(copied);
    copied += static_cast<std::size_t>(n);
    if (n == 0 || !src.retries()) break;
  }
  return static_cast<ssize_t>(copied);
}

ssize_t fd_to_fd_by_copy(const Place& dst, const Place& src, std::size_t len) {
  std::array<char, 32 * 1024> block;
  std::size_t copied = 0;
  while (copied < len) {
    const std::size_t want = std::min(block.size(), len - copied);
    const ssize_t got = src.read(block.data(), want, copied);
    if (got < 0) return outcome(copied);
    // What was read is written whole: a source that cannot seek would lose the rest.
    for (ssize_t written = 0; written < got;) {
      const ssize_t n = dst.write(block.data() + written, static_cast<std::size_t>(got - written), copied);
      if (n < 0) return outcome(copied);
      if (n == 0) return static_cast<ssize_t>(copied);
      written += n;
      copied += static_cast<std::size_t>(n);
    }
    if (got == 0 || (static_cast<std::size_t>(got) < want && !src.retries())) break;
  }
  return static_cast<ssize_t>(copied);
}

ssize_t fd_to_fd(const Place& dst, const Place& src, std::size_t len, fuse_buf_copy_flags flags) {
  if ((flags & FUSE_BUF_NO_SPLICE) != 0) return fd_to_fd_by_copy(dst, src, len);
  unsigned int splice_flags = 0;
  if ((flags & FUSE_BUF_SPLICE_MOVE) != 0) splice_flags |= SPLICE_F_MOVE;
  if ((flags & FUSE_BUF_SPLICE_NONBLOCK) != 0) splice_flags |= SPLICE_F_NONBLOCK;
  off_t src_at = src.position();
  off_t dst_at = dst.position();
  std::size_t copied = 0;
  while (copied < len) {
    const ssize_t n = splice(src.buf.fd, src.seeks() ? &src_at : nullptr, dst.buf.fd,
                             dst.seeks() ? &dst_at : nullptr, len - copied, splice_flags);
    if (n < 0) {
      // Neither is a pipe, or one of the files has no splice.
      if (copied == 0 && errno == EINVAL && (flags & FUSE_BUF_FORCE_SPLICE) == 0)
        return fd_to_fd_by_copy(dst, src, len);
      return outcome(copied);
    }
    copied += static_cast<std::size_t>(n);
    if (n == 0 || (!src.retries() && !dst.retries())) break;
  }
  return static_cast<ssize_t>(copied);
}

ssize_t copy_piece(const Place& dst, const Place& src, std::size_t len, fuse_buf_copy_flags flags) {
  if (src.is_fd()) return dst.is_fd() ? fd_to_fd(dst, src, len, flags) : fd_to_memory(dst, src, len);
  if (dst.is_fd()) return memory_to_fd(dst, src, len);
  if (dst.memory() != src.memory()) std::memcpy(dst.memory(), src.memory(), len);
  return static_cast<ssize_t>(len);
}

// Skips members that are used up; false when there is nothing left.
bool settle(fuse_bufvec& vec) {
  // SAFETY: `buf` is declared with one member and followed by the others; idx < count keeps within them.
  while (vec.idx < vec.count && vec.off >= (vec.buf + vec.idx)->size) {
    ++vec.idx;
    vec.off = 0;
  }
  return vec.idx < vec.count;
}

}  // namespace

extern "C" {

size_t fuse_buf_size(const fuse_bufvec* bufv) {
  std::size_t total = 0;
  for (std::size_t i = 0; i < bufv->count; ++i) {
    const std::size_t size = (bufv->buf + i)->size;
    if (size > kUnlimited - total) return kUnlimited;
    total += size;
  }
  return total;
}

ssize_t fuse_buf_copy(fuse_bufvec* dst, fuse_bufvec* src, fuse_buf_copy_flags flags) {
  if (dst == src) return static_cast<ssize_t>(fuse_buf_size(dst));
  ssize_t total = 0;
  while (settle(*dst) && settle(*src)) {
    const Place to{dst->buf[dst->idx], dst->off};
    const Place from{src->buf[src->idx], src->off};
    const std::size_t len = std::min(to.buf.size - to.off, from.buf.size - from.off);
    const ssize_t n = copy_piece(to, from, len, flags);
    if (n < 0) return total != 0 ? total : n;
    total += n;
    src->off += static_cast<std::size_t>(n);
    dst->off += static_cast<std::size_t>(n);
    if (static_cast<std::size_t>(n) < len) break;
  }
  return total;
}

}  // extern "C"
