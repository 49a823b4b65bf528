#include "virtio/packed_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "virtio/descriptor_table.h"

namespace fusewire::virtio {
namespace {

using guestmem::GuestAddress;
using guestmem::MemoryMap;

constexpr std::size_t kDescriptorSize = sizeof(vring_packed_desc);

// 2.8.10.1.
constexpr std::size_t kRingAlignment = 16;
constexpr std::size_t kEventAlignment = 4;

bool aligned(const std::byte* pointer, std::size_t alignment) {
  // SAFETY: only the number is looked at.
  return reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0;
}

}  // namespace

std::expected<PackedQueue::Rings, std::string> PackedQueue::find_rings(const RingSetup& setup,
                                                                       const MemoryMap& map) {
  const Rings rings{map.from_user(setup.desc_user_addr, kDescriptorSize * setup.size),
                    map.from_user(setup.avail_user_addr, sizeof(vring_packed_desc_event)),
                    map.from_user(setup.used_user_addr, sizeof(vring_packed_desc_event))};
  if (rings.desc == nullptr || rings.driver_event == nullptr || rings.device_event == nullptr)
    return std::unexpected(fmt::format("the ring's {} is not in guest memory",
                                       rings.desc == nullptr           ? "descriptor ring"
                                       : rings.driver_event == nullptr ? "driver event suppression"
                                                                       : "device event suppression"));
  if (!aligned(rings.desc, kRingAlignment) || !aligned(rings.driver_event, kEventAlignment) ||
      !aligned(rings.device_event, kEventAlignment))
    return std::unexpected("the ring is misaligned");
  return rings;
}

std::expected<PackedQueue, std::string> PackedQueue::create(const RingSetup& setup,
                                                            std::shared_ptr<const MemoryMap> map,
                                                            QueueOptions options) {
  if (!valid_ring_size(setup.size, true))
    return std::unexpected(fmt::format("a ring of size {} is not possible", setup.size));
  PackedQueue queue(setup, options);
  const auto used = static_cast<std::uint16_t>(setup.base >> 16);
  queue.next_avail_ = PackedPosition::from_word(static_cast<std::uint16_t>(setup.base));
  // Some front-ends fill in the low half only. A ring that was stopped as it should be has the same in both.
  queue.next_used_ = used == 0 ? queue.next_avail_ : PackedPosition::from_word(used);
  if (queue.next_avail_.index >= setup.size || queue.next_used_.index >= setup.size)
    return std::unexpected(fmt::format("a base of {:#x} is not possible", setup.base));
  // Chains in between, which another device has taken and we will never return.
  const int lost = queue.next_avail_.ahead_of(queue.next_used_, setup.size);
  if (lost < 0 || lost > static_cast<int>(setup.size))
    return std::unexpected(fmt::format("a base of {:#x} is not possible", setup.base));
  queue.taken_descriptors_ = static_cast<unsigned>(lost);
  const auto rings = find_rings(setup, *map);
  if (!rings) return std::unexpected(rings.error());
  queue.map_ = std::move(map);
  queue.rings_ = *rings;
  queue.device_event_ = packed_event(rings->device_event).load(std::memory_order_relaxed);
  return queue;
}

std::expected<void, std::string> PackedQueue::rebind(std::shared_ptr<const MemoryMap> map) {
  const auto rings = find_rings(setup_, *map);
  if (!rings) {
    broken_ = true;
    return std::unexpected(rings.error());
  }
  map_ = std::move(map);
  rings_ = *rings;
  return {};
}

bool PackedQueue::has_available() const {
  return !broken_ && next_avail_.is_available(
                         packed_flags(rings_.desc, next_avail_.index).load(std::memory_order_acquire));
}

Pop PackedQueue::pop(Chain& chain, const MemoryMap& map) {
  chain.clear();
  if (broken_) return Pop::broken;
  // Acquire: pairs with the driver's barrier before it stores the flags of a chain's first descriptor, so
  // that we see all of the chain (2.8.21.1).
  const std::uint16_t first_flags =
      packed_flags(rings_.desc, next_avail_.index).load(std::memory_order_acquire);
  if (!next_avail_.is_available(first_flags)) return Pop::nothing;

  // A chain ends before it comes to descriptors that we have not returned yet, of which there are at most as
  // many as the ring holds: one that does not has no id that it could be returned by. The same bounds what a
  // hostile guest can make us keep in flight.
  const unsigned room = setup_.size - taken_descriptors_;
  PackedPosition at = next_avail_;
  unsigned count = 0;
  bool good = true;
  vring_packed_desc descriptor;
  do {
    if (count == room) {
      broken_ = true;
      chain.clear();
      return Pop::broken;
    }
    copy_descriptor(rings_.desc + kDescriptorSize * at.index, descriptor);
    // The flags that made the chain available; what came with the copy is not looked at.
    if (count == 0) descriptor.flags = first_flags;
    good = good && add_to_chain(descriptor, count == 0, chain, map);
    ++count;
    at.advance(1, setup_.size);
  } while ((descriptor.flags & VRING_DESC_F_NEXT) != 0);

  next_avail_ = at;
  taken_descriptors_ += count;
  ++outstanding_;
  // 2.8.6: the buffer id is in the chain's last descriptor.
  chain.id = {.head = descriptor.id, .descriptors = static_cast<std::uint16_t>(count)};
  if (good) return Pop::chain;
  chain.clear();
  return Pop::malformed;
}

bool PackedQueue::add_to_chain(const vring_packed_desc& descriptor, bool alone, Chain& chain,
                               const MemoryMap& map) const {
  if ((descriptor.flags & VRING_DESC_F_INDIRECT) != 0) {
    // 2.8.19: only when negotiated, and never together with other descriptors.
    return options_.indirect && alone && (descriptor.flags & VRING_DESC_F_NEXT) == 0 &&
           read_indirect(descriptor, chain, map);
  }
  return chain.append(GuestAddress(descriptor.addr), descriptor.len,
                      (descriptor.flags & VRING_DESC_F_WRITE) != 0, map);
}

// 2.8.7: the table's length says how many descriptors it holds, and they follow each other. Of their flags
// only WRITE means anything, and the flags beside INDIRECT mean nothing: what the others say is ignored, so
// that tables cannot nest. The table may be longer than the ring, as with SplitQueue.
bool PackedQueue::read_indirect(const vring_packed_desc& descriptor, Chain& chain, const MemoryMap& map) {
  if (descriptor.len == 0 || descriptor.len % kDescriptorSize != 0) return false;
  const DescriptorTable<vring_packed_desc> table(GuestAddress(descriptor.addr), descriptor.len, map);
  if (table.entries() > kMaxRingSize) return false;
  for (std::uint32_t i = 0; i < table.entries(); ++i) {
    vring_packed_desc entry;
    if (!table.read(i, map, entry)) return false;
    if (!chain.append(GuestAddress(entry.addr), entry.len, (entry.flags & VRING_DESC_F_WRITE) != 0, map))
      return false;
  }
  return true;
}

void PackedQueue::push_used(ChainId id, std::uint32_t length) {
  FUSEWIRE_CHECK(staged_ < outstanding_ && id.descriptors <= taken_descriptors_);
  // The driver reads these only after it saw the flags that publish() stores. The address is of no use to it.
  store_member(rings_.desc, next_used_.index, offsetof(vring_packed_desc, len), length);
  store_member(rings_.desc, next_used_.index, offsetof(vring_packed_desc, id), id.head);
  // 2.8.3: the write flag says that the length means something.
  const auto flags = static_cast<std::uint16_t>(next_used_.used() | (length != 0 ? VRING_DESC_F_WRITE : 0));
  if (staged_++ == 0) {
    first_staged_ = next_used_;
    first_flags_ = flags;
  } else {
    // Relaxed: the driver does not come here before it has seen the first one's flags.
    packed_flags(rings_.desc, next_used_.index).store(flags, std::memory_order_relaxed);
  }
  next_used_.advance(id.descriptors, setup_.size);
  taken_descriptors_ -= id.descriptors;
  staged_descriptors_ += id.descriptors;
}

void PackedQueue::publish() {
  if (staged_ == 0) return;
  // Release: the other used descriptors, and all that was written into the chains, before these flags.
  packed_flags(rings_.desc, first_staged_.index).store(first_flags_, std::memory_order_release);
  if (log_ != nullptr && setup_.log_used) {
    const unsigned until_end = std::min<unsigned>(staged_descriptors_, setup_.size - first_staged_.index);
    log_write(rings_.desc + kDescriptorSize * first_staged_.index, kDescriptorSize * until_end);
    log_write(rings_.desc, kDescriptorSize * (staged_descriptors_ - until_end));
  }
  outstanding_ -= std::exchange(staged_, 0);
  unsignalled_ = std::min(unsignalled_ + std::exchange(staged_descriptors_, 0), setup_.size);
}

bool PackedQueue::needs_signal() {
  if (unsignalled_ == 0) return false;
  // Our flags before the load of what the driver wants; the driver has them the other way round, so one of us
  // sees the other's store.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  std::uint32_t count = std::exchange(unsignalled_, 0);
  // The first time we do not know what was signalled before us (a restarted or migrated ring).
  if (!std::exchange(signalled_before_, true)) count = setup_.size;
  return wants_packed_event(packed_event(rings_.driver_event).load(std::memory_order_relaxed),
                            options_.event_idx, next_used_, count, setup_.size);
}

void PackedQueue::disable_kicks() {
  write_device_event(packed_event_word(0, VRING_PACKED_EVENT_FLAG_DISABLE));
}

bool PackedQueue::enable_kicks() {
  write_device_event(options_.event_idx ? packed_event_word(next_avail_.word(), VRING_PACKED_EVENT_FLAG_DESC)
                                        : packed_event_word(0, VRING_PACKED_EVENT_FLAG_ENABLE));
  // Our wish before the last look at the ring; the driver makes a chain available and then looks at our wish.
  // So either we see its chain here, or it sees that we want a kick.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return has_available();
}

void PackedQueue::write_device_event(std::uint32_t word) {
  // In most turns nothing changes: the driver's processor keeps the cache line.
  if (word == device_event_) return;
  device_event_ = word;
  packed_event(rings_.device_event).store(word, std::memory_order_relaxed);
  log_write(rings_.device_event, sizeof(word));
}

void PackedQueue::log_write(std::byte* at, std::size_t length) {
  if (log_ == nullptr || !setup_.log_used || length == 0) return;
  const iovec range{at, length};
  log_->mark_written(*map_, {&range, 1}, length);
}

}  // namespace fusewire::virtio
