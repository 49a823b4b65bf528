// DriverQueue: the driver's side of one virtqueue, split or packed as its options say, for tests and for the
// tools which play a guest. It cuts chains exactly as its caller says. What only one kind has, and the raw
// access that tests of malformed rings need, is behind split() and packed().
//
// Used by one thread at a time. Lives in memory that somebody else keeps (SharedMemory) and that the device
// sees too; it does not trust the device: see broken().
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <variant>

#include "base/check.h"
#include "guestmem/shared_memory.h"
#include "virtio/driver_ring.h"
#include "virtio/packed_driver_queue.h"
#include "virtio/ring.h"
#include "virtio/split_driver_queue.h"

namespace fusewire::virtio {

class DriverQueue {
 public:
  using Used = UsedChain;

  // The bytes that a queue wants from its memory.
  static std::size_t memory_size(unsigned size, const DriverOptions& options) {
    return options.packed ? PackedDriverQueue::memory_size(size, options)
                          : SplitDriverQueue::memory_size(size, options);
  }

  // Lays the rings out in `memory`, which is memory_size() zero bytes, 16-aligned. `size`: see
  // valid_ring_size().
  DriverQueue(guestmem::SharedMemory::Piece memory, unsigned size, const DriverOptions& options)
      : kinds_(options.packed ? Kinds(std::in_place_type<PackedDriverQueue>, memory, size, options)
                              : Kinds(std::in_place_type<SplitDriverQueue>, memory, size, options)) {}

  // What the device has to be told. User addresses are our own pointers, as with SharedMemory::description().
  RingSetup setup() const {
    return std::visit([](const auto& queue) { return queue.setup(); }, kinds_);
  }
  unsigned size() const {
    return std::visit([](const auto& queue) { return queue.size(); }, kinds_);
  }
  unsigned free_descriptors() const {
    return std::visit([](const auto& queue) { return queue.free_descriptors(); }, kinds_);
  }

  // Makes a chain and offers it to the device. False, and nothing done, when there are too few free
  // descriptors. `cookie` comes back from poll_used(). A chain has at least one buffer.
  [[nodiscard]] bool add(std::span<const GuestBuffer> readable, std::span<const GuestBuffer> writable,
                         std::uint64_t cookie) {
    if (!stage(readable, writable, cookie)) return false;
    publish();
    return true;
  }
  // The same in two steps: several staged chains become visible at once at publish().
  [[nodiscard]] bool stage(std::span<const GuestBuffer> readable, std::span<const GuestBuffer> writable,
                           std::uint64_t cookie) {
    return std::visit([&](auto& queue) { return queue.stage(readable, writable, cookie); }, kinds_);
  }
  void publish() {
    std::visit([](auto& queue) { queue.publish(); }, kinds_);
  }

  // Whether the device wants a kick for what was published since the last call.
  [[nodiscard]] bool kick_needed() {
    return std::visit([](auto& queue) { return queue.kick_needed(); }, kinds_);
  }

  // The next chain that the device returned, or nothing. Its descriptors are free again.
  std::optional<Used> poll_used() {
    return std::visit([](auto& queue) { return queue.poll_used(); }, kinds_);
  }
  bool has_used() const {
    return std::visit([](const auto& queue) { return queue.has_used(); }, kinds_);
  }
  // The device returned a chain that it did not have: poll_used() gives nothing more.
  bool broken() const {
    return std::visit([](const auto& queue) { return queue.broken(); }, kinds_);
  }
  // Chains that the device has.
  unsigned outstanding() const {
    return std::visit([](const auto& queue) { return queue.outstanding(); }, kinds_);
  }
  // The base (as in RingSetup) of a device that has taken and returned all that was staged.
  std::uint32_t drained_base() const {
    return std::visit([](const auto& queue) { return queue.drained_base(); }, kinds_);
  }

  // Asks the device not to signal, or to signal for the next used chain. enable_interrupts() returns true
  // when one is there already, which may get no signal.
  void disable_interrupts() {
    std::visit([](auto& queue) { queue.disable_interrupts(); }, kinds_);
  }
  [[nodiscard]] bool enable_interrupts() {
    return std::visit([](auto& queue) { return queue.enable_interrupts(); }, kinds_);
  }

  // The queue behind this one, which must be of that kind.
  SplitDriverQueue& split() { return as<SplitDriverQueue>(); }
  PackedDriverQueue& packed() { return as<PackedDriverQueue>(); }

 private:
  using Kinds = std::variant<SplitDriverQueue, PackedDriverQueue>;

  template <class Queue>
  Queue& as() {
    auto* queue = std::get_if<Queue>(&kinds_);
    FUSEWIRE_CHECK(queue != nullptr);
    return *queue;
  }

  Kinds kinds_;
};

}  // namespace fusewire::virtio
