// The worker of the notification queue: it serves no requests, but fills the driver's buffers with what waits
// in a NotificationChannel (virtio 1.2, 5.11.6.3). A buffer is taken off the ring only for a message that is
// there, and is returned in the same turn, so that there is nothing to drain when the queue is stopped.
#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "virtiofs/notification_channel.h"
#include "virtiofs/queue_worker.h"

namespace fusewire::virtiofs {
namespace {

// A turn ends after this many chains, for a guest could go on offering bad ones.
constexpr int kTurnChains = 64;

// Copies the message into the ranges, which have room for it and stay as they are.
void copy(std::span<const iovec> message, std::span<const iovec> ranges) {
  std::size_t filled = 0;  // of ranges.front()
  for (const iovec& piece : message) {
    const auto* from = static_cast<const std::byte*>(piece.iov_base);
    for (std::size_t left = piece.iov_len; left != 0;) {
      const iovec& range = ranges.front();
      const std::size_t n = std::min(left, range.iov_len - filled);
      if (n != 0) std::memcpy(static_cast<std::byte*>(range.iov_base) + filled, from, n);
      from += n;
      left -= n;
      filled += n;
      if (filled != range.iov_len) continue;
      ranges = ranges.subspan(1);
      filled = 0;
    }
  }
}

}  // namespace

// Returns whether a chain was taken.
bool QueueWorker::send_notifications() {
  virtio::DeviceQueue* const queue = wanted_queue();
  if (queue == nullptr) return false;
  queue->disable_kicks();
  int taken = 0;
  const auto fill = [&](std::span<const iovec> message, std::size_t size) {
    while (taken < kTurnChains) {
      QueueSlot& slot = free_slot();
      const virtio::Pop popped = queue->pop(slot.chain(), *map_);
      if (popped == virtio::Pop::broken) ring_broken();
      if (popped == virtio::Pop::nothing || popped == virtio::Pop::broken) return false;
      ++taken;
      const bool sent = popped == virtio::Pop::chain && fill_buffer(slot, message, size);
      queue->push_used(slot.chain().id, sent ? static_cast<std::uint32_t>(size) : 0);
      slot.release_excess();
      if (sent) return true;
    }
    return false;
  };
  while (notifications_->offer(fill)) {
  }
  return taken != 0;
}

// False when the driver's buffer is smaller than it must be.
bool QueueWorker::fill_buffer(QueueSlot& slot, std::span<const iovec> message, std::size_t size) {
  const virtio::Chain& chain = slot.chain();
  if (chain.writable_size < size) {
    static log::RateLimit limit;
    log::warn_limited(limit, "queue {}: a buffer of {} bytes cannot hold a notification of {}", queue_index_,
                      chain.writable_size, size);
    return false;
  }
  copy(message, chain.writable);
  if (log_) log_->mark_written(*map_, chain.writable, size);
  return true;
}

}  // namespace fusewire::virtiofs
