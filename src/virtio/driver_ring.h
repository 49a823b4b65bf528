// What a driver's virtqueue of either kind is made with and gives back. Plain data for SplitDriverQueue,
// PackedDriverQueue and those who use them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "guestmem/guest_address.h"

namespace fusewire::virtio {

// One descriptor's worth of guest memory.
struct GuestBuffer {
  guestmem::GuestAddress address;
  std::uint32_t length = 0;
};

struct DriverOptions {
  bool event_idx = false;
  // Entries of each chain's indirect table; 0: only direct chains. A chain of one buffer, or of more buffers
  // than this, goes direct.
  unsigned indirect_entries = 0;
  // How far the ring has come before it begins, so that tests can watch it wrap.
  std::uint16_t initial_index = 0;
  bool packed = false;
};

// A chain that came back.
struct UsedChain {
  std::uint64_t cookie = 0;
  std::uint32_t length = 0;
};

// The parts of a queue's memory lie on cache lines of their own.
constexpr std::size_t on_next_cache_line(std::size_t offset) { return (offset + 63) & ~std::size_t{63}; }

}  // namespace fusewire::virtio
