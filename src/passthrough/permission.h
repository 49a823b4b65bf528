// access(2)'s decision from owner, group and mode bits alone: all that a request tells us of its sender. ACLs
// and the sender's other groups are left out, and the guest's root is all-powerful, as it is in the guest.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>

#include "fusewire/wire.h"

namespace fusewire::passthrough {

// `mask`: R_OK, W_OK and X_OK.
inline bool is_allowed(const struct statx& stat, GuestUid uid, GuestGid gid, std::uint32_t mask) {
  if (uid.get() == 0) return (mask & X_OK) == 0 || S_ISDIR(stat.stx_mode) || (stat.stx_mode & 0111) != 0;
  const int shift = uid.get() == stat.stx_uid ? 6 : gid.get() == stat.stx_gid ? 3 : 0;
  return ((stat.stx_mode >> shift) & mask) == mask;
}

}  // namespace fusewire::passthrough
