// ChannelSlot: one request that came over /dev/fuse, with the memory for it and for its reply.
//
// A SlotPool lends a thread's slots, and gets each back when its request is answered, from whatever thread
// that happens in. A slot whose request the engine has given up (Engine::abandon) belongs to whoever still
// keeps the Call, and dies with that.
//
// What a request's views show (names, data) stays as it is until the thread takes its next request, even if
// the answer comes earlier: callbacks of C programs answer, and go on.
#pragma once

#include <linux/fuse.h>
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "devfuse/channel.h"
#include "fusewire/result.h"
#include "fusewire/slot.h"

namespace fusewire::devfuse {

class SlotPool;

// The room for the payload of any request, and for any reply's body, where WRITE and READ have at most
// `max_write` bytes. Whole pages.
std::size_t payload_room(std::size_t max_write);

class ChannelSlot final : public Slot {
 public:
  // `pool` and its channel must outlive every request but those that are given up. Throws std::bad_alloc.
  ChannelSlot(SlotPool& pool, std::size_t max_write);
  ~ChannelSlot() override;

  // Reads the next request into the slot, ready for Engine::submit; false when there is none. Errors: those
  // of Channel::read.
  Result<bool> receive();
  // Takes a request that somebody else has read. `request` must stay as it is until the request is answered.
  void accept(std::span<const std::byte> request);

  // For the pool, before it lends the slot again: the end of the last request's views.
  void release_head() { release_large_head(); }

  // The room for a request.
  std::span<std::byte> room() const { return {request_data_, request_room_}; }

  // Slot. The reply goes out on the calling thread.
  int done(RequestId unique, int error, std::size_t body_size) override;
  int done_with(RequestId unique, std::span<const iovec> body) override;
  int done_with_file(RequestId unique, const FileRange& range) override;
  void done_without_reply() override;
  void given_up() override { delete this; }

 private:
  int send(std::span<iovec> reply, RequestId unique, std::size_t body_size, int error);
  // Moves the range through a pipe; nullopt when that cannot be, and nothing was sent then.
  std::optional<int> splice(RequestId unique, const FileRange& range);
  void give_back();

  SlotPool& pool_;
  std::byte* mapping_ = nullptr;
  std::size_t mapping_size_ = 0;
  std::byte* request_data_ = nullptr;
  std::size_t request_room_ = 0;
  std::byte* reply_data_ = nullptr;
  std::size_t reply_size_ = 0;
  // What request and reply_room are views of; consuming those changes these.
  std::array<iovec, 1> request_vector_{};
  std::array<iovec, 1> reply_vector_{};
};

class SlotPool {
 public:
  // `max_write`: the largest WRITE and READ. `splice`: whether large parts of files go through a pipe.
  SlotPool(const Channel& channel, std::size_t max_write, bool splice)
      : channel_(channel), max_write_(max_write), splice_(splice) {}
  SlotPool(const SlotPool&) = delete;
  SlotPool& operator=(const SlotPool&) = delete;
  // No slot may be lent, but those that were given up.
  ~SlotPool();

  const Channel& channel() const { return channel_; }
  bool splices() const { return splice_; }

  // Lends a slot; null when memory ran out. From one thread.
  ChannelSlot* take();
  // From any thread.
  void give_back(ChannelSlot& slot);
  // How many slots are lent.
  std::size_t lent();

 private:
  const Channel& channel_;
  const std::size_t max_write_;
  const bool splice_;
  std::mutex mutex_;
  std::vector<ChannelSlot*> free_;
  std::size_t lent_ = 0;
};

}  // namespace fusewire::devfuse
