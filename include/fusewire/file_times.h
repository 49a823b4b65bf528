// The times in SETATTR as the system has them.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <ctime>

#include "fusewire/wire.h"

namespace fusewire {

inline timespec time_of(std::uint64_t seconds, std::uint32_t nanoseconds) {
  return {.tv_sec = static_cast<time_t>(seconds), .tv_nsec = static_cast<long>(nanoseconds)};
}

// The time of the last access and that of the last change of the content, as utimensat(2) takes them: one
// that is not to be set is UTIME_OMIT, one that is to be the current time is UTIME_NOW.
inline std::array<timespec, 2> times_to_set(const fuse_setattr_in& in) {
  const auto time = [&in](std::uint32_t given, std::uint32_t now, const timespec& value) -> timespec {
    if ((in.valid & now) != 0) return {.tv_sec = 0, .tv_nsec = UTIME_NOW};
    if ((in.valid & given) != 0) return value;
    return {.tv_sec = 0, .tv_nsec = UTIME_OMIT};
  };
  return {time(FATTR_ATIME, FATTR_ATIME_NOW, time_of(in.atime, in.atimensec)),
          time(FATTR_MTIME, FATTR_MTIME_NOW, time_of(in.mtime, in.mtimensec))};
}

}  // namespace fusewire
