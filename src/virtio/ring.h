// What a virtqueue of either kind, split (virtio 1.2, 2.7) or packed (2.8), is set up with, and what taking a
// chain from it can give. Plain data for SplitQueue, PackedQueue and those who start them.
#pragma once

#include <bit>
#include <cstdint>

#include "guestmem/guest_address.h"
#include "virtio/features.h"

namespace fusewire::virtio {

// Where a ring lies and where it goes on, as the front-end says (SET_VRING_NUM, _ADDR, _BASE). Addresses are
// those of the front-end's own address space, except for the log's.
struct RingSetup {
  unsigned size = 0;
  std::uint64_t desc_user_addr = 0;   // Descriptor table; packed: descriptor ring.
  std::uint64_t avail_user_addr = 0;  // Available ring; packed: driver event suppression.
  std::uint64_t used_user_addr = 0;   // Used ring; packed: device event suppression.
  // Split: the next entry of the available ring. Packed: the next descriptor to take in the low half, the
  // next to write as used in the high half, each with its wrap counter in bit 15 (vhost-user, "Vring
  // descriptor indices for packed virtqueues").
  std::uint32_t base = 0;
  bool log_used = false;                  // Writes to the ring go into the dirty log,
  guestmem::GuestAddress log_guest_addr;  // split: as if the used ring lay here.
  friend bool operator==(const RingSetup&, const RingSetup&) = default;
};

struct QueueOptions {
  bool event_idx = false;  // kEventIdx was negotiated,
  bool indirect = false;   // kIndirectDesc was,
  bool packed = false;     // kRingPacked was.
};

// 2.7: a power of two, and one descriptor is of no use to anybody; 2.8.10.1: any size.
constexpr bool valid_ring_size(std::uint32_t size, bool packed) {
  if (size > kMaxRingSize) return false;
  return packed ? size >= 1 : size >= 2 && std::has_single_bit(size);
}

enum class Pop {
  nothing,    // The driver has offered no further chain.
  chain,      // `chain` holds one.
  malformed,  // A chain came, but breaks the rules; only chain.id is good: push_used(chain.id, 0) returns it.
  broken,     // The ring itself makes no sense; the queue gives nothing more from now on.
};

}  // namespace fusewire::virtio
