#include "virtio/packed_driver_queue.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace fusewire::virtio {
namespace {

constexpr std::size_t kDescriptorSize = sizeof(vring_packed_desc);

// Offsets of the parts in a queue's memory, each aligned as 2.8.10.1 wants.
struct Layout {
  std::size_t driver_event;
  std::size_t device_event;
  std::size_t tables;
  std::size_t end;
};
Layout layout(unsigned size, const DriverOptions& options) {
  Layout parts{};
  parts.driver_event = on_next_cache_line(kDescriptorSize * size);
  parts.device_event = on_next_cache_line(parts.driver_event + sizeof(vring_packed_desc_event));
  parts.tables = on_next_cache_line(parts.device_event + sizeof(vring_packed_desc_event));
  parts.end = parts.tables + kDescriptorSize * options.indirect_entries * size;
  return parts;
}

vring_packed_desc make_descriptor(const GuestBuffer& buffer, bool is_writable) {
  return {.addr = buffer.address.get(),
          .len = buffer.length,
          .id = 0,
          .flags = static_cast<std::uint16_t>(is_writable ? VRING_DESC_F_WRITE : 0)};
}

}  // namespace

std::size_t PackedDriverQueue::memory_size(unsigned size, const DriverOptions& options) {
  return layout(size, options).end;
}

PackedDriverQueue::PackedDriverQueue(guestmem::SharedMemory::Piece memory, unsigned size,
                                     const DriverOptions& options)
    : size_(size), options_(options), memory_(memory), pending_(size), free_descriptors_(size) {
  const Layout parts = layout(size, options);
  FUSEWIRE_CHECK(valid_ring_size(size, true));
  FUSEWIRE_CHECK(memory.size >= parts.end && memory.guest.get() % 16 == 0);
  desc_ = memory.host;
  driver_event_ = memory.host + parts.driver_event;
  device_event_ = memory.host + parts.device_event;
  tables_ = memory.host + parts.tables;
  for (unsigned i = size; i-- > 0;) free_ids_.push_back(static_cast<std::uint16_t>(i));
  // Zeroed descriptors are neither available nor used in the first turn, but used ones of the second: a ring
  // that has come further looks as its last turn has left it, all used.
  next_avail_ = {static_cast<std::uint16_t>(options.initial_index % size),
                 options.initial_index / size % 2 == 0};
  next_used_ = next_avail_;
  for (unsigned i = 0; i < size; ++i) {
    const bool wrap = i < next_avail_.index ? next_avail_.wrap : !next_avail_.wrap;
    packed_flags(desc_, i).store(PackedPosition{0, wrap}.used(), std::memory_order_relaxed);
  }
}

RingSetup PackedDriverQueue::setup() const {
  const Layout parts = layout(size_, options_);
  RingSetup setup;
  setup.size = size_;
  // SAFETY: our pointers as numbers, as in SharedMemory::description().
  const auto user = reinterpret_cast<std::uintptr_t>(memory_.host);
  setup.desc_user_addr = user;
  setup.avail_user_addr = user + parts.driver_event;
  setup.used_user_addr = user + parts.device_event;
  const PackedPosition start{static_cast<std::uint16_t>(options_.initial_index % size_),
                             options_.initial_index / size_ % 2 == 0};
  setup.base = start.word() | static_cast<std::uint32_t>(start.word()) << 16;
  setup.log_guest_addr = guestmem::GuestAddress(memory_.guest.get() + parts.device_event);
  return setup;
}

std::byte* PackedDriverQueue::indirect_table(std::uint16_t id) const {
  return tables_ + kDescriptorSize * options_.indirect_entries * id;
}

std::uint16_t PackedDriverQueue::take_id(unsigned descriptors, std::uint64_t cookie) {
  const std::uint16_t id = free_ids_.back();
  free_ids_.pop_back();
  pending_[id] = {cookie, descriptors};
  free_descriptors_ -= descriptors;
  ++outstanding_;
  return id;
}

void PackedDriverQueue::write_but_flags(std::uint16_t index, const vring_packed_desc& descriptor) {
  store_member(desc_, index, offsetof(vring_packed_desc, addr), descriptor.addr);
  store_member(desc_, index, offsetof(vring_packed_desc, len), descriptor.len);
  store_member(desc_, index, offsetof(vring_packed_desc, id), descriptor.id);
}

void PackedDriverQueue::put(const vring_packed_desc& descriptor) {
  const std::uint16_t flags = (descriptor.flags & ~(kPackedAvail | kPackedUsed)) | next_avail_.avail();
  write_but_flags(next_avail_.index, descriptor);
  if (staged_descriptors_++ == 0) {
    first_staged_ = next_avail_;
    first_flags_ = flags;
  } else {
    // Relaxed: the device does not come here before it has seen the first one's flags.
    packed_flags(desc_, next_avail_.index).store(flags, std::memory_order_relaxed);
  }
  next_avail_.advance(1, size_);
}

bool PackedDriverQueue::stage(std::span<const GuestBuffer> readable, std::span<const GuestBuffer> writable,
                              std::uint64_t cookie) {
  const std::size_t count = readable.size() + writable.size();
  FUSEWIRE_CHECK(count != 0);
  const bool indirect = count > 1 && count <= options_.indirect_entries;
  const std::size_t needed = indirect ? 1 : count;
  if (free_descriptors_ < needed) return false;

  const std::uint16_t id = take_id(static_cast<unsigned>(needed), cookie);
  std::byte* table = indirect_table(id);
  for (std::size_t i = 0; i < count; ++i) {
    const bool is_writable = i >= readable.size();
    vring_packed_desc descriptor =
        make_descriptor(is_writable ? writable[i - readable.size()] : readable[i], is_writable);
    if (indirect) {
      std::memcpy(table + kDescriptorSize * i, &descriptor, sizeof(descriptor));
      continue;
    }
    descriptor.id = id;
    if (i + 1 != count) descriptor.flags |= VRING_DESC_F_NEXT;
    put(descriptor);
  }
  if (indirect)
    put({.addr = memory_.guest.get() + static_cast<std::uint64_t>(table - memory_.host),
         .len = static_cast<std::uint32_t>(count * kDescriptorSize),
         .id = id,
         .flags = VRING_DESC_F_INDIRECT});
  return true;
}

void PackedDriverQueue::publish() {
  if (staged_descriptors_ == 0) return;
  // Release: everything else of the chains before the flags that make the first one available (2.8.21.1).
  packed_flags(desc_, first_staged_.index).store(first_flags_, std::memory_order_release);
  unkicked_descriptors_ = std::min(unkicked_descriptors_ + std::exchange(staged_descriptors_, 0), size_);
}

bool PackedDriverQueue::kick_needed() {
  if (unkicked_descriptors_ == 0) return false;
  // The flags before the look at the device's wish: the counterpart of PackedQueue::enable_kicks().
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return wants_packed_event(packed_event(device_event_).load(std::memory_order_relaxed), options_.event_idx,
                            next_avail_, std::exchange(unkicked_descriptors_, 0), size_);
}

bool PackedDriverQueue::has_used() const {
  return !broken_ &&
         next_used_.is_used(packed_flags(desc_, next_used_.index).load(std::memory_order_acquire));
}

std::optional<UsedChain> PackedDriverQueue::poll_used() {
  if (!has_used()) return std::nullopt;
  const auto id = load_member<std::uint16_t>(desc_, next_used_.index, offsetof(vring_packed_desc, id));
  // The length as it is, as Linux has it: not every device sets the flag that vouches for it (2.8.3).
  const auto length = load_member<std::uint32_t>(desc_, next_used_.index, offsetof(vring_packed_desc, len));
  if (id >= size_ || pending_[id].descriptors == 0) {
    broken_ = true;
    return std::nullopt;
  }
  Pending& pending = pending_[id];
  const unsigned descriptors = std::exchange(pending.descriptors, 0);
  next_used_.advance(descriptors, size_);
  free_ids_.push_back(id);
  free_descriptors_ += descriptors;
  --outstanding_;
  return UsedChain{pending.cookie, length};
}

void PackedDriverQueue::disable_interrupts() { set_driver_event(0, VRING_PACKED_EVENT_FLAG_DISABLE); }

bool PackedDriverQueue::enable_interrupts() {
  if (options_.event_idx) {
    set_driver_event(next_used_.word(), VRING_PACKED_EVENT_FLAG_DESC);
  } else {
    set_driver_event(0, VRING_PACKED_EVENT_FLAG_ENABLE);
  }
  // Our wish before the last look: the counterpart of PackedQueue::needs_signal().
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return has_used();
}

void PackedDriverQueue::set_driver_event(std::uint16_t off_wrap, std::uint16_t flags) {
  packed_event(driver_event_).store(packed_event_word(off_wrap, flags), std::memory_order_relaxed);
}

vring_packed_desc_event PackedDriverQueue::device_event() const {
  return std::bit_cast<vring_packed_desc_event>(packed_event(device_event_).load(std::memory_order_relaxed));
}

std::uint16_t PackedDriverQueue::offer_raw(std::span<const vring_packed_desc> descriptors,
                                           std::uint64_t cookie) {
  FUSEWIRE_CHECK(!descriptors.empty() && descriptors.size() <= free_descriptors_);
  const std::uint16_t id = take_id(static_cast<unsigned>(descriptors.size()), cookie);
  for (std::size_t i = 0; i < descriptors.size(); ++i) {
    vring_packed_desc descriptor = descriptors[i];
    if (i + 1 == descriptors.size()) descriptor.id = id;
    put(descriptor);
  }
  publish();
  return id;
}

void PackedDriverQueue::write_descriptor(std::uint16_t index, const vring_packed_desc& descriptor) {
  FUSEWIRE_CHECK(index < size_);
  write_but_flags(index, descriptor);
  packed_flags(desc_, index).store(descriptor.flags, std::memory_order_release);
}

vring_packed_desc PackedDriverQueue::read_descriptor(std::uint16_t index) const {
  FUSEWIRE_CHECK(index < size_);
  vring_packed_desc descriptor;
  std::memcpy(&descriptor, desc_ + kDescriptorSize * index, sizeof(descriptor));
  return descriptor;
}

}  // namespace fusewire::virtio
