#include "virtio/split_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "virtio/descriptor_table.h"

namespace fusewire::virtio {
namespace {

using guestmem::GuestAddress;
using guestmem::MemoryMap;

// virtio 1.x rings are little-endian (1.4), and we read them in place.
static_assert(std::endian::native == std::endian::little);
static_assert(sizeof(vring_desc) == 16 && sizeof(vring_used_elem) == 8);
static_assert(std::atomic_ref<std::uint16_t>::is_always_lock_free);

// Layout of the rings, 2.7.6 and 2.7.8: flags, idx, ring[size], event index.
constexpr std::size_t kAvailFlags = 0;  // In 16-bit words,
constexpr std::size_t kAvailIndex = 1;
constexpr std::size_t kAvailRing = 2;
constexpr std::size_t kUsedFlags = 0;  // in bytes.
constexpr std::size_t kUsedIndex = 2;
constexpr std::size_t kUsedRing = 4;
constexpr std::size_t used_event_offset(unsigned size) { return kUsedRing + sizeof(vring_used_elem) * size; }

// SAFETY: find_rings() has checked that the used ring lies in mapped memory and is 4-aligned, so each of its
// 16-bit words is aligned; the guest sees it only as such words.
std::atomic_ref<std::uint16_t> used_word(std::byte* used, std::size_t offset) {
  return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(used + offset));
}

template <class T>
bool aligned(const T* pointer, std::size_t alignment) {
  // SAFETY: only the number is looked at.
  return reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0;
}

}  // namespace

std::expected<SplitQueue::Rings, std::string> SplitQueue::find_rings(const RingSetup& setup,
                                                                     const MemoryMap& map) {
  // 2.7: the parts' sizes and alignments.
  const std::uint64_t size = setup.size;
  std::byte* desc = map.from_user(setup.desc_user_addr, sizeof(vring_desc) * size);
  std::byte* avail = map.from_user(setup.avail_user_addr, 6 + 2 * size);
  std::byte* used = map.from_user(setup.used_user_addr, 6 + sizeof(vring_used_elem) * size);
  if (desc == nullptr || avail == nullptr || used == nullptr)
    return std::unexpected(
        fmt::format("the ring's {} is not in guest memory", desc == nullptr    ? "descriptor table"
                                                            : avail == nullptr ? "available ring"
                                                                               : "used ring"));
  if (!aligned(desc, VRING_DESC_ALIGN_SIZE) || !aligned(avail, VRING_AVAIL_ALIGN_SIZE) ||
      !aligned(used, VRING_USED_ALIGN_SIZE))
    return std::unexpected("the ring is misaligned");
  // SAFETY: mapped and 2-aligned; accessed only through atomic_ref.
  return Rings{desc, reinterpret_cast<std::uint16_t*>(avail), used};
}

std::expected<SplitQueue, std::string> SplitQueue::create(const RingSetup& setup,
                                                          std::shared_ptr<const MemoryMap> map,
                                                          QueueOptions options) {
  if (!valid_ring_size(setup.size, false))
    return std::unexpected(fmt::format("a ring of size {} is not possible", setup.size));
  if (setup.base > 0xffff) return std::unexpected(fmt::format("a base of {:#x} is not possible", setup.base));
  const auto rings = find_rings(setup, *map);
  if (!rings) return std::unexpected(rings.error());
  SplitQueue queue(setup, options);
  queue.map_ = std::move(map);
  queue.rings_ = *rings;
  queue.next_avail_ = static_cast<std::uint16_t>(setup.base);
  queue.seen_avail_ = queue.next_avail_;
  queue.used_index_ = used_word(rings->used, kUsedIndex).load(std::memory_order_acquire);
  return queue;
}

std::expected<void, std::string> SplitQueue::rebind(std::shared_ptr<const MemoryMap> map) {
  const auto rings = find_rings(setup_, *map);
  if (!rings) {
    broken_ = true;
    return std::unexpected(rings.error());
  }
  map_ = std::move(map);
  rings_ = *rings;
  return {};
}

std::uint16_t SplitQueue::load_avail_index() const {
  // Acquire: pairs with the driver's barrier before it stores the index (2.7.13), so that we see the ring's
  // entries and the descriptors that it covers.
  return std::atomic_ref(rings_.avail[kAvailIndex]).load(std::memory_order_acquire);
}

Pop SplitQueue::pop(Chain& chain, const MemoryMap& map) {
  chain.clear();
  if (broken_) return Pop::broken;
  if (seen_avail_ == next_avail_) {
    seen_avail_ = load_avail_index();
    if (seen_avail_ == next_avail_) return Pop::nothing;
  }
  // The index may run ahead of us by no more than the ring holds, and each chain that we have not returned
  // holds at least one descriptor: a driver beyond either bound has overwritten what it had offered (2.7.13).
  // The second also bounds what a hostile guest can make us keep in flight.
  const auto offered = static_cast<std::uint16_t>(seen_avail_ - next_avail_);
  if (offered > setup_.size || outstanding_ >= setup_.size) {
    broken_ = true;
    return Pop::broken;
  }
  // Relaxed: ordered by the acquire load of the index.
  const std::uint16_t head = std::atomic_ref(rings_.avail[kAvailRing + (next_avail_ & (setup_.size - 1))])
                                 .load(std::memory_order_relaxed);
  if (head >= setup_.size) {  // No such descriptor: there is nothing that could be returned.
    broken_ = true;
    return Pop::broken;
  }
  ++next_avail_;
  ++outstanding_;
  chain.id = {.head = head};
  if (read_chain(head, chain, map)) return Pop::chain;
  chain.clear();
  return Pop::malformed;
}

bool SplitQueue::read_chain(std::uint16_t head, Chain& chain, const MemoryMap& map) const {
  DescriptorTable<vring_desc> table(rings_.desc, setup_.size);
  bool indirect = false;
  std::uint32_t index = head;
  // A chain that visits more descriptors than its table has runs in a circle (2.7.5.2). An indirect table may
  // be longer than the ring, though 2.7.5.3.1 forbids it: Linux has done so for long.
  std::uint32_t budget = table.entries();
  for (;;) {
    if (budget-- == 0) return false;
    vring_desc descriptor;
    if (!table.read(index, map, descriptor)) return false;

    if ((descriptor.flags & VRING_DESC_F_INDIRECT) != 0) {
      // 2.7.5.3.1: only when negotiated, only one table, and at the end of the chain. The write flag beside
      // it is to be ignored (2.7.5.3.2), descriptors before it are not.
      if (!options_.indirect || indirect || (descriptor.flags & VRING_DESC_F_NEXT) != 0) return false;
      // 2.7.5.3: whole descriptors. The first is needed anyway.
      if (descriptor.len == 0 || descriptor.len % sizeof(vring_desc) != 0) return false;
      table = DescriptorTable<vring_desc>(GuestAddress(descriptor.addr), descriptor.len, map);
      indirect = true;
      index = 0;
      budget = std::min<std::uint32_t>(table.entries(), kMaxRingSize);
      continue;
    }

    if (!chain.append(GuestAddress(descriptor.addr), descriptor.len,
                      (descriptor.flags & VRING_DESC_F_WRITE) != 0, map))
      return false;
    if ((descriptor.flags & VRING_DESC_F_NEXT) == 0) return true;
    if (descriptor.next >= table.entries()) return false;
    index = descriptor.next;
  }
}

void SplitQueue::push_used(ChainId id, std::uint32_t length) {
  FUSEWIRE_CHECK(staged_ < outstanding_);
  const vring_used_elem element{id.head, length};
  const unsigned slot = (used_index_ + staged_) & (setup_.size - 1);
  // Plain stores: the driver reads the element only after it saw the index that publish() stores.
  std::memcpy(rings_.used + kUsedRing + sizeof(element) * slot, &element, sizeof(element));
  ++staged_;
}

void SplitQueue::publish() {
  if (staged_ == 0) return;
  const unsigned mask = setup_.size - 1;
  const unsigned first = used_index_ & mask;
  used_index_ = static_cast<std::uint16_t>(used_index_ + staged_);
  // Release: the elements, and all that was written into the chains, before the index (2.7.8.2, 2.7.14).
  used_word(rings_.used, kUsedIndex).store(used_index_, std::memory_order_release);
  if (log_ != nullptr) {
    const unsigned until_end = std::min(staged_, setup_.size - first);
    log_used_write(kUsedRing + sizeof(vring_used_elem) * first, sizeof(vring_used_elem) * until_end);
    log_used_write(kUsedRing, sizeof(vring_used_elem) * (staged_ - until_end));
    log_used_write(kUsedIndex, sizeof(std::uint16_t));
  }
  outstanding_ -= staged_;
  unsignalled_ = std::min<std::uint32_t>(unsignalled_ + staged_, 0x10000);
  staged_ = 0;
}

bool SplitQueue::needs_signal() {
  if (unsignalled_ == 0) return false;
  // The store of the used index before the load of what the driver wants; the driver has them the other way
  // round, so one of us sees the other's store (2.7.7).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint32_t count = std::exchange(unsignalled_, 0);
  if (!options_.event_idx)
    return (std::atomic_ref(rings_.avail[kAvailFlags]).load(std::memory_order_relaxed) &
            VRING_AVAIL_F_NO_INTERRUPT) == 0;
  const std::uint16_t event =
      std::atomic_ref(rings_.avail[kAvailRing + setup_.size]).load(std::memory_order_relaxed);
  // The first time we do not know what was signalled before us (a restarted or migrated ring), and after a
  // whole turn of the index everything has been passed.
  if (!std::exchange(signalled_before_, true) || count > 0xffff) return true;
  return vring_need_event(event, used_index_, static_cast<std::uint16_t>(used_index_ - count)) != 0;
}

void SplitQueue::disable_kicks() {
  // With the event index it suffices not to move it on: the driver kicks only when its index passes it.
  if (options_.event_idx) return;
  used_word(rings_.used, kUsedFlags).store(VRING_USED_F_NO_NOTIFY, std::memory_order_relaxed);
  log_used_write(kUsedFlags, sizeof(std::uint16_t));
}

bool SplitQueue::enable_kicks() {
  const std::size_t offset = options_.event_idx ? used_event_offset(setup_.size) : kUsedFlags;
  used_word(rings_.used, offset)
      .store(options_.event_idx ? next_avail_ : std::uint16_t{0}, std::memory_order_relaxed);
  log_used_write(offset, sizeof(std::uint16_t));
  // Our wish before the last look at the index; the driver stores the index and then looks at our wish
  // (2.7.10). So either we see its chain here, or it sees that we want a kick.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return has_available();
}

bool SplitQueue::has_available() const { return !broken_ && load_avail_index() != next_avail_; }

void SplitQueue::set_logging(const RingSetup& setup) {
  setup_.log_used = setup.log_used;
  setup_.log_guest_addr = setup.log_guest_addr;
}

void SplitQueue::log_used_write(std::uint64_t offset, std::uint64_t length) {
  if (log_ == nullptr || !setup_.log_used) return;
  log_->mark(GuestAddress(setup_.log_guest_addr.get() + offset), length);
}

}  // namespace fusewire::virtio
