#include "virtio/split_driver_queue.h"

#include <atomic>
#include <cstring>

#include "base/check.h"

namespace fusewire::virtio {
namespace {

constexpr std::size_t kAvailFlags = 0;  // 16-bit words of the available ring (virtio 1.2, 2.7.6).
constexpr std::size_t kAvailIndex = 1;
constexpr std::size_t kAvailRing = 2;
constexpr std::size_t kUsedFlags = 0;  // Bytes of the used ring (2.7.8).
constexpr std::size_t kUsedIndex = 2;
constexpr std::size_t kUsedRing = 4;

// Offsets of the parts in a queue's memory, each aligned as 2.7 wants.
struct Layout {
  std::size_t avail;
  std::size_t used;
  std::size_t tables;
  std::size_t end;
};
Layout layout(unsigned size, const DriverOptions& options) {
  Layout parts{};
  parts.avail = sizeof(vring_desc) * size;
  parts.used = on_next_cache_line(parts.avail + 6 + 2 * std::size_t{size});
  parts.tables = on_next_cache_line(parts.used + 6 + sizeof(vring_used_elem) * size);
  parts.end = parts.tables + sizeof(vring_desc) * options.indirect_entries * size;
  return parts;
}

// SAFETY: the used ring is 64-aligned in our memory; both sides access its indexes only as aligned 16-bit
// words.
std::atomic_ref<std::uint16_t> used_word(std::byte* used, std::size_t offset) {
  return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(used + offset));
}

}  // namespace

std::size_t SplitDriverQueue::memory_size(unsigned size, const DriverOptions& options) {
  return layout(size, options).end;
}

SplitDriverQueue::SplitDriverQueue(guestmem::SharedMemory::Piece memory, unsigned size,
                                   const DriverOptions& options)
    : size_(size),
      options_(options),
      memory_(memory),
      next_(size),
      count_(size),
      pending_(size),
      avail_index_(options.initial_index),
      published_index_(options.initial_index),
      kicked_index_(options.initial_index),
      used_index_(options.initial_index) {
  const Layout parts = layout(size, options);
  FUSEWIRE_CHECK(valid_ring_size(size, false));
  FUSEWIRE_CHECK(memory.size >= parts.end && memory.guest.get() % 16 == 0);
  // SAFETY: the parts lie in `memory` at offsets that keep their alignment.
  desc_ = reinterpret_cast<vring_desc*>(memory.host);
  avail_ = reinterpret_cast<std::uint16_t*>(memory.host + parts.avail);
  used_ = memory.host + parts.used;
  tables_ = memory.host + parts.tables;
  for (unsigned i = size; i-- > 0;) free_.push_back(static_cast<std::uint16_t>(i));
  avail_[kAvailIndex] = options.initial_index;
  used_word(used_, kUsedIndex).store(options.initial_index, std::memory_order_relaxed);
}

RingSetup SplitDriverQueue::setup() const {
  const Layout parts = layout(size_, options_);
  RingSetup setup;
  setup.size = size_;
  // SAFETY: our pointers as numbers, as in SharedMemory::description().
  const auto user = reinterpret_cast<std::uintptr_t>(memory_.host);
  setup.desc_user_addr = user;
  setup.avail_user_addr = user + parts.avail;
  setup.used_user_addr = user + parts.used;
  setup.base = options_.initial_index;
  setup.log_guest_addr = guestmem::GuestAddress(memory_.guest.get() + parts.used);
  return setup;
}

vring_desc* SplitDriverQueue::indirect_table(std::uint16_t head) const {
  // SAFETY: the tables are 64-aligned and there is one for every head.
  return reinterpret_cast<vring_desc*>(tables_) + std::size_t{head} * options_.indirect_entries;
}

bool SplitDriverQueue::stage(std::span<const GuestBuffer> readable, std::span<const GuestBuffer> writable,
                             std::uint64_t cookie) {
  const std::size_t count = readable.size() + writable.size();
  FUSEWIRE_CHECK(count != 0);
  const bool indirect = count > 1 && count <= options_.indirect_entries;
  const std::size_t needed = indirect ? 1 : count;
  if (free_.size() < needed) return false;

  const std::uint16_t head = free_.back();
  vring_desc* table = indirect ? indirect_table(head) : desc_;
  std::uint16_t index = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const bool is_writable = i >= readable.size();
    const GuestBuffer& buffer = is_writable ? writable[i - readable.size()] : readable[i];
    const bool last = i + 1 == count;
    if (indirect) {
      index = static_cast<std::uint16_t>(i);
    } else {
      index = free_.back();
      free_.pop_back();
    }
    vring_desc descriptor{};
    descriptor.addr = buffer.address.get();
    descriptor.len = buffer.length;
    descriptor.flags =
        static_cast<std::uint16_t>((is_writable ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT));
    descriptor.next = last ? std::uint16_t{0} : indirect ? static_cast<std::uint16_t>(i + 1) : free_.back();
    if (!indirect) next_[index] = descriptor.next;
    std::memcpy(&table[index], &descriptor, sizeof(descriptor));
  }
  if (indirect) {
    free_.pop_back();
    vring_desc descriptor{};
    descriptor.addr = memory_.guest.get() +
                      static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(table) - memory_.host);
    descriptor.len = static_cast<std::uint32_t>(count * sizeof(vring_desc));
    descriptor.flags = VRING_DESC_F_INDIRECT;
    std::memcpy(&desc_[head], &descriptor, sizeof(descriptor));
  }
  count_[head] = static_cast<std::uint16_t>(needed);
  pending_[head] = {cookie, true, false};
  std::atomic_ref(avail_[kAvailRing + (avail_index_ & (size_ - 1))]).store(head, std::memory_order_relaxed);
  ++avail_index_;
  ++outstanding_;
  return true;
}

void SplitDriverQueue::publish() {
  published_index_ = avail_index_;
  // Release: ring entries and descriptors before the index (2.7.13.3).
  std::atomic_ref(avail_[kAvailIndex]).store(published_index_, std::memory_order_release);
}

bool SplitDriverQueue::kick_needed() {
  if (kicked_index_ == published_index_) return false;
  // The index before the look at the device's wish: the counterpart of SplitQueue::enable_kicks().
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint16_t before = kicked_index_;
  kicked_index_ = published_index_;
  if (!options_.event_idx)
    return (used_word(used_, kUsedFlags).load(std::memory_order_relaxed) & VRING_USED_F_NO_NOTIFY) == 0;
  const std::uint16_t event =
      used_word(used_, kUsedRing + sizeof(vring_used_elem) * size_).load(std::memory_order_relaxed);
  return vring_need_event(event, published_index_, before) != 0;
}

bool SplitDriverQueue::has_used() const {
  return !broken_ && used_word(used_, kUsedIndex).load(std::memory_order_acquire) != used_index_;
}

std::optional<UsedChain> SplitDriverQueue::poll_used() {
  if (!has_used()) return std::nullopt;
  vring_used_elem element;
  std::memcpy(&element, used_ + kUsedRing + sizeof(element) * (used_index_ & (size_ - 1)), sizeof(element));
  if (element.id >= size_ || !pending_[element.id].offered) {
    broken_ = true;
    return std::nullopt;
  }
  const auto head = static_cast<std::uint16_t>(element.id);
  Pending& pending = pending_[head];
  pending.offered = false;
  ++used_index_;
  --outstanding_;
  if (!pending.raw) {
    // The chain in reverse, so that the stack gives the same descriptors in the same order again.
    std::uint16_t index = head;
    const std::size_t before = free_.size();
    for (std::uint16_t i = 0; i < count_[head]; ++i) {
      free_.push_back(index);
      index = next_[index];
    }
    for (std::size_t low = before, high = free_.size() - 1; low < high; ++low, --high)
      std::swap(free_[low], free_[high]);
  }
  return UsedChain{pending.cookie, element.len};
}

void SplitDriverQueue::disable_interrupts() {
  if (options_.event_idx) {
    set_used_event(static_cast<std::uint16_t>(used_index_ - 1));  // A whole turn away.
  } else {
    std::atomic_ref(avail_[kAvailFlags]).store(VRING_AVAIL_F_NO_INTERRUPT, std::memory_order_relaxed);
  }
}

bool SplitDriverQueue::enable_interrupts() {
  if (options_.event_idx) {
    set_used_event(used_index_);
  } else {
    std::atomic_ref(avail_[kAvailFlags]).store(0, std::memory_order_relaxed);
  }
  // Our wish before the last look: the counterpart of SplitQueue::needs_signal().
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return has_used();
}

void SplitDriverQueue::set_used_event(std::uint16_t index) {
  std::atomic_ref(avail_[kAvailRing + size_]).store(index, std::memory_order_relaxed);
}

void SplitDriverQueue::write_descriptor(std::uint16_t index, const vring_desc& descriptor) {
  FUSEWIRE_CHECK(index < size_);
  std::memcpy(&desc_[index], &descriptor, sizeof(descriptor));
}

std::vector<std::uint16_t> SplitDriverQueue::take_descriptors(unsigned count) {
  FUSEWIRE_CHECK(count <= free_.size());
  std::vector<std::uint16_t> taken;
  for (unsigned i = 0; i < count; ++i) {
    taken.push_back(free_.back());
    free_.pop_back();
  }
  return taken;
}

void SplitDriverQueue::offer_raw(std::uint16_t head, std::uint64_t cookie) {
  if (head < size_) pending_[head] = {cookie, true, true};
  std::atomic_ref(avail_[kAvailRing + (avail_index_ & (size_ - 1))]).store(head, std::memory_order_relaxed);
  ++avail_index_;
  ++outstanding_;
  publish();
}

void SplitDriverQueue::set_available_index(std::uint16_t index) {
  std::atomic_ref(avail_[kAvailIndex]).store(index, std::memory_order_release);
}

}  // namespace fusewire::virtio
