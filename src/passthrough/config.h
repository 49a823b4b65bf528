// What a person can choose about a shared directory. The daemon's command line fills it (src/daemon/options.h
// says with which option); every default here is the daemon's default.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace fusewire::passthrough {

// How long the guest may trust what it has cached, and whether it caches file data at all.
enum class CachePolicy {
  never,      // nothing cached, direct I/O
  metadata,   // names and attributes cached for long, direct I/O
  automatic,  // one second, page cache kept until the file changes
  always,     // a day, page cache kept over opens
};

// What keeps a known inode reachable.
enum class FileHandleMode {
  automatic,  // an O_PATH descriptor while there are plenty, a file handle beyond that where those last
  never,      // an open O_PATH descriptor for each
  prefer,     // a file handle (name_to_handle_at) where the file system has them, else a descriptor
  mandatory,  // a file handle; an inode that has none cannot be looked up (EOPNOTSUPP)
};

struct Config {
  std::string shared_directory;

  CachePolicy cache = CachePolicy::automatic;
  // Overrides the time that `cache` implies for names and attributes.
  std::optional<std::chrono::duration<double>> timeout;
  bool writeback = false;        // FUSE_WRITEBACK_CACHE
  bool readdirplus = true;       // FUSE_DO_READDIRPLUS and its automatic mode
  bool allow_direct_io = false;  // honour the guest's O_DIRECT on the host
  bool allow_mmap =
      false;  // FUSE_DIRECT_IO_ALLOW_MMAP: shared mappings although the cache policy is direct I/O
  // The kernel reads and writes regular files itself (fusewire/backing_file.h), where it can: on a mount of
  // this host by a process with CAP_SYS_ADMIN. Never over virtio, so that the daemon has no option for it.
  // The host then honours O_DIRECT in any case, and every write clears set-user-ID bits, also one by root.
  bool backing_files = false;      // excludes writeback
  bool announce_submounts = true;  // FUSE_SUBMOUNTS
  FileHandleMode file_handles = FileHandleMode::automatic;

  bool xattr = false;
  bool posix_acl = false;       // needs xattr
  bool security_label = false;  // FUSE_SECURITY_CTX
  bool killpriv_v2 = true;      // FUSE_HANDLE_KILLPRIV_V2 where the kernel has it
  bool posix_lock = false;      // record locks reach the host
  bool flock = false;           // flock(2) locks reach the host
  bool preserve_noatime = false;
  bool readonly = false;

  // The most threads that do what may block; 0: everything on the queue's own thread (waiting locks
  // excepted).
  unsigned thread_pool_size = 16;
};

}  // namespace fusewire::passthrough
