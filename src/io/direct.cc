#include "io/direct.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <span>

namespace fusewire::io {

namespace {

// More than any device asks for, up to the page size.
constexpr std::size_t kAlignment = 4096;

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using AlignedBuffer = std::unique_ptr<std::byte[], Free>;

AlignedBuffer make_buffer(std::size_t size) {
  const std::size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
  return AlignedBuffer(static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded)));
}

// One transfer, after signals: the bytes moved, or a negative errno.
template <class Transfer>
ssize_t once(Transfer transfer, int fd, std::span<const iovec> parts, std::uint64_t offset, int flags) {
  for (;;) {
    const ssize_t moved =
        transfer(fd, parts.data(), static_cast<int>(parts.size()), static_cast<off_t>(offset), flags);
    if (moved >= 0) return moved;
    if (errno != EINTR) return -errno;
  }
}

ssize_t read_bounced(int fd, const IoVecs& to, std::span<std::byte> buffer, std::uint64_t offset) {
  const iovec part = {buffer.data(), std::min(to.size(), buffer.size())};
  const ssize_t moved = once(::preadv2, fd, {&part, 1}, offset, 0);
  if (moved > 0) to.copy_from(buffer.first(static_cast<std::size_t>(moved)));
  return moved;
}

ssize_t write_bounced(int fd, const IoVecs& from, std::span<std::byte> buffer, std::uint64_t offset,
                      int flags) {
  const iovec part = {buffer.data(), from.copy_to(buffer)};
  return once(::pwritev2, fd, {&part, 1}, offset, flags);
}

// `direct(offset)` and `bounced(buffer, offset)` move bytes at the front of `list`. `at_end`: what moving
// nothing means.
template <class Direct, class Bounced>
Progress transfer(IoVecs& list, std::uint64_t offset, int at_end, const Direct& direct,
                  const Bounced& bounced) {
  Progress progress;
  if (!is_file_range(offset, list.size())) return {.done = 0, .error = EINVAL};
  AlignedBuffer buffer;
  std::size_t buffer_size = 0;
  while (!list.empty()) {
    const std::uint64_t at = offset + progress.done;
    const ssize_t moved = buffer ? bounced(std::span(buffer.get(), buffer_size), at) : direct(at);
    if (moved == -EINVAL && !buffer) {
      buffer_size = std::min(list.size(), kBounceSize);
      buffer = make_buffer(buffer_size);
      if (!buffer) return {.done = progress.done, .error = ENOMEM};
      continue;
    }
    if (moved <= 0) {
      progress.error = moved == 0 ? at_end : static_cast<int>(-moved);
      break;
    }
    list.drop_front(static_cast<std::size_t>(moved));
    progress.done += static_cast<std::size_t>(moved);
    // An offset inside of a block would be refused.
    if (static_cast<std::size_t>(moved) % kLeastBlock != 0) break;
  }
  return progress;
}

}  // namespace

Progress read_direct_at(int fd, IoVecs& to, std::uint64_t offset) {
  return transfer(
      to, offset, 0, [&](std::uint64_t at) { return once(::preadv2, fd, to.head(), at, 0); },
      [&](std::span<std::byte> buffer, std::uint64_t at) { return read_bounced(fd, to, buffer, at); });
}

Progress write_direct_at(int fd, IoVecs& from, std::uint64_t offset, int flags) {
  return transfer(
      from, offset, EIO, [&](std::uint64_t at) { return once(::pwritev2, fd, from.head(), at, flags); },
      [&](std::span<std::byte> buffer, std::uint64_t at) {
        return write_bounced(fd, from, buffer, at, flags);
      });
}

}  // namespace fusewire::io
