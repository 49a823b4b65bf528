// DescriptorTable: an array of descriptors in guest memory, a split ring's own or an indirect one of either
// kind of ring, and how one is read: once, into a copy that the guest cannot change any more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fusewire/bytes.h"
#include "guestmem/memory_map.h"

namespace fusewire::virtio {

// Copies a descriptor out of mapped guest memory.
template <class Descriptor>
void copy_descriptor(const std::byte* from, Descriptor& to) {
  static_assert(sizeof(Descriptor) == 16);
  std::memcpy(&to, from, sizeof(to));
  // The copy must exist: without this the compiler may read the guest's memory again where `to` is used.
  asm volatile("" : : "r"(&to) : "memory");
}

template <class Descriptor>
class DescriptorTable {
 public:
  // A table that is mapped as one piece.
  DescriptorTable(const std::byte* at, std::uint32_t entries) : at_(at), entries_(entries) {}
  // One of `bytes` bytes at a guest address, in whichever regions; whether it lies in memory shows when it is
  // read.
  DescriptorTable(guestmem::GuestAddress address, std::uint32_t bytes, const guestmem::MemoryMap& map)
      : at_(map.contiguous(address, bytes)),
        address_(address),
        entries_(static_cast<std::uint32_t>(bytes / sizeof(Descriptor))) {}

  std::uint32_t entries() const { return entries_; }

  // False when entry `index`, which is below entries(), is not in memory.
  [[nodiscard]] bool read(std::uint32_t index, const guestmem::MemoryMap& map, Descriptor& to) const {
    const std::size_t offset = std::size_t{index} * sizeof(Descriptor);
    if (at_ == nullptr)
      return map.copy_out(guestmem::GuestAddress(address_.get() + offset), writable_bytes_of(to));
    copy_descriptor(at_ + offset, to);
    return true;
  }

 private:
  const std::byte* at_;  // Null for a table that does not lie in one region.
  guestmem::GuestAddress address_;
  std::uint32_t entries_;
};

}  // namespace fusewire::virtio
