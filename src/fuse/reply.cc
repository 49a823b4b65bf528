#include "fusewire/reply.h"

#include <array>
#include <exception>

#include "base/log.h"
#include "fuse/engine.h"

namespace fusewire {
namespace {

std::size_t bytes_in(std::span<const iovec> parts) {
  std::size_t size = 0;
  for (const iovec& part : parts) size += part.iov_len;
  return size;
}

}  // namespace

bool ReplyBase::interrupted() const {
  // SAFETY: relaxed, the flag carries no other data.
  return slot_ != nullptr && slot_->interrupted_.load(std::memory_order_relaxed);
}

void ReplyBase::set_interrupt_handler(std::function<void(InterruptReason)> handler) {
  if (slot_ == nullptr) return;  // answered
  Slot& slot = *slot_;
  if (!slot.claim()) return handler(InterruptReason::stopping);  // the engine may be gone
  // From here on the handler may run, and answer: this object is not looked at any more.
  const auto already = slot.engine_->set_interrupt_handler(slot, handler);
  slot.unclaim();
  if (already) handler(*already);
}

Slot* ReplyBase::take_slot() {
  Slot* slot = std::exchange(slot_, nullptr);
  if (slot == nullptr) {
    log::error("the file system answered a call that it had answered already");
    return nullptr;
  }
  if (!slot->claim()) {
    slot->given_up();
    return nullptr;
  }
  slot->engine_->finish(*slot);
  return slot;
}

int ReplyBase::send(int error, std::size_t body_size) {
  Slot* slot = take_slot();
  if (slot == nullptr) return ENOTCONN;
  log_answer(slot->unique_, error, body_size);
  return slot->done(slot->unique_, error, body_size);
}

int ReplyBase::send_vectors(std::span<const iovec> body) {
  Slot* slot = take_slot();
  if (slot == nullptr) return ENOTCONN;
  if (log::enabled(log::Level::debug)) log_answer(slot->unique_, 0, bytes_in(body));
  return slot->done_with(slot->unique_, body);
}

int ReplyBase::send_file(const FileRange& range) {
  Slot* slot = take_slot();
  if (slot == nullptr) return ENOTCONN;
  log_answer(slot->unique_, 0, range.size);
  return slot->done_with_file(slot->unique_, range);
}

void ReplyBase::send_none() {
  if (Slot* slot = take_slot()) slot->done_without_reply();
}

void ReplyBase::send_dropped() {
  // Nobody but want of memory throws, unless it is the file system's own exception: Engine::error_of logs it.
  send(std::uncaught_exceptions() != 0 ? ENOMEM : EIO, 0);
}

int ReplyBase::send_bytes(std::span<const std::byte> body) {
  Slot* slot = take_slot();
  if (slot == nullptr) return ENOTCONN;
  log_answer(slot->unique_, 0, body.size());
  // Only now: the room of a request that was given up may be somebody else's.
  if (slot->reply_room.copy_from(body) != body.size()) return slot->done(slot->unique_, EIO, 0);
  return slot->done(slot->unique_, 0, body.size());
}

IoVecs ReplyBase::body_room(std::size_t limit) const {
  if (slot_ == nullptr || !slot_->claim()) return {};
  slot_->lent_ = true;
  slot_->unclaim();
  IoVecs room = slot_->reply_room;
  room.truncate(limit);
  return room;
}

std::size_t ReplyBase::body_capacity() const { return slot_ != nullptr ? slot_->reply_room.size() : 0; }

void ReplyData::ok(std::size_t size) && {
  if (size > limit_ || size > body_capacity()) {
    send(EIO, 0);
  } else {
    send(0, size);
  }
}

void ReplyData::ok(std::span<const std::byte> data) && {
  if (data.size() > limit_) {
    send(EIO, 0);
  } else {
    send_bytes(data);
  }
}

void ReplyData::ok(std::span<const iovec> data) && {
  if (bytes_in(data) > limit_) {
    send(EIO, 0);
  } else {
    send_vectors(data);
  }
}

void ReplyData::ok(const FileRange& range) && {
  if (range.size > limit_) {
    send(EIO, 0);
  } else {
    send_file(range);
  }
}

void ReplyXattr::ok(std::span<const std::byte> value) && {
  if (value.size() > limit_ || value.size() > body_capacity()) {
    send(ERANGE, 0);
  } else {
    send_bytes(value);
  }
}

void ReplyIoctl::ok(std::int32_t result, std::span<const std::byte> data) && {
  if (data.size() > limit_ || sizeof(fuse_ioctl_out) + data.size() > body_capacity()) {
    send(EIO, 0);
    return;
  }
  fuse_ioctl_out out{.result = result, .flags = 0, .in_iovs = 0, .out_iovs = 0};
  // SAFETY: a body is only read.
  const std::array<iovec, 2> body{iovec{&out, sizeof out},
                                  {const_cast<std::byte*>(data.data()), data.size()}};
  send_vectors(body);
}

}  // namespace fusewire
