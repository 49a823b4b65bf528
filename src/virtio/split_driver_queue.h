// SplitDriverQueue: the driver's side of one split virtqueue (virtio 1.2, 2.7.13 and 2.7.14), behind
// DriverQueue, where the methods that the two kinds share are described. Tests may go past it and write
// whatever nonsense they want.
//
// Used by one thread at a time. Lives in memory that somebody else keeps (SharedMemory) and that the device
// sees too; it does not trust the device: see broken().
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "guestmem/shared_memory.h"
#include "virtio/driver_ring.h"
#include "virtio/ring.h"

namespace fusewire::virtio {

class SplitDriverQueue {
 public:
  static std::size_t memory_size(unsigned size, const DriverOptions& options);

  // `size`: power of two, 2..32768.
  SplitDriverQueue(guestmem::SharedMemory::Piece memory, unsigned size, const DriverOptions& options);

  RingSetup setup() const;
  unsigned size() const { return size_; }
  unsigned free_descriptors() const { return static_cast<unsigned>(free_.size()); }

  [[nodiscard]] bool stage(std::span<const GuestBuffer> readable, std::span<const GuestBuffer> writable,
                           std::uint64_t cookie);
  void publish();
  [[nodiscard]] bool kick_needed();
  std::optional<UsedChain> poll_used();
  bool has_used() const;
  bool broken() const { return broken_; }
  unsigned outstanding() const { return outstanding_; }
  std::uint32_t drained_base() const { return avail_index_; }
  void disable_interrupts();
  [[nodiscard]] bool enable_interrupts();

  // Raw access, for malformed rings.

  // Asks for a signal when the used index passes `index` (event index only).
  void set_used_event(std::uint16_t index);
  void write_descriptor(std::uint16_t index, const vring_desc& descriptor);
  // Takes `count` descriptors off the free list for good: their indexes.
  std::vector<std::uint16_t> take_descriptors(unsigned count);
  // Offers whatever begins at descriptor `head`. The chain comes back from poll_used() with its cookie; its
  // descriptors are the caller's affair, and none of them becomes free.
  void offer_raw(std::uint16_t head, std::uint64_t cookie);
  void set_available_index(std::uint16_t index);
  std::uint16_t available_index() const { return avail_index_; }

 private:
  struct Pending {
    std::uint64_t cookie = 0;
    bool offered = false;
    bool raw = false;
  };

  vring_desc* indirect_table(std::uint16_t head) const;

  const unsigned size_;
  const DriverOptions options_;
  const guestmem::SharedMemory::Piece memory_;
  vring_desc* desc_;
  std::uint16_t* avail_;
  std::byte* used_;
  std::byte* tables_;
  std::vector<std::uint16_t> free_;  // Indexes of free descriptors, used as a stack.
  std::vector<std::uint16_t>
      next_;  // Our own copy of each descriptor's `next`: the device's view is not read back.
  std::vector<std::uint16_t> count_;  // Descriptors in the chain with this head.
  std::vector<Pending> pending_;      // By head.
  std::uint16_t avail_index_;         // Staged up to here,
  std::uint16_t published_index_;     // shown to the device up to here,
  std::uint16_t kicked_index_;        // considered for a kick up to here.
  std::uint16_t used_index_;          // The next used element that we take.
  unsigned outstanding_ = 0;
  bool broken_ = false;
};

}  // namespace fusewire::virtio
