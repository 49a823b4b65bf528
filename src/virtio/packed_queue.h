// PackedQueue: the device's side of one packed virtqueue (virtio 1.2, 2.8): one ring of descriptors that the
// driver makes available and the device overwrites, in ring order, with used ones.
//
// The same place on the data path, the same threading, trust and contract as SplitQueue: see there for what
// is said only once. A chain's descriptors lie side by side in the ring and are copied when it is popped, for
// used descriptors of other chains may overwrite them before it comes back.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "guestmem/dirty_log.h"
#include "guestmem/memory_map.h"
#include "virtio/chain.h"
#include "virtio/packed_ring.h"
#include "virtio/ring.h"

namespace fusewire::virtio {

class PackedQueue {
 public:
  // The error is a text: a size beyond 32768, a base outside of the ring, or a ring that is misaligned or not
  // in memory.
  static std::expected<PackedQueue, std::string> create(const RingSetup& setup,
                                                        std::shared_ptr<const guestmem::MemoryMap> map,
                                                        QueueOptions options);

  // Finds the ring again in another snapshot. On failure the queue is broken(), and still holds the old
  // snapshot.
  std::expected<void, std::string> rebind(std::shared_ptr<const guestmem::MemoryMap> map);

  // Takes the next chain, its ranges translated with `map`, the snapshot that the request will pin.
  Pop pop(Chain& chain, const guestmem::MemoryMap& map);

  // Writes a used descriptor: chain `id` is done, `length` bytes were written to it. The driver sees it at
  // publish(). CHECKs that as many chains were popped.
  void push_used(ChainId id, std::uint32_t length);
  // Shows all pushed descriptors to the driver at once: it looks at them in ring order, and the first one's
  // flags are stored last. Does nothing when there are none.
  void publish();
  bool has_unpublished() const { return staged_ != 0; }

  // After publish(): whether the driver asked to be told of what was published since the last call (2.8.14).
  [[nodiscard]] bool needs_signal();

  // Asks the driver not to kick; it may still do so.
  void disable_kicks();
  // Asks for a kick for the next chain. True when a chain is there already, which may get no kick: pop again.
  [[nodiscard]] bool enable_kicks();

  // True when there is a chain to pop; a broken queue has none.
  bool has_available() const;
  // Where the ring goes on, as RingSetup::base has it: what GET_VRING_BASE wants to know.
  std::uint32_t base() const {
    return next_avail_.word() | static_cast<std::uint32_t>(next_used_.word()) << 16;
  }
  // Chains popped and not yet published as used.
  unsigned outstanding() const { return outstanding_; }
  bool broken() const { return broken_; }
  unsigned size() const { return setup_.size; }

  // As SplitQueue's. The marks are made where the ring lies in the snapshot: front-ends differ in what they
  // mean by the log address of a packed ring.
  void set_dirty_log(std::shared_ptr<guestmem::DirtyLog> log) { log_ = std::move(log); }
  void set_logging(const RingSetup& setup) { setup_.log_used = setup.log_used; }

 private:
  // Pointers into guest memory.
  struct Rings {
    std::byte* desc = nullptr;
    std::byte* driver_event = nullptr;  // The driver writes it, we read it;
    std::byte* device_event = nullptr;  // the other way round.
  };

  PackedQueue(const RingSetup& setup, QueueOptions options) : setup_(setup), options_(options) {}
  static std::expected<Rings, std::string> find_rings(const RingSetup& setup, const guestmem::MemoryMap& map);
  bool add_to_chain(const vring_packed_desc& descriptor, bool alone, Chain& chain,
                    const guestmem::MemoryMap& map) const;
  static bool read_indirect(const vring_packed_desc& descriptor, Chain& chain,
                            const guestmem::MemoryMap& map);
  void write_device_event(std::uint32_t word);
  void log_write(std::byte* at, std::size_t length);

  RingSetup setup_;
  QueueOptions options_;
  std::shared_ptr<const guestmem::MemoryMap> map_;
  std::shared_ptr<guestmem::DirtyLog> log_;
  Rings rings_;
  PackedPosition next_avail_;        // The next descriptor that we take.
  PackedPosition next_used_;         // The next that we write as used,
  PackedPosition first_staged_;      // and the first of those that the driver does not see yet:
  std::uint16_t first_flags_ = 0;    // what its flags will be.
  std::uint32_t device_event_ = 0;   // What we last wrote there.
  unsigned staged_ = 0;              // Chains pushed, not yet published.
  unsigned outstanding_ = 0;         // Chains popped, not yet published.
  unsigned taken_descriptors_ = 0;   // Those of chains popped and not yet pushed; at most the ring's size.
  unsigned staged_descriptors_ = 0;  // Those of chains pushed and not yet published.
  std::uint32_t unsignalled_ = 0;    // Those published since needs_signal() was last asked; saturates.
  bool signalled_before_ = false;    // needs_signal() has been asked for something.
  bool broken_ = false;
};

}  // namespace fusewire::virtio
