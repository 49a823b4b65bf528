// From the open flags that the guest sends to those for the host's open(2).
#pragma once

#include <fcntl.h>

#include <cstdint>

#include "passthrough/config.h"

namespace fusewire::passthrough {

inline bool opens_for_writing(std::uint32_t guest_flags) {
  return (guest_flags & O_ACCMODE) != O_RDONLY || (guest_flags & O_TRUNC) != 0;
}

// Only flags that make sense for a regular file that exists pass; O_CREAT, O_TMPFILE, O_PATH and what no
// kernel knows yet never do. O_APPEND does not either: pages that the guest's kernel writes back, for a
// mapping or its page cache, come through any descriptor of the inode and would all land at the end; WRITE
// appends by itself where it is asked to (data_write.cc). `writeback`: the guest's kernel reads around
// partial writes, so it needs a readable file.
inline int host_open_flags(std::uint32_t guest_flags, const Config& config, bool writeback) {
  std::uint32_t kept = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC;
  if (config.allow_direct_io) kept |= O_DIRECT;
  if (config.preserve_noatime) kept |= O_NOATIME;
  std::uint32_t flags = guest_flags & kept;
  if (writeback && (flags & O_ACCMODE) == O_WRONLY) flags = (flags & ~std::uint32_t{O_ACCMODE}) | O_RDWR;
  return static_cast<int>(flags);
}

}  // namespace fusewire::passthrough
