// DeviceQueue: the device's side of one virtqueue, split or packed as was negotiated. Forwards to SplitQueue
// or PackedQueue by a branch that always goes the same way; what each method does is said in split_queue.h.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "virtio/packed_queue.h"
#include "virtio/split_queue.h"

namespace fusewire::virtio {

class DeviceQueue {
 public:
  static std::expected<DeviceQueue, std::string> create(const RingSetup& setup,
                                                        std::shared_ptr<const guestmem::MemoryMap> map,
                                                        QueueOptions options) {
    return options.packed ? wrap(PackedQueue::create(setup, std::move(map), options))
                          : wrap(SplitQueue::create(setup, std::move(map), options));
  }

  std::expected<void, std::string> rebind(std::shared_ptr<const guestmem::MemoryMap> map) {
    return std::visit([&](auto& queue) { return queue.rebind(std::move(map)); }, kinds_);
  }
  Pop pop(Chain& chain, const guestmem::MemoryMap& map) {
    return std::visit([&](auto& queue) { return queue.pop(chain, map); }, kinds_);
  }
  void push_used(ChainId id, std::uint32_t length) {
    std::visit([&](auto& queue) { queue.push_used(id, length); }, kinds_);
  }
  void publish() {
    std::visit([](auto& queue) { queue.publish(); }, kinds_);
  }
  bool has_unpublished() const {
    return std::visit([](const auto& queue) { return queue.has_unpublished(); }, kinds_);
  }
  [[nodiscard]] bool needs_signal() {
    return std::visit([](auto& queue) { return queue.needs_signal(); }, kinds_);
  }
  void disable_kicks() {
    std::visit([](auto& queue) { queue.disable_kicks(); }, kinds_);
  }
  [[nodiscard]] bool enable_kicks() {
    return std::visit([](auto& queue) { return queue.enable_kicks(); }, kinds_);
  }
  bool has_available() const {
    return std::visit([](const auto& queue) { return queue.has_available(); }, kinds_);
  }
  std::uint32_t base() const {
    return std::visit([](const auto& queue) { return queue.base(); }, kinds_);
  }
  unsigned outstanding() const {
    return std::visit([](const auto& queue) { return queue.outstanding(); }, kinds_);
  }
  bool broken() const {
    return std::visit([](const auto& queue) { return queue.broken(); }, kinds_);
  }
  unsigned size() const {
    return std::visit([](const auto& queue) { return queue.size(); }, kinds_);
  }
  void set_dirty_log(std::shared_ptr<guestmem::DirtyLog> log) {
    std::visit([&](auto& queue) { queue.set_dirty_log(std::move(log)); }, kinds_);
  }
  void set_logging(const RingSetup& setup) {
    std::visit([&](auto& queue) { queue.set_logging(setup); }, kinds_);
  }

 private:
  using Kinds = std::variant<SplitQueue, PackedQueue>;

  explicit DeviceQueue(Kinds kinds) : kinds_(std::move(kinds)) {}
  template <class Queue>
  static std::expected<DeviceQueue, std::string> wrap(std::expected<Queue, std::string> queue) {
    if (!queue) return std::unexpected(std::move(queue.error()));
    return DeviceQueue(Kinds(std::move(*queue)));
  }

  Kinds kinds_;
};

}  // namespace fusewire::virtio
