// SplitQueue: the device's side of one split virtqueue (virtio 1.2, 2.7).
//
// Stands between the queue's worker and the guest's ring: pop() takes requests off the available ring,
// push_used() and publish() return them. Used by one thread at a time, without locks; the other side of every
// shared word is the guest, which is hostile: each word is read once and checked in the copy. No allocation
// once the Chain has grown.
//
// The queue holds the MemoryMap that its ring pointers came from.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "guestmem/dirty_log.h"
#include "guestmem/memory_map.h"
#include "virtio/chain.h"
#include "virtio/features.h"
#include "virtio/ring.h"

namespace fusewire::virtio {

class SplitQueue {
 public:
  // The error is a text: a size that is no power of two in 2..32768, a base beyond 16 bits, or a ring that is
  // misaligned or not in memory. The index of the used ring is taken from guest memory (vhost-user,
  // SET_VRING_BASE).
  static std::expected<SplitQueue, std::string> create(const RingSetup& setup,
                                                       std::shared_ptr<const guestmem::MemoryMap> map,
                                                       QueueOptions options);

  // Finds the ring again in another snapshot. On failure the queue is broken(), and still holds the old
  // snapshot.
  std::expected<void, std::string> rebind(std::shared_ptr<const guestmem::MemoryMap> map);

  // Takes the next chain, its ranges translated with `map`, the snapshot that the request will pin.
  Pop pop(Chain& chain, const guestmem::MemoryMap& map);

  // Writes a used element: chain `id` is done, `length` bytes were written to it. The driver sees it at
  // publish(). CHECKs that as many chains were popped.
  void push_used(ChainId id, std::uint32_t length);
  // Shows all pushed elements to the driver at once. Does nothing when there are none.
  void publish();
  bool has_unpublished() const { return staged_ != 0; }

  // After publish(): whether the driver asked to be told of what was published since the last call (2.7.7).
  [[nodiscard]] bool needs_signal();

  // Asks the driver not to kick (2.7.10); it may still do so.
  void disable_kicks();
  // Asks for a kick for the next chain. True when a chain is there already, which may get no kick: pop again.
  [[nodiscard]] bool enable_kicks();

  // True when there is a chain to pop; a broken queue has none.
  bool has_available() const;
  // The next entry of the available ring: what GET_VRING_BASE wants to know.
  std::uint32_t base() const { return next_avail_; }
  // Chains popped and not yet published as used.
  unsigned outstanding() const { return outstanding_; }
  bool broken() const { return broken_; }
  unsigned size() const { return setup_.size; }

  // From now on the log that the queue's own writes go into; null: none. Data that others write into the
  // chains they mark themselves (DirtyLog::mark_written).
  void set_dirty_log(std::shared_ptr<guestmem::DirtyLog> log) { log_ = std::move(log); }
  // Changes log_used and log_guest_addr to `setup`'s (SET_VRING_ADDR on a running ring).
  void set_logging(const RingSetup& setup);

 private:
  // Pointers into guest memory. Every access to what the guest also writes goes through std::atomic_ref, but
  // for the descriptors, which are copied whole.
  struct Rings {
    const std::byte* desc = nullptr;
    std::uint16_t* avail = nullptr;  // flags, idx, ring[size], used_event
    std::byte* used = nullptr;       // flags, idx, ring[size], avail_event
  };

  SplitQueue(const RingSetup& setup, QueueOptions options) : setup_(setup), options_(options) {}
  static std::expected<Rings, std::string> find_rings(const RingSetup& setup, const guestmem::MemoryMap& map);
  std::uint16_t load_avail_index() const;
  bool read_chain(std::uint16_t head, Chain& chain, const guestmem::MemoryMap& map) const;
  void log_used_write(std::uint64_t offset, std::uint64_t length);

  RingSetup setup_;
  QueueOptions options_;
  std::shared_ptr<const guestmem::MemoryMap> map_;
  std::shared_ptr<guestmem::DirtyLog> log_;
  Rings rings_;
  std::uint16_t next_avail_ = 0;   // The next entry of the available ring that we take.
  std::uint16_t seen_avail_ = 0;   // The available index when we last looked.
  std::uint16_t used_index_ = 0;   // The used index that we last stored.
  unsigned staged_ = 0;            // Elements written behind used_index_.
  unsigned outstanding_ = 0;       // Popped, not yet published; at most the ring's size.
  std::uint32_t unsignalled_ = 0;  // Elements published since needs_signal() was last asked; saturates.
  bool signalled_before_ = false;  // needs_signal() has been asked for something.
  bool broken_ = false;
};

}  // namespace fusewire::virtio
