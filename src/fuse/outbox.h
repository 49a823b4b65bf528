// Outbox: where an engine's notifications leave for the transport's NotificationChannel: directly, or by a
// queue with a thread of its own that starts with the first message.
//
// One for each engine, shared with its notifiers, which may outlive the engine. Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "fusewire/notification_channel.h"
#include "fusewire/result.h"

namespace fusewire {

class Notifier;

class Outbox {
 public:
  struct Message {
    std::shared_ptr<Notifier> from;
    std::vector<std::byte> bytes;
    std::uint64_t retrieve = 0;  // the id of the retrieve that it asks for; 0: none
  };

  Outbox() = default;
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;
  // stop() must have been called.
  ~Outbox();

  // Null: there is none. Returns when no thread uses the channel from before any more.
  void set_channel(NotificationChannel* channel);
  // Takes the channel away and ends the thread; what is queued is dropped.
  void stop();

  // Whether a message of `size` bytes can be sent: ENOSYS without a channel, EMSGSIZE.
  Result<void> admits(std::size_t size);
  // Sends on this thread.
  Result<void> send(std::span<const iovec> message);
  // Leaves it to the thread. EAGAIN when too much waits already, or there can be no thread.
  Result<void> post(Message message);
  // The state of a notifier has changed.
  void wake();
  std::uint64_t next_retrieve() { return ++last_retrieve_; }

 private:
  void run();
  void deliver(const Message& message);
  bool ensure_thread();

  std::mutex mutex_;
  std::condition_variable changed_;
  NotificationChannel* channel_ = nullptr;
  std::size_t senders_ = 0;  // threads inside channel_->send()
  bool stopping_ = false;
  std::deque<Message> messages_;
  std::size_t queued_bytes_ = 0;
  std::thread thread_;
  std::atomic<std::uint64_t> last_retrieve_{0};
};

}  // namespace fusewire
