// Transfers for descriptors with O_DIRECT. The host wants memory aligned for its device, but how a guest's
// pages lie and how its list is cut is not the guest process's doing: where the host refuses the list, the
// data goes through an aligned buffer of ours.
//
// Threading: no state. They block: for pool threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fusewire/io_vecs.h"
#include "io/blocking.h"

namespace fusewire::io {

// As read_at() and write_at(). EINVAL is left for offsets and lengths that are misaligned themselves; ENOMEM
// when there is no memory for the buffer.
Progress read_direct_at(int fd, IoVecs& to, std::uint64_t offset);
Progress write_direct_at(int fd, IoVecs& from, std::uint64_t offset, int flags = 0);

// No device has smaller blocks: where a transfer ends inside of one, the file ends.
inline constexpr std::size_t kLeastBlock = 512;

// The most that one call moves through the buffer.
inline constexpr std::size_t kBounceSize = std::size_t{256} * 1024;

}  // namespace fusewire::io
