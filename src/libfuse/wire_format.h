// What C file systems give us (struct stat and its kin) as the protocol has it.
#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cstdint>

#include "fusewire/wire.h"
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

inline fuse_attr attr_of(const struct stat& st) {
  fuse_attr attr{};
  attr.ino = st.st_ino;
  attr.mode = st.st_mode;
  attr.nlink = static_cast<std::uint32_t>(st.st_nlink);
  attr.uid = st.st_uid;
  attr.gid = st.st_gid;
  attr.rdev = static_cast<std::uint32_t>(st.st_rdev);
  attr.size = static_cast<std::uint64_t>(st.st_size);
  attr.blksize = static_cast<std::uint32_t>(st.st_blksize);
  attr.blocks = static_cast<std::uint64_t>(st.st_blocks);
  attr.atime = static_cast<std::uint64_t>(st.st_atim.tv_sec);
  attr.mtime = static_cast<std::uint64_t>(st.st_mtim.tv_sec);
  attr.ctime = static_cast<std::uint64_t>(st.st_ctim.tv_sec);
  attr.atimensec = static_cast<std::uint32_t>(st.st_atim.tv_nsec);
  attr.mtimensec = static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
  attr.ctimensec = static_cast<std::uint32_t>(st.st_ctim.tv_nsec);
  return attr;
}

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

inline fuse_kstatfs statfs_of(const struct statvfs& st) {
  fuse_kstatfs out{};
  out.bsize = static_cast<std::uint32_t>(st.f_bsize);
  out.frsize = static_cast<std::uint32_t>(st.f_frsize);
  out.blocks = st.f_blocks;
  out.bfree = st.f_bfree;
  out.bavail = st.f_bavail;
  out.files = st.f_files;
  out.ffree = st.f_ffree;
  out.namelen = static_cast<std::uint32_t>(st.f_namemax);
  return out;
}

// The mode's file type as directory entries have it.
inline std::uint32_t type_of(mode_t mode) { return (mode & S_IFMT) >> 12; }

}  // namespace fusewire::libfuse
