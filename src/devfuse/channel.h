// Channel: one connection to the kernel's FUSE file system over /dev/fuse. Whole requests come out of it,
// whole replies go into it (fs/fuse/dev.c).
//
// Each thread has a channel of its own: the first belongs to the mount, clone() makes the others. A reply
// goes into the channel that the request came from; the kernel looks nowhere else for it. Never blocks. When
// the last channel of a mount is closed, the kernel answers what is still open with ECONNABORTED and every
// later request with ENOTCONN.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"

namespace fusewire::devfuse {

class Channel {
 public:
  // The least room for a request, whatever its size (FUSE_MIN_READ_BUFFER); with a max_write above this, the
  // room has to hold fuse_in_header, fuse_write_in and max_write bytes.
  static constexpr std::size_t kLeastRoom = 8192;

  // A channel without a mount yet. Errors: those of open(2) on /dev/fuse.
  static Result<Channel> open();
  // Whether an open descriptor is a /dev/fuse at all.
  static bool is_device(int fd);
  // Takes what fusermount3, or somebody else, has opened and mounted: a /dev/fuse.
  static Result<Channel> adopt(UniqueFd fd);
  // Another channel of the same mount (FUSE_DEV_IOC_CLONE).
  Result<Channel> clone() const;

  int fd() const { return fd_.get(); }

  // Whether the mount is there, in use at least, and its connection not aborted.
  bool is_connected() const;

  // Takes the next request into `room`, and returns its size. Errors: EAGAIN when there is none, ENODEV when
  // the file system is unmounted or the connection was aborted.
  Result<std::size_t> read(std::span<std::byte> room) const;

  // Sends one reply, fuse_out_header first, in at most UIO_MAXIOV pieces. Errors: ENOENT when the request is
  // no longer waited for (it was aborted), EINVAL when the kernel rejects the reply, which it has then
  // answered with EIO itself, ENODEV and EPERM as the mount has gone.
  Result<void> write(std::span<const iovec> reply) const;

 private:
  explicit Channel(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace fusewire::devfuse
