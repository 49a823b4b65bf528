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
// kernel knows yet never do. `writeback`: the guest's kernel reads around partial writes, so it needs a
// readable file, and knows where the file ends, so that O_APPEND would put its pages in the wrong place.
inline int host_open_flags(std::uint32_t guest_flags, const Config& config, bool writeback) {
  std::uint32_t kept = O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC | O_LARGEFILE;
  if (config.allow_direct_io) kept |= O_DIRECT;
  if (config.preserve_noatime) kept |= O_NOATIME;
  std::uint32_t flags = guest_flags & kept;
  if (writeback) {
    if ((flags & O_ACCMODE) == O_WRONLY) flags = (flags & ~std::uint32_t{O_ACCMODE}) | O_RDWR;
    flags &= ~std::uint32_t{O_APPEND};
  }
  return static_cast<int>(flags);
}

}  // namespace fusewire::passthrough
