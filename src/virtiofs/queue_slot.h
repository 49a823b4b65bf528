// QueueSlot: one chain of a virtqueue as a Slot for the engine. Lives in its worker's slab and is used again
// and again.
//
// A slot whose request the engine has given up (Engine::abandon_queue) leaves the slab: it belongs to whoever
// still keeps the Call, keeps the guest's memory mapped for what that has been lent, and dies with it.
//
// What the driver laid out (virtio 1.2, 5.11.6): readable ranges hold the request, writable ranges
// fuse_out_header and the reply's body. How either is cut into ranges says nothing.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "fusewire/slot.h"
#include "guestmem/memory_map.h"
#include "virtio/chain.h"

namespace fusewire::virtiofs {

class QueueWorker;

class QueueSlot final : public Slot {
 public:
  QueueSlot(QueueWorker& worker, unsigned queue_index) : worker_(worker) { queue = queue_index; }

  // The chain to fill with DeviceQueue::pop; then prepare() makes it a request. `map` is what it was
  // translated with and stays pinned while the request is in flight.
  virtio::Chain& chain() { return chain_; }
  const virtio::Chain& chain() const { return chain_; }
  void prepare(const std::shared_ptr<const guestmem::MemoryMap>& map);
  // Has the processor fetch what will be looked at first. Never faults.
  void prefetch() const;

  // Bytes written to the chain, header included, once the request is done.
  std::uint32_t used_length() const { return used_length_; }
  const std::shared_ptr<const guestmem::MemoryMap>& map() const { return map_; }
  void drop_map() { map_.reset(); }
  // Ranges that the chain was cut into: what the slot's memory grows with.
  std::size_t range_count() const { return chain_.readable.size() + chain_.writable.size(); }
  // Gives back what an oddly cut or long request made the slot take. Between two requests.
  void release_excess();

  // Slot. From any thread; the worker returns the chain to the driver.
  int done(RequestId unique, int error, std::size_t body_size) override;
  void done_without_reply() override;
  void given_up() override { let_go(); }

  // For the worker, when the engine has given the request up. Ends it with EIO in the Call's place, as done()
  // would, but completes nothing; false when the file system may still use the chain's memory.
  bool end_given_up();
  // The worker knows the slot no more: frees it, now or when given_up() comes.
  void let_go();

 private:
  friend class CompletionList;
  void write_header(RequestId unique, int error, std::size_t body_size);

  QueueWorker& worker_;
  virtio::Chain chain_;
  // chain_.writable behind the header: the engine consumes its list, the log needs ours.
  std::vector<iovec> reply_vectors_;
  std::shared_ptr<const guestmem::MemoryMap> map_;
  std::uint32_t used_length_ = 0;
  QueueSlot* next_completed_ = nullptr;
  std::atomic<bool> let_go_{false};  // by one of the two who know an abandoned slot
};

}  // namespace fusewire::virtiofs
