// MessageSlot: one request that came as one message from /dev/fuse (or what a program put in its place), and
// MessageChannel, through which the answer goes back.
//
// A slot has two holders: whoever read the message, until the callback has returned (names in the request are
// views into it), and the engine, until the answer is sent. The last one puts it back into its pool.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "fusewire/notification_channel.h"
#include "fusewire/slot.h"
#include "libfuse/api.h"

namespace fusewire::libfuse {

// How whole messages move: by system calls, or by the functions of fuse_session_custom_io. Set up before it
// is used, by one thread; then from any.
class MessageChannel final : public NotificationChannel {
 public:
  void use(int fd) { fd_ = fd; }
  void use(int fd, const fuse_custom_io& io, void* userdata) {
    fd_ = fd;
    io_ = io;
    userdata_ = userdata;
  }
  int fd() const { return fd_; }
  bool is_custom() const { return io_.read != nullptr; }

  // One message; 0 bytes at the end of a stream.
  Result<std::size_t> read(int fd, std::span<std::byte> room) const;
  Result<void> write(int fd, std::span<const iovec> message) const;
  Result<void> send(std::span<const iovec> message) override { return write(fd_, message); }

 private:
  int fd_ = -1;
  fuse_custom_io io_{};
  void* userdata_ = nullptr;
};

class SlotPool;

// Memory at the start of a page, as descriptors opened with O_DIRECT need it.
struct FreePages {
  void operator()(std::byte* memory) const;
};
using Pages = std::unique_ptr<std::byte[], FreePages>;

class MessageSlot final : public Slot {
 public:
  MessageSlot(SlotPool& pool, std::size_t size);

  // Memory for a message, of the pool's message size; the data of a WRITE begin at a page then.
  std::span<std::byte> room();
  // The request stands in `message`, which stays until the reader's reference is given back. The answer goes
  // to `fd`.
  void begin(int fd, std::span<std::byte> message);
  void unref();

  int done(RequestId unique, int error, std::size_t body_size) override;
  int done_with(RequestId unique, std::span<const iovec> body) override;
  void done_without_reply() override { unref(); }

 private:
  int send(RequestId unique, int error, std::span<const iovec> body);

  SlotPool& pool_;
  const std::size_t size_;
  Pages message_;
  Pages body_;
  iovec request_vector_{};
  iovec body_vector_{};
  int fd_ = -1;
  std::atomic<unsigned> references_{0};
};

// Slots for messages of at most `size` bytes. Thread-safe. Must outlive what it lends.
class SlotPool {
 public:
  SlotPool(MessageChannel& channel, std::size_t size) : channel_(channel), size_(size) {}
  // A slot with the reader's reference.
  MessageSlot* take();
  void give_back(MessageSlot* slot);
  MessageChannel& channel() { return channel_; }

 private:
  static constexpr std::size_t kKept = 16;
  MessageChannel& channel_;
  const std::size_t size_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<MessageSlot>> free_;
};

}  // namespace fusewire::libfuse
