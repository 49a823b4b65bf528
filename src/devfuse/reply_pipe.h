// ReplyPipe: the pipe through which part of a file becomes a reply without passing through our memory
// (splice(2) into /dev/fuse). One for each thread; used by that thread only, and empty between two replies.
#pragma once

#include <cstddef>
#include <span>

#include "fusewire/result.h"
#include "fusewire/slot.h"
#include "fusewire/unique_fd.h"

namespace fusewire::devfuse {

class ReplyPipe {
 public:
  // This thread's; null when there can be none (descriptors or pipe pages ran out).
  static ReplyPipe* of_this_thread();

  // Whether a header and `size` bytes of a file find room at any alignment.
  bool fits(std::size_t size) const;
  // Puts the header and then up to range.size bytes of the file in. Returns how many bytes of the file there
  // are now: fewer than asked for where the file ends or the pipe is full. An error leaves it empty.
  Result<std::size_t> fill(std::span<const std::byte> header, const FileRange& range);
  // Moves all `size` bytes into /dev/fuse. Returns 0 or the kernel's errno; the pipe is empty after both.
  int send(int fuse_fd, std::size_t size);
  // Takes `skip` bytes out and drops them, and then `to.size()` bytes into `to`.
  Result<void> drain(std::size_t skip, std::span<std::byte> to);

 private:
  bool open();
  void close();

  UniqueFd read_end_, write_end_;
  std::size_t pages_ = 0;
};

}  // namespace fusewire::devfuse
