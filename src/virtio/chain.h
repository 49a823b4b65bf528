// Chain: one request as the driver laid it out, translated to host memory: first what the device reads, then
// what it writes (virtio 1.2, 2.7.4.2 and 2.8.5). DeviceQueue::pop fills it; reuse one and its storage stops
// growing.
//
// The ranges point into guest memory and stay good as long as the MemoryMap they were translated with.
// Nothing may be inferred from how the bytes are cut into ranges (2.7.4.1), and the guest may rewrite them at
// any time.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "guestmem/memory_map.h"

namespace fusewire::virtio {

// What a popped chain is returned by.
struct ChainId {
  std::uint16_t head = 0;         // The first descriptor's index; packed: the buffer id.
  std::uint16_t descriptors = 1;  // Packed: how many of the ring it takes up.
};

struct Chain {
  // Ranges and bytes that one chain may have. The second is below 2^32, as 2.7.5.2 has it.
  static constexpr std::size_t kMaxRanges = 32768;
  static constexpr std::uint64_t kMaxBytes = 0xffff'ffff;

  ChainId id;
  std::vector<iovec> readable;
  std::vector<iovec> writable;
  std::size_t readable_size = 0;  // Bytes in each list.
  std::size_t writable_size = 0;
  bool writable_began = false;  // A writable descriptor came, perhaps of no bytes.

  void clear() {
    readable.clear();
    writable.clear();
    readable_size = 0;
    writable_size = 0;
    writable_began = false;
  }

  // Adds one descriptor's buffer. False when it breaks a rule or lies outside of `map`: then the chain is
  // malformed.
  [[nodiscard]] bool append(guestmem::GuestAddress address, std::uint32_t length, bool is_writable,
                            const guestmem::MemoryMap& map) {
    if (is_writable) {
      writable_began = true;
    } else if (writable_began) {
      return false;  // 2.7.4.2, 2.8.5: what the device reads comes first.
    }
    // 2.7.5.2: at most 2^32 bytes in total; we stop one short of it, so that a used length can tell them all.
    if (length > kMaxBytes - readable_size - writable_size) return false;
    if (!map.translate(address, length, is_writable ? writable : readable)) return false;
    (is_writable ? writable_size : readable_size) += length;
    // 2.7.4.1 lets us have a limit. One descriptor can give several ranges where it crosses regions.
    return readable.size() + writable.size() <= kMaxRanges;
  }
};

}  // namespace fusewire::virtio
