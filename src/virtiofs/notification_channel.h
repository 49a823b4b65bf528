// NotificationChannel: notifications on their way into the buffers that the guest's driver has put on the
// notification queue (virtio 1.2, 5.11.6.3). The thread that sends one waits here until the queue's worker
// has copied it into a buffer; there is no verdict of the guest's kernel to wait for.
//
// Nothing is lost while the queue is stopped or the VM paused: who waits goes on waiting, as long as its
// patience lasts.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>

#include "fusewire/notification_channel.h"

namespace fusewire::virtiofs {

class NotificationChannel final : public fusewire::NotificationChannel {
 public:
  // The least size for the driver's buffers: a name of 1024 bytes with what stands before it.
  static constexpr std::uint32_t kLeastBuffer = 2048;

  // `buffer_size`: notify_buf_size, what every buffer of the driver's has room for. `patience`: how long
  // send() waits for one. `wake` makes the worker take its next turn; from any thread.
  NotificationChannel(std::uint32_t buffer_size, std::chrono::milliseconds patience,
                      std::function<void()> wake)
      : buffer_size_(buffer_size), patience_(patience), wake_(std::move(wake)) {}

  // fusewire::NotificationChannel. EAGAIN when the driver provided no buffer in time.
  std::size_t max_size() const override { return buffer_size_; }
  Result<void> send(std::span<const iovec> message) override;

  // From the control thread. Closed, as at first: all that waits, and all that comes, gets ENOTCONN.
  void open();
  void close();

  // For the worker: whether a message waits.
  bool waiting() const { return count_.load() != 0; }
  // Offers the oldest message, if there is one, to `take`, which returns whether it has taken it; then the
  // sender goes on. No sender gives up meanwhile. Returns what `take` did.
  bool offer(const std::function<bool(std::span<const iovec> message, std::size_t size)>& take);

 private:
  struct Waiting {
    std::span<const iovec> message;
    bool ended = false;
    Result<void> result;
  };
  void end(Waiting& waiting, Result<void> result);

  const std::uint32_t buffer_size_;
  const std::chrono::milliseconds patience_;
  const std::function<void()> wake_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool open_ = false;
  std::deque<Waiting*> waiting_;
  std::atomic<std::size_t> count_{0};  // of waiting_
};

}  // namespace fusewire::virtiofs
