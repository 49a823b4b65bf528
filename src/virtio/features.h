// Feature bits of the virtio ring and of the file system device, as 64-bit masks (virtio 1.2, sections 6
// and 5.11.3).
#pragma once

#include <linux/virtio_config.h>
#define VIRTIO_RING_NO_LEGACY  // Its legacy layout helpers are not C++.
#include <linux/virtio_ring.h>

#include <cstdint>

namespace fusewire::virtio {

inline constexpr std::uint64_t kIndirectDesc = std::uint64_t{1} << VIRTIO_RING_F_INDIRECT_DESC;  // 28
inline constexpr std::uint64_t kEventIdx = std::uint64_t{1} << VIRTIO_RING_F_EVENT_IDX;          // 29
inline constexpr std::uint64_t kVersion1 = std::uint64_t{1} << VIRTIO_F_VERSION_1;               // 32
inline constexpr std::uint64_t kAccessPlatform = std::uint64_t{1} << VIRTIO_F_ACCESS_PLATFORM;   // 33
inline constexpr std::uint64_t kRingPacked = std::uint64_t{1} << VIRTIO_F_RING_PACKED;           // 34
inline constexpr std::uint64_t kInOrder = std::uint64_t{1} << VIRTIO_F_IN_ORDER;                 // 35
inline constexpr std::uint64_t kNotificationData = std::uint64_t{1} << 38;  // Newer than our header.
inline constexpr std::uint64_t kRingReset = std::uint64_t{1} << VIRTIO_F_RING_RESET;  // 40

// VIRTIO_FS_F_NOTIFICATION: the device has a notification queue (and notify_buf_size in its configuration).
inline constexpr std::uint64_t kFsNotification = std::uint64_t{1} << 0;

// Sizes a split ring may have: any power of two up to 32768 (virtio 1.2, 2.7).
inline constexpr unsigned kMaxRingSize = 32768;

}  // namespace fusewire::virtio
