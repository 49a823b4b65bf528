// Answers with names: what the structures of the protocol hold, in types that read well. Each converts to its
// structure, so that it goes wherever that one is wanted: std::move(call.reply).ok(OpenAnswer{.direct_io =
// true}).
#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "fusewire/backing_file.h"
#include "fusewire/wire.h"

namespace fusewire {

// How long the kernel may use what it was told without asking again.
using Validity = std::chrono::nanoseconds;
// Until it is told otherwise (Notifier), or runs short of memory.
inline constexpr Validity kForever = std::chrono::hours(24 * 365 * 100);

// What stat(2) says, as the protocol has it; st_dev has no place there.
inline fuse_attr attr_of(const struct stat& stat) {
  fuse_attr attr{};
  attr.ino = stat.st_ino;
  attr.size = static_cast<std::uint64_t>(stat.st_size);
  attr.blocks = static_cast<std::uint64_t>(stat.st_blocks);
  attr.atime = static_cast<std::uint64_t>(stat.st_atim.tv_sec);
  attr.mtime = static_cast<std::uint64_t>(stat.st_mtim.tv_sec);
  attr.ctime = static_cast<std::uint64_t>(stat.st_ctim.tv_sec);
  attr.atimensec = static_cast<std::uint32_t>(stat.st_atim.tv_nsec);
  attr.mtimensec = static_cast<std::uint32_t>(stat.st_mtim.tv_nsec);
  attr.ctimensec = static_cast<std::uint32_t>(stat.st_ctim.tv_nsec);
  attr.mode = stat.st_mode;
  attr.nlink = static_cast<std::uint32_t>(stat.st_nlink);
  attr.uid = stat.st_uid;
  attr.gid = stat.st_gid;
  // glibc's dev_t has 12 bits of the major number above 8 of the minor and the rest of the minor above those:
  // for numbers that Linux has, that is the protocol's layout (new_encode_dev() in the kernel).
  attr.rdev = static_cast<std::uint32_t>(stat.st_rdev);
  attr.blksize = static_cast<std::uint32_t>(stat.st_blksize);
  return attr;
}

// What statvfs(3) says, as the protocol has it, for STATFS.
inline fuse_kstatfs statfs_of(const struct statvfs& stat) {
  fuse_kstatfs out{};
  out.blocks = stat.f_blocks;
  out.bfree = stat.f_bfree;
  out.bavail = stat.f_bavail;
  out.files = stat.f_files;
  out.ffree = stat.f_ffree;
  out.bsize = static_cast<std::uint32_t>(stat.f_bsize);
  out.namelen = static_cast<std::uint32_t>(stat.f_namemax);
  out.frsize = static_cast<std::uint32_t>(stat.f_frsize);
  return out;
}

// GETATTR and SETATTR: struct fuse_attr_out.
struct AttrAnswer {
  fuse_attr attr{};
  Validity attr_valid{};

  operator fuse_attr_out() const {  // NOLINT(google-explicit-constructor)
    fuse_attr_out out{};
    const auto seconds = std::chrono::floor<std::chrono::seconds>(attr_valid);
    out.attr_valid = static_cast<std::uint64_t>(seconds.count());
    out.attr_valid_nsec = static_cast<std::uint32_t>((attr_valid - seconds).count());
    out.attr = attr;
    return out;
  }
};

// LOOKUP and whatever makes an entry: struct fuse_entry_out.
struct EntryAnswer {
  // kRootNode or another number that the file system knows again; 0 (LOOKUP only): there is no such entry,
  // and the kernel may remember that for entry_valid.
  NodeId node{};
  std::uint64_t generation = 0;  // with `node`, never the same for two files
  fuse_attr attr{};
  Validity entry_valid{};  // for the name
  Validity attr_valid{};   // for the attributes

  operator fuse_entry_out() const {  // NOLINT(google-explicit-constructor)
    fuse_entry_out out{};
    out.nodeid = node.get();
    out.generation = generation;
    const auto name_seconds = std::chrono::floor<std::chrono::seconds>(entry_valid);
    out.entry_valid = static_cast<std::uint64_t>(name_seconds.count());
    out.entry_valid_nsec = static_cast<std::uint32_t>((entry_valid - name_seconds).count());
    const fuse_attr_out attributes = AttrAnswer{.attr = attr, .attr_valid = attr_valid};
    out.attr_valid = attributes.attr_valid;
    out.attr_valid_nsec = attributes.attr_valid_nsec;
    out.attr = attr;
    return out;
  }
};

// OPEN and OPENDIR: struct fuse_open_out with FOPEN_* as names.
struct OpenAnswer {
  FileHandle handle{};
  bool direct_io = false;               // each read and write comes here; sizes need not be known
  bool keep_cache = false;              // what the kernel has cached of the file is still right
  bool nonseekable = false;             // lseek(2) fails with ESPIPE
  bool cache_directory = false;         // the kernel may keep what READDIR said
  bool stream = false;                  // no position at all, as a pipe
  bool no_flush = false;                // close(2) need not send FLUSH
  bool parallel_direct_writes = false;  // direct writes to the file may come at the same time

  operator fuse_open_out() const {  // NOLINT(google-explicit-constructor)
    fuse_open_out out{};
    out.fh = handle.get();
    const auto flag = [&out](bool set, std::uint32_t bit) { out.open_flags |= set ? bit : 0; };
    flag(direct_io, FOPEN_DIRECT_IO);
    flag(keep_cache, FOPEN_KEEP_CACHE);
    flag(nonseekable, FOPEN_NONSEEKABLE);
    flag(cache_directory, FOPEN_CACHE_DIR);
    flag(stream, FOPEN_STREAM);
    flag(no_flush, FOPEN_NOFLUSH);
    flag(parallel_direct_writes, FOPEN_PARALLEL_DIRECT_WRITES);
    return out;
  }
};

// CREATE and TMPFILE.
struct CreateAnswer {
  EntryAnswer entry;
  OpenAnswer open;

  operator CreateOut() const {
    return {.entry = entry, .open = open};
  }  // NOLINT(google-explicit-constructor)
};

// OPEN of a file that the kernel reads and writes itself; see backing_file.h. It has those flags only with
// which the kernel takes one.
struct BackedOpenAnswer {
  FileHandle handle{};
  const BackingFile& file;  // of this node; to be kept until RELEASE of the handle
  bool no_flush = false;    // close(2) need not send FLUSH

  operator fuse_open_out() const {  // NOLINT(google-explicit-constructor)
    fuse_open_out out = OpenAnswer{.handle = handle, .no_flush = no_flush};
    set_backing_file(out, file.id());
    return out;
  }
};

// The same for CREATE and TMPFILE.
struct BackedCreateAnswer {
  EntryAnswer entry;
  BackedOpenAnswer open;

  operator CreateOut() const {
    return {.entry = entry, .open = open};
  }  // NOLINT(google-explicit-constructor)
};

// IOCTL: what ioctl(2) returns, and the bytes for its caller.
struct IoctlAnswer {
  std::int32_t result = 0;
  std::vector<std::byte> data;
};

}  // namespace fusewire
