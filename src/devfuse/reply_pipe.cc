#include "devfuse/reply_pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace fusewire::devfuse {
namespace {

// Twice the kernel's usual largest reply; where that is not allowed (fs.pipe-max-size), what is.
constexpr int kWantedSizes[] = {2 << 20, 1 << 20, 512 << 10, 256 << 10};

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

ReplyPipe* ReplyPipe::of_this_thread() {
  thread_local ReplyPipe pipe;
  return pipe.read_end_ || pipe.open() ? &pipe : nullptr;
}

bool ReplyPipe::open() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
  read_end_ = UniqueFd(ends[0]);
  write_end_ = UniqueFd(ends[1]);
  for (const int size : kWantedSizes)
    if (fcntl(write_end_.get(), F_SETPIPE_SZ, size) >= 0) break;
  const int size = fcntl(write_end_.get(), F_GETPIPE_SZ);
  pages_ = size > 0 ? static_cast<std::size_t>(size) / page_size() : 0;
  return true;
}

void ReplyPipe::close() {
  read_end_.reset();
  write_end_.reset();
}

bool ReplyPipe::fits(std::size_t size) const {
  // One page for the header, and one more where the range does not begin on a page.
  return size / page_size() + 3 <= pages_;
}

Result<std::size_t> ReplyPipe::fill(std::span<const std::byte> header, const FileRange& range) {
  ssize_t written = 0;
  do written = ::write(write_end_.get(), header.data(), header.size());
  while (written < 0 && errno == EINTR);
  if (written != static_cast<ssize_t>(header.size())) {
    close();
    return fail(EAGAIN);
  }
  loff_t at = range.offset;
  std::size_t filled = 0;
  while (filled < range.size) {
    const ssize_t n = ::splice(range.fd, range.offset < 0 ? nullptr : &at, write_end_.get(), nullptr,
                               range.size - filled, SPLICE_F_NONBLOCK);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && filled == 0) {
      const int error = errno;
      close();  // with the header in it
      return fail(error);
    }
    if (n <= 0) break;
    filled += static_cast<std::size_t>(n);
  }
  return filled;
}

int ReplyPipe::send(int fuse_fd, std::size_t size) {
  ssize_t n = 0;
  // Without SPLICE_F_MOVE, by which the kernel would take pages out of the file's own page cache: who reads
  // the file next would have to wait for the disk.
  do n = ::splice(read_end_.get(), nullptr, fuse_fd, nullptr, size, 0);
  while (n < 0 && errno == EINTR);
  const int error = n < 0 ? errno : 0;
  // A refused reply may have left its bytes.
  if (n != static_cast<ssize_t>(size)) close();
  return error;
}

Result<void> ReplyPipe::drain(std::size_t skip, std::span<std::byte> to) {
  std::array<std::byte, 64> dropped;
  while (skip != 0 || !to.empty()) {
    const bool skipping = skip != 0;
    std::byte* into = skipping ? dropped.data() : to.data();
    const std::size_t size = skipping ? std::min(skip, dropped.size()) : to.size();
    const ssize_t n = ::read(read_end_.get(), into, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      close();
      return fail(EIO);
    }
    if (skipping) {
      skip -= static_cast<std::size_t>(n);
    } else {
      to = to.subspan(static_cast<std::size_t>(n));
    }
  }
  return {};
}

}  // namespace fusewire::devfuse
