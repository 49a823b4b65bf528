// Record locks: struct fuse_file_lock on the wire, struct flock for fcntl(2).
#pragma once

#include <fcntl.h>

#include <cstdint>
#include <limits>

#include "fusewire/result.h"
#include "fusewire/wire.h"

namespace fusewire::passthrough {

// OFFSET_MAX: as the end of a lock it means "however long the file gets".
inline constexpr auto kLastOffset = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());

// Errors: EINVAL for a range or a type that no kernel sends.
inline Result<struct flock> flock_of(const fuse_file_lock& lock) {
  if (lock.type != F_RDLCK && lock.type != F_WRLCK && lock.type != F_UNLCK) return fail(EINVAL);
  if (lock.end > kLastOffset || lock.start > lock.end) return fail(EINVAL);
  struct flock host = {};  // l_pid must be 0 for F_OFD_*
  host.l_type = static_cast<short>(lock.type);
  host.l_whence = SEEK_SET;
  host.l_start = static_cast<off_t>(lock.start);
  // A length of 0 means "to the end". The sum cannot overflow: the end is not the last offset.
  host.l_len = lock.end == kLastOffset ? 0 : static_cast<off_t>(lock.end - lock.start + 1);
  return host;
}

// What F_OFD_GETLK filled in. Locks of open file descriptions have no process (-1): 0.
inline fuse_file_lock file_lock_of(const struct flock& host) {
  fuse_file_lock lock{};
  lock.type = static_cast<std::uint32_t>(host.l_type);
  if (host.l_type == F_UNLCK) return lock;
  lock.start = static_cast<std::uint64_t>(host.l_start);
  lock.end = host.l_len == 0 ? kLastOffset : lock.start + static_cast<std::uint64_t>(host.l_len) - 1;
  lock.pid = host.l_pid > 0 ? static_cast<std::uint32_t>(host.l_pid) : 0;
  return lock;
}

}  // namespace fusewire::passthrough
