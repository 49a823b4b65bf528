// Replies: one type for each kind of answer, so that a wrong kind of answer does not compile. Answering
// consumes the reply: `std::move(call.reply).ok(...)`. A reply that is dropped unanswered sends EIO
// (ReplyNone: nothing).
//
// A second answer is a mistake that is logged, and does nothing.
//
// A reply may be moved to another thread and answered there. Answering ends the life of the call's views
// (names, payload, room) and must be the last thing that is done with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "fusewire/bytes.h"
#include "fusewire/io_vecs.h"
#include "fusewire/result.h"
#include "fusewire/slot.h"
#include "fusewire/wire.h"

namespace fusewire {

class ReplyBase {
 public:
  ReplyBase(ReplyBase&& other) noexcept : slot_(std::exchange(other.slot_, nullptr)) {}
  ReplyBase& operator=(ReplyBase&&) = delete;
  ReplyBase(const ReplyBase&) = delete;

  // True once the kernel has interrupted this request, or the device is stopping.
  bool interrupted() const;

  // Calls `handler` when the request is interrupted, from the interrupting thread, or at once when it already
  // was. At most one call. The handler may run while, or shortly after, the request is answered: what it uses
  // must outlive that.
  void set_interrupt_handler(std::function<void(InterruptReason)> handler);

 protected:
  explicit ReplyBase(Slot& slot) : slot_(&slot) {}
  ~ReplyBase() = default;

  // Each returns what Slot::done() returned, and ENOTCONN for a request that was given up or answered before.
  int send(int error, std::size_t body_size);
  int send_vectors(std::span<const iovec> body);
  int send_file(const FileRange& range);
  void send_none();
  // For a reply that was dropped: EIO, or ENOMEM when memory ran out.
  void send_dropped();
  // Sends `body`; EIO when the kernel left no room for it.
  int send_bytes(std::span<const std::byte> body);
  bool pending() const { return slot_ != nullptr; }
  // The room for the body, at most `limit` bytes of it.
  IoVecs body_room(std::size_t limit) const;
  std::size_t body_capacity() const;
  std::size_t least_file_range() const { return slot_ != nullptr ? slot_->least_file_range : SIZE_MAX; }

 private:
  // Takes the request out of the engine, to be answered; null when it was given up.
  Slot* take_slot();

  Slot* slot_;
};

// For requests that have no answer: FORGET, BATCH_FORGET, NOTIFY_REPLY. There is nothing to send; the request
// ends when the reply is dropped.
class ReplyNone : public ReplyBase {
 public:
  static constexpr bool kHasReply = false;
  static constexpr std::size_t kBodySize = 0;
  explicit ReplyNone(Slot& slot) : ReplyBase(slot) {}
  ReplyNone(ReplyNone&&) noexcept = default;
  ~ReplyNone() {
    if (pending()) send_none();
  }
};

// The error itself if the kernel takes it as an answer (1 to 511), else EIO.
inline int answerable(int error) { return error > 0 && error < 512 ? error : EIO; }

// What all answers that exist have in common: an error is one of them.
class ReplyOrError : public ReplyBase {
 public:
  static constexpr bool kHasReply = true;
  // The least room for a body that the kernel must provide.
  static constexpr std::size_t kBodySize = 0;
  ReplyOrError(ReplyOrError&&) noexcept = default;

  // Answers with an errno (positive). 0 and numbers that the kernel would not take (above 511) become EIO.
  void error(int error) && { send(answerable(error), 0); }
  void error(Errno error) && { std::move(*this).error(error.value); }

 protected:
  explicit ReplyOrError(Slot& slot) : ReplyBase(slot) {}
  ~ReplyOrError() {
    if (pending()) send_dropped();
  }
};

// Success without a body.
class ReplyEmpty : public ReplyOrError {
 public:
  explicit ReplyEmpty(Slot& slot) : ReplyOrError(slot) {}
  ReplyEmpty(ReplyEmpty&&) noexcept = default;
  void ok() && { send(0, 0); }
};

// Success with one structure of the protocol.
template <class Out>
class ReplyStruct : public ReplyOrError {
 public:
  static constexpr std::size_t kBodySize = sizeof(Out);
  explicit ReplyStruct(Slot& slot) : ReplyOrError(slot) {}
  ReplyStruct(ReplyStruct&&) noexcept = default;
  void ok(const Out& out) && { send_bytes(bytes_of(out)); }
};

using ReplyEntry = ReplyStruct<fuse_entry_out>;
using ReplyAttr = ReplyStruct<fuse_attr_out>;
using ReplyOpen = ReplyStruct<fuse_open_out>;
using ReplyCreate = ReplyStruct<CreateOut>;
using ReplyStatfs = ReplyStruct<fuse_statfs_out>;
using ReplyLock = ReplyStruct<fuse_lk_out>;
using ReplyBmap = ReplyStruct<fuse_bmap_out>;
using ReplyPoll = ReplyStruct<fuse_poll_out>;
using ReplyLseek = ReplyStruct<fuse_lseek_out>;
using ReplyStatx = ReplyStruct<StatxOut>;
using ReplyCopied = ReplyStruct<CopyFileRangeOut>;
using ReplyInit = ReplyStruct<fuse_init_out>;
using ReplyCuseInit = ReplyStruct<cuse_init_out>;

// WRITE and COPY_FILE_RANGE: how many bytes were taken.
class ReplyWrite : public ReplyOrError {
 public:
  static constexpr std::size_t kBodySize = sizeof(fuse_write_out);
  explicit ReplyWrite(Slot& slot) : ReplyOrError(slot) {}
  ReplyWrite(ReplyWrite&&) noexcept = default;
  void ok(std::uint32_t written) && { send_bytes(bytes_of(fuse_write_out{.size = written, .padding = 0})); }
};

// READ, READDIR, READDIRPLUS, READLINK: bytes, at most as many as the request asks for.
class ReplyData : public ReplyOrError {
 public:
  // `limit`: the size that the request asks for.
  ReplyData(Slot& slot, std::size_t limit) : ReplyOrError(slot), limit_(limit) {}
  ReplyData(ReplyData&&) noexcept = default;

  // The room for the data, to be filled in place from its start. The list may be consumed: take it once.
  // There is none when the request has been given up.
  IoVecs room() const { return body_room(limit_); }
  // The first `size` bytes of room() hold the answer. `size` above the room's is EIO.
  void ok(std::size_t size) &&;
  // Copies the answer; EIO when it is larger than the room.
  void ok(std::span<const std::byte> data) &&;
  // The same from several pieces of memory; a transport that can sends them from where they are.
  void ok(std::span<const iovec> data) &&;
  // Bytes of a file, by splice(2) where the transport can, else read into the room. EIO when `range.size` is
  // larger than the room. It waits for what the host has to read from a disk.
  void ok(const FileRange& range) &&;
  // Whether the transport would send a FileRange of `size` bytes without copying it: what is worth a
  // different way to those who would otherwise fill room() themselves.
  bool moves_file_range(std::size_t size) const { return size >= least_file_range(); }

 private:
  std::size_t limit_;
};

// GETXATTR, LISTXATTR: a size when the request asks with size 0, else the value.
class ReplyXattr : public ReplyOrError {
 public:
  ReplyXattr(Slot& slot, std::size_t limit) : ReplyOrError(slot), limit_(limit) {}
  ReplyXattr(ReplyXattr&&) noexcept = default;

  // The value has `size` bytes; for a request that asks with size 0. It needs room for fuse_getxattr_out,
  // else EIO.
  void size(std::uint32_t size) && { send_bytes(bytes_of(fuse_getxattr_out{.size = size, .padding = 0})); }
  // The value; ERANGE when it is larger than the request allows.
  void ok(std::span<const std::byte> value) &&;

 private:
  std::size_t limit_;
};

// IOCTL: the result and the output data.
class ReplyIoctl : public ReplyOrError {
 public:
  static constexpr std::size_t kBodySize = sizeof(fuse_ioctl_out);
  ReplyIoctl(Slot& slot, std::size_t limit) : ReplyOrError(slot), limit_(limit) {}
  ReplyIoctl(ReplyIoctl&&) noexcept = default;
  // EIO when `data` is larger than the request's out_size.
  void ok(std::int32_t result, std::span<const std::byte> data) &&;

 private:
  std::size_t limit_;
};

// Any answer's last step, for layers that lay out the body themselves (the C API). It takes the place of a
// typed reply; whether the body is one that the operation may give is the caller's business.
class RawReply : public ReplyOrError {
 public:
  explicit RawReply(ReplyOrError&& typed) : ReplyOrError(std::move(typed)) {}
  RawReply(RawReply&&) noexcept = default;

  // The room that the kernel left for the body, in bytes.
  std::size_t capacity() const { return body_capacity(); }
  // The room itself, to be filled in place from its start.
  IoVecs room() const { return body_room(body_capacity()); }
  // Each returns 0, or the errno with which the kernel refused the answer (ENOENT: it was interrupted).
  int ok(std::size_t size_in_room) && { return send(0, size_in_room); }
  int ok(std::span<const iovec> body) && { return send_vectors(body); }
  int ok(const FileRange& range) && { return send_file(range); }
  // `error`: positive.
  int error_code(int error) && { return send(error, 0); }
};

}  // namespace fusewire
