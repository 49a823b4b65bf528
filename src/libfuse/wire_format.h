// What C file systems give us as the protocol has it, beside what answers.h knows (attr_of, statfs_of).
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>

#include "fusewire/answers.h"
#include "libfuse/api.h"

namespace fusewire::libfuse {

// A timeout in seconds, cut in two as the protocol wants it.
struct Timeout {
  std::uint64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
  explicit Timeout(double timeout) {
    if (!(timeout > 0)) return;
    static constexpr double kLongest = 9e18;
    seconds = static_cast<std::uint64_t>(std::min(timeout, kLongest));
    const double fraction = timeout - static_cast<double>(seconds);
    nanoseconds = static_cast<std::uint32_t>(std::clamp(fraction * 1e9, 0.0, 999999999.0));
  }
};

// `attr_flags`: FUSE_ATTR_*.
inline fuse_entry_out entry_of(const fuse_entry_param& entry, std::uint32_t attr_flags = 0) {
  const Timeout entry_timeout(entry.entry_timeout);
  const Timeout attr_timeout(entry.attr_timeout);
  fuse_entry_out out{};
  out.nodeid = entry.ino;
  out.generation = entry.generation;
  out.entry_valid = entry_timeout.seconds;
  out.entry_valid_nsec = entry_timeout.nanoseconds;
  out.attr_valid = attr_timeout.seconds;
  out.attr_valid_nsec = attr_timeout.nanoseconds;
  out.attr = attr_of(entry.attr);
  out.attr.flags = attr_flags;
  return out;
}

// `backing`: the file system asked for FUSE_CAP_PASSTHROUGH, so that it knows backing_id.
inline fuse_open_out open_of(const fuse_file_info& file, bool backing) {
  fuse_open_out out{};
  if (backing && file.backing_id > 0) set_backing_file(out, static_cast<std::uint32_t>(file.backing_id));
  out.fh = file.fh;
  if (file.direct_io) out.open_flags |= FOPEN_DIRECT_IO;
  if (file.keep_cache) out.open_flags |= FOPEN_KEEP_CACHE;
  if (file.cache_readdir) out.open_flags |= FOPEN_CACHE_DIR;
  if (file.nonseekable) out.open_flags |= FOPEN_NONSEEKABLE;
  if (file.noflush) out.open_flags |= FOPEN_NOFLUSH;
  if (file.parallel_direct_writes) out.open_flags |= FOPEN_PARALLEL_DIRECT_WRITES;
  return out;
}

// The mode's file type as directory entries have it.
inline std::uint32_t type_of(mode_t mode) { return (mode & S_IFMT) >> 12; }

}  // namespace fusewire::libfuse
