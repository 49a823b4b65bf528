#include "session/channel_slots.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace fusewire::session {

class ChannelSlots::MemorySlot final : public Slot {
 public:
  explicit MemorySlot(ChannelSlots& owner)
      : owner_(owner),
        in_(std::make_unique_for_overwrite<std::byte[]>(kRoom)),
        out_(std::make_unique_for_overwrite<std::byte[]>(kMaxWrite)) {}

  Result<void> receive() {
    const auto size = owner_.channel_.read({in_.get(), kRoom});
    if (!size) return fail(size.error());
    request_piece_ = {in_.get(), *size};
    reply_piece_ = {out_.get(), kMaxWrite};
    request = IoVecs({&request_piece_, 1});
    reply_room = IoVecs({&reply_piece_, 1});
    can_reply = true;
    return {};
  }

  int done(RequestId unique, int error, std::size_t body_size) override {
    const iovec body{.iov_base = out_.get(), .iov_len = body_size};
    return send(unique, error, {&body, 1});
  }
  int done_with(RequestId unique, std::span<const iovec> body) override {
    if (body.size() >= kMostPieces) return Slot::done_with(unique, body);
    return send(unique, 0, body);
  }
  void done_without_reply() override {
    release_large_head();
    owner_.give_back(this);
  }

 private:
  static constexpr std::size_t kRoom = kMaxWrite + devfuse::Channel::kLeastRoom;
  static constexpr std::size_t kMostPieces = 64;

  int send(RequestId unique, int error, std::span<const iovec> body) {
    fuse_out_header header{.len = sizeof header, .error = -error, .unique = unique.get()};
    std::array<iovec, kMostPieces> reply{iovec{.iov_base = &header, .iov_len = sizeof header}};
    std::copy(body.begin(), body.end(), reply.begin() + 1);
    for (const iovec& piece : body) header.len += static_cast<std::uint32_t>(piece.iov_len);
    const auto sent = owner_.channel_.write(std::span(reply).first(body.size() + 1));
    done_without_reply();  // the slot is another request's from here on
    return sent ? 0 : sent.error().value;
  }

  ChannelSlots& owner_;
  std::unique_ptr<std::byte[]> in_, out_;
  iovec request_piece_{}, reply_piece_{};
};

ChannelSlots::ChannelSlots(const devfuse::Channel& channel) : channel_(channel) {}

ChannelSlots::~ChannelSlots() {
  // An answer from another thread leaves the engine a moment before it is sent.
  std::unique_lock lock(mutex_);
  all_back_.wait(lock, [this] { return out_ == 0; });
}

Result<Slot*> ChannelSlots::receive() {
  auto slot = take();
  if (const auto received = slot->receive(); !received) {
    give_back(slot.release());
    return fail(received.error());
  }
  return slot.release();
}

std::unique_ptr<ChannelSlots::MemorySlot> ChannelSlots::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      auto slot = std::move(free_.back());
      free_.pop_back();
      ++out_;
      return slot;
    }
  }
  auto slot = std::make_unique<MemorySlot>(*this);
  const std::lock_guard lock(mutex_);
  ++out_;
  return slot;
}

void ChannelSlots::give_back(MemorySlot* slot) {
  std::unique_ptr<MemorySlot> owned(slot);  // let go of after the lock, if there are enough
  const std::lock_guard lock(mutex_);
  if (free_.size() < kMostKept) free_.push_back(std::move(owned));
  if (--out_ == 0) all_back_.notify_all();
}

}  // namespace fusewire::session
