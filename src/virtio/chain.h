// Chain: one request as the driver laid it out, translated to host memory: first what the device reads, then
// what it writes (virtio 1.2, 2.7.4.2). SplitQueue::pop fills it; reuse one and its storage stops growing.
//
// The ranges point into guest memory and stay good as long as the MemoryMap they were translated with.
// Nothing may be inferred from how the bytes are cut into ranges (2.7.4.1), and the guest may rewrite them at
// any time.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fusewire::virtio {

struct Chain {
  // Ranges and bytes that one chain may have. The second is below 2^32, as 2.7.5.2 has it.
  static constexpr std::size_t kMaxRanges = 32768;
  static constexpr std::uint64_t kMaxBytes = 0xffff'ffff;

  std::uint16_t head = 0;  // What push_used() takes to return the chain.
  std::vector<iovec> readable;
  std::vector<iovec> writable;
  std::size_t readable_size = 0;  // Bytes in each list.
  std::size_t writable_size = 0;

  void clear() {
    head = 0;
    readable.clear();
    writable.clear();
    readable_size = 0;
    writable_size = 0;
  }
};

}  // namespace fusewire::virtio
