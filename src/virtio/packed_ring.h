// What both sides of a packed virtqueue share (virtio 1.2, 2.8): where one stands in the ring, what makes a
// descriptor available or used, and the event suppression structures.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "virtio/features.h"

namespace fusewire::virtio {

// virtio 1.x rings are little-endian (1.4), and both sides access them in place.
static_assert(std::endian::native == std::endian::little);
static_assert(sizeof(vring_packed_desc) == 16 && offsetof(vring_packed_desc, flags) == 14);
static_assert(sizeof(vring_packed_desc_event) == 4 && offsetof(vring_packed_desc_event, flags) == 2);
static_assert(std::atomic_ref<std::uint32_t>::is_always_lock_free);

inline constexpr std::uint16_t kPackedAvail = 1 << VRING_PACKED_DESC_F_AVAIL;
inline constexpr std::uint16_t kPackedUsed = 1 << VRING_PACKED_DESC_F_USED;

// A descriptor of the ring, and the wrap counter of the turn in which one comes to it (2.8.1).
struct PackedPosition {
  std::uint16_t index = 0;
  bool wrap = true;

  // As vring base halves and event offsets have it: the wrap counter in bit 15.
  static PackedPosition from_word(std::uint16_t word) {
    return {static_cast<std::uint16_t>(word & 0x7fff), (word & 0x8000) != 0};
  }
  std::uint16_t word() const { return static_cast<std::uint16_t>(index | (wrap ? 0x8000 : 0)); }

  // `count` is at most `size`, the ring's.
  void advance(unsigned count, unsigned size) {
    const unsigned next = index + count;
    if (next >= size) wrap = !wrap;
    index = static_cast<std::uint16_t>(next >= size ? next - size : next);
  }
  // How many descriptors this is ahead of `other`; at most a turn when the two are in consecutive turns.
  int ahead_of(PackedPosition other, unsigned size) const {
    return int{index} - int{other.index} + (wrap != other.wrap ? static_cast<int>(size) : 0);
  }

  // 2.8.1: what the flags of a descriptor here say.
  bool is_available(std::uint16_t flags) const { return (flags & (kPackedAvail | kPackedUsed)) == avail(); }
  bool is_used(std::uint16_t flags) const { return (flags & (kPackedAvail | kPackedUsed)) == used(); }
  // The two bits that make it so.
  std::uint16_t avail() const { return wrap ? kPackedAvail : kPackedUsed; }
  std::uint16_t used() const { return wrap ? kPackedAvail | kPackedUsed : 0; }

  friend bool operator==(PackedPosition, PackedPosition) = default;
};

// SAFETY: `ring` is a mapped, 16-aligned descriptor ring and `index` lies in it; the flags are what the two
// sides hand descriptors over by, and are accessed only so while the other side may touch them.
inline std::atomic_ref<std::uint16_t> packed_flags(std::byte* ring, unsigned index) {
  std::byte* descriptor = ring + std::size_t{index} * sizeof(vring_packed_desc);
  return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(descriptor + offsetof(vring_packed_desc, flags)));
}

// One member of the descriptor at `index`, but for its flags: plain accesses, ordered by those of the flags.
// Member by member, because a copy of what was just written in parts would wait for all of them.
template <class T>
void store_member(std::byte* ring, unsigned index, std::size_t offset, T value) {
  std::memcpy(ring + std::size_t{index} * sizeof(vring_packed_desc) + offset, &value, sizeof(value));
}
template <class T>
T load_member(const std::byte* ring, unsigned index, std::size_t offset) {
  T value;
  std::memcpy(&value, ring + std::size_t{index} * sizeof(vring_packed_desc) + offset, sizeof(value));
  return value;
}

// SAFETY: `area` is a mapped, 4-aligned event suppression structure. Offset and flags are accessed as one, so
// that neither side sees one without the other.
inline std::atomic_ref<std::uint32_t> packed_event(std::byte* area) {
  return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(area));
}
inline std::uint32_t packed_event_word(std::uint16_t off_wrap, std::uint16_t flags) {
  return std::bit_cast<std::uint32_t>(vring_packed_desc_event{off_wrap, flags});
}

// 2.8.14: whether the other side, which wrote `event_word`, wants to hear of the last `count` descriptors
// before `now`. What the flags may not say counts as "always": a signal too many does no harm.
inline bool wants_packed_event(std::uint32_t event_word, bool event_idx, PackedPosition now,
                               std::uint32_t count, unsigned size) {
  const auto event = std::bit_cast<vring_packed_desc_event>(event_word);
  if (event.flags == VRING_PACKED_EVENT_FLAG_DISABLE) return false;
  if (event.flags != VRING_PACKED_EVENT_FLAG_DESC || !event_idx) return true;
  if (count >= size) return true;  // A whole turn: each descriptor has been passed.
  const int behind = now.ahead_of(PackedPosition::from_word(event.off_wrap), size);
  return behind >= 1 && behind <= static_cast<int>(count);
}

}  // namespace fusewire::virtio
