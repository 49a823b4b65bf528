// What the tests of this folder share: one guest with a ring, seen from both sides.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fusewire/bytes.h"
#include "guestmem/shared_memory.h"
#include "guestmem/taken_test.h"
#include "virtio/device_queue.h"
#include "virtio/driver_queue.h"

namespace fusewire::virtio {

inline constexpr guestmem::GuestAddress kGuestBase{0x100000};

inline std::shared_ptr<const guestmem::MemoryMap> map_of(
    const std::vector<const guestmem::SharedMemory*>& memories) {
  guestmem::MemoryMap::Regions regions;
  for (const auto* memory : memories)
    regions.push_back(*guestmem::MemoryRegion::map(memory->description(), memory->fd()));
  return *guestmem::MemoryMap::create(std::move(regions));
}

// The driver's and the device's view of one queue.
struct Ring {
  explicit Ring(unsigned size, DriverOptions options = {}, std::size_t arena = 1 << 20)
      : memory(*guestmem::SharedMemory::create(kGuestBase, DriverQueue::memory_size(size, options) + arena)),
        map(map_of({&memory})),
        driver(taken(memory.allocate(DriverQueue::memory_size(size, options), 64)), size, options),
        device(*DeviceQueue::create(driver.setup(), map,
                                    {.event_idx = options.event_idx,
                                     .indirect = options.indirect_entries != 0,
                                     .packed = options.packed})) {}

  GuestBuffer buffer(std::uint32_t size) { return {taken(memory.allocate(size, 1)).guest, size}; }
  GuestBuffer text(std::string_view bytes) {
    const auto piece = taken(memory.allocate(bytes.size(), 1));
    std::memcpy(piece.host, bytes.data(), bytes.size());
    return {piece.guest, static_cast<std::uint32_t>(bytes.size())};
  }

  guestmem::SharedMemory memory;
  std::shared_ptr<const guestmem::MemoryMap> map;
  DriverQueue driver;
  DeviceQueue device;
};

inline std::string gather(const std::vector<iovec>& vectors) {
  std::string bytes;
  for (const iovec& vector : vectors) bytes.append(static_cast<const char*>(vector.iov_base), vector.iov_len);
  return bytes;
}

inline vring_desc descriptor(std::uint64_t address, std::uint32_t length, unsigned flags = 0,
                             unsigned next = 0) {
  vring_desc made{};
  made.addr = address;
  made.len = length;
  made.flags = static_cast<std::uint16_t>(flags);
  made.next = static_cast<std::uint16_t>(next);
  return made;
}

inline DriverOptions packed(DriverOptions options = {}) {
  options.packed = true;
  return options;
}

inline vring_packed_desc entry(std::uint64_t address, std::uint32_t length, std::uint16_t flags = 0) {
  return {.addr = address, .len = length, .id = 0, .flags = flags};
}

}  // namespace fusewire::virtio
