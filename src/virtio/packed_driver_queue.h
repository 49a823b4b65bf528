// PackedDriverQueue: the driver's side of one packed virtqueue (virtio 1.2, 2.8.21 and 2.8.22), behind
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
#include "virtio/packed_ring.h"
#include "virtio/ring.h"

namespace fusewire::virtio {

class PackedDriverQueue {
 public:
  static std::size_t memory_size(unsigned size, const DriverOptions& options);

  // `size`: 1..32768.
  PackedDriverQueue(guestmem::SharedMemory::Piece memory, unsigned size, const DriverOptions& options);

  RingSetup setup() const;
  unsigned size() const { return size_; }
  unsigned free_descriptors() const { return free_descriptors_; }

  [[nodiscard]] bool stage(std::span<const GuestBuffer> readable, std::span<const GuestBuffer> writable,
                           std::uint64_t cookie);
  void publish();
  [[nodiscard]] bool kick_needed();
  std::optional<UsedChain> poll_used();
  bool has_used() const;
  bool broken() const { return broken_; }
  unsigned outstanding() const { return outstanding_; }
  std::uint32_t drained_base() const {
    return next_avail_.word() | static_cast<std::uint32_t>(next_avail_.word()) << 16;
  }
  void disable_interrupts();
  [[nodiscard]] bool enable_interrupts();

  // Raw access, for malformed rings.

  // Offers the descriptors as they are but for AVAIL and USED, which are set as the ring's turn wants, and
  // the last one's id, which is chosen here and returned. CHECKs that there is room. The chain comes back
  // from poll_used() with its cookie.
  std::uint16_t offer_raw(std::span<const vring_packed_desc> descriptors, std::uint64_t cookie);
  // Overwrites the descriptor at `index`, flags last.
  void write_descriptor(std::uint16_t index, const vring_packed_desc& descriptor);
  vring_packed_desc read_descriptor(std::uint16_t index) const;
  // The next descriptors to be offered and to come back.
  PackedPosition next_avail() const { return next_avail_; }
  PackedPosition next_used() const { return next_used_; }
  // What we ask of the device (2.8.14), and what it asks of us.
  void set_driver_event(std::uint16_t off_wrap, std::uint16_t flags);
  vring_packed_desc_event device_event() const;

 private:
  struct Pending {
    std::uint64_t cookie = 0;
    unsigned descriptors = 0;  // 0: the device does not have this id.
  };

  std::byte* indirect_table(std::uint16_t id) const;
  // Writes the ring's next descriptor. The flags of the first that is not published yet wait for publish().
  void put(const vring_packed_desc& descriptor);
  void write_but_flags(std::uint16_t index, const vring_packed_desc& descriptor);
  std::uint16_t take_id(unsigned descriptors, std::uint64_t cookie);

  const unsigned size_;
  const DriverOptions options_;
  const guestmem::SharedMemory::Piece memory_;
  std::byte* desc_;
  std::byte* driver_event_;
  std::byte* device_event_;
  std::byte* tables_;
  std::vector<std::uint16_t> free_ids_;  // Used as a stack.
  std::vector<Pending> pending_;         // By id.
  unsigned free_descriptors_;
  PackedPosition next_avail_;
  PackedPosition next_used_;
  PackedPosition first_staged_;    // The first descriptor that the device does not see yet, if there is one,
  std::uint16_t first_flags_ = 0;  // and what its flags will be.
  unsigned staged_descriptors_ = 0;    // Written, not yet published,
  unsigned unkicked_descriptors_ = 0;  // published, not yet considered for a kick; saturates.
  unsigned outstanding_ = 0;
  bool broken_ = false;
};

}  // namespace fusewire::virtio
