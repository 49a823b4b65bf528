// DriverQueue: the driver's side of one split virtqueue (virtio 1.2, 2.7.13 and 2.7.14), for tests and for
// the tools which play a guest. It cuts chains exactly as its caller says, and writes whatever nonsense a
// test asks for.
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
#include "virtio/features.h"
#include "virtio/split_queue.h"

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
  // Where both ring indexes begin, so that tests can watch them wrap.
  std::uint16_t initial_index = 0;
};

class DriverQueue {
 public:
  // A chain that came back.
  struct Used {
    std::uint64_t cookie = 0;
    std::uint32_t length = 0;
  };

  // The bytes that a queue wants from its memory.
  static std::size_t memory_size(unsigned size, const DriverOptions& options);

  // Lays the rings out in `memory`, which is memory_size() zero bytes, 16-aligned. `size`: power of
  // two, 2..32768.
  DriverQueue(guestmem::SharedMemory::Piece memory, unsigned size, const DriverOptions& options);

  // What the device has to be told. User addresses are our own pointers, as with SharedMemory::description().
  RingSetup setup() const;
  unsigned size() const { return size_; }
  unsigned free_descriptors() const { return static_cast<unsigned>(free_.size()); }

  // Makes a chain and offers it to the device. False, and nothing done, when there are too few free
  // descriptors. `cookie` comes back from poll_used(). A chain has at least one buffer.
  [[nodiscard]] bool add(std::span<const GuestBuffer> readable, std::span<const GuestBuffer> writable,
                         std::uint64_t cookie);
  // The same in two steps: several staged chains become visible at once at publish().
  [[nodiscard]] bool stage(std::span<const GuestBuffer> readable, std::span<const GuestBuffer> writable,
                           std::uint64_t cookie);
  void publish();

  // Whether the device wants a kick for what was published since the last call.
  [[nodiscard]] bool kick_needed();

  // The next chain that the device returned, or nothing. Its descriptors are free again.
  std::optional<Used> poll_used();
  bool has_used() const;
  // The device returned a chain that it did not have: poll_used() gives nothing more.
  bool broken() const { return broken_; }
  // Chains that the device has.
  unsigned outstanding() const { return outstanding_; }

  // Asks the device not to signal, or to signal for the next used chain. enable_interrupts() returns true
  // when one is there already, which may get no signal.
  void disable_interrupts();
  [[nodiscard]] bool enable_interrupts();
  // Asks for a signal when the used index passes `index` (event index only).
  void set_used_event(std::uint16_t index);

  // Raw access, for malformed rings. A chain that is offered with offer_raw() comes back from poll_used()
  // with its cookie; its descriptors are the caller's affair, and none of them becomes free.
  void write_descriptor(std::uint16_t index, const vring_desc& descriptor);
  // Takes `count` descriptors off the free list for good: their indexes.
  std::vector<std::uint16_t> take_descriptors(unsigned count);
  void offer_raw(std::uint16_t head, std::uint64_t cookie);
  void set_available_index(std::uint16_t index);
  std::uint16_t available_index() const { return avail_index_; }
  std::uint16_t used_index() const { return used_index_; }

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
