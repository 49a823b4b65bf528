#include "io/blocking.h"

#include <sys/uio.h>

#include <cerrno>

namespace fusewire::io {

namespace {

// `Transfer` is preadv2 or pwritev2; `at_end` is what a call that moves nothing means.
template <class Transfer>
Progress transfer_at(Transfer transfer, int fd, IoVecs& list, std::uint64_t offset, int flags, int at_end) {
  Progress progress;
  if (!is_file_range(offset, list.size())) return {.done = 0, .error = EINVAL};
  while (!list.empty()) {
    const auto parts = list.head();
    const ssize_t moved = transfer(fd, parts.data(), static_cast<int>(parts.size()),
                                   static_cast<off_t>(offset + progress.done), flags);
    if (moved < 0) {
      if (errno == EINTR) continue;
      progress.error = errno;
      break;
    }
    if (moved == 0) {
      progress.error = at_end;
      break;
    }
    list.drop_front(static_cast<std::size_t>(moved));
    progress.done += static_cast<std::size_t>(moved);
  }
  return progress;
}

}  // namespace

Progress read_at(int fd, IoVecs& to, std::uint64_t offset, int flags) {
  return transfer_at(::preadv2, fd, to, offset, flags, 0);
}

Progress write_at(int fd, IoVecs& from, std::uint64_t offset, int flags) {
  return transfer_at(::pwritev2, fd, from, offset, flags, EIO);
}

}  // namespace fusewire::io
