// Slot: what a transport lends the engine for one request.
//
// The transport fills request() and reply_room(), hands the slot to Engine::submit and must keep it alive
// and untouched until done() or done_without_reply() is called: exactly one of them, exactly once, from any
// thread. After that call the engine never touches the slot again, and the transport may use it for the next
// request.
//
// The scatter lists may point at guest memory, which changes under us. Header, arguments and names are
// therefore copied once into the slot's head and only the copy is looked at; payload is touched by vectored
// system calls alone.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <thread>
#include <vector>

#include "fusewire/io_vecs.h"
#include "fusewire/wire.h"

namespace fusewire {

class Engine;

// Bytes of an open file, as the body of a reply.
struct FileRange {
  int fd = -1;               // must stay open until the reply is sent
  std::int64_t offset = -1;  // -1: from the file's own position, which moves (a pipe, a socket)
  std::size_t size = 0;      // at most; the reply is shorter where the file ends
};

// Why a request that waits should give up.
enum class InterruptReason {
  interrupted,  // the kernel sent INTERRUPT: answer EINTR
  stopping,     // the device stops or the file system goes away: answer at once
};

class Slot {
 public:
  virtual ~Slot() = default;
  Slot() = default;
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

  // The request left to read, header first.
  IoVecs request;
  // The room for a reply's body. The room for fuse_out_header stays with the transport: `can_reply` says that
  // it exists.
  IoVecs reply_room;
  bool can_reply = false;
  // Part of a file of this size or more costs the transport less as a file range (done_with_file) than read
  // into the reply's room. The transport sets it; as it stands here, no range does.
  std::size_t least_file_range = SIZE_MAX;
  // Which of the transport's queues this came from. Only a hint that spreads locks; any number will do.
  unsigned queue = 0;

  // The request is answered: the transport writes fuse_out_header{unique, -error} in front of `body_size`
  // bytes that stand in the reply room already, and sends both. `error` is a positive errno or 0; body_size
  // is 0 with an error.
  // Returns 0, or the errno with which the kernel refused the reply (ENOENT: nobody waits for it any more).
  virtual int done(RequestId unique, int error, std::size_t body_size) = 0;
  // The same for a success whose body stands in memory of the caller's, which is not looked at after the
  // return. The default copies it into the reply room; what is longer than that room becomes EIO.
  virtual int done_with(RequestId unique, std::span<const iovec> body);
  // The same for a body that is part of a file. The default reads it into the reply room. A file that cannot
  // be read gives its errno as the answer; so does one that has offsets and of which only a part can be read.
  virtual int done_with_file(RequestId unique, const FileRange& range);
  // The request is over and has no reply (FORGET, or one that cannot be answered).
  virtual void done_without_reply() = 0;
  // In the place of the three, long after: the engine has given this request up (Engine::abandon), and now
  // its Call has been answered or dropped. Engine and transport may be gone; the slot is the caller's own
  // affair. A transport that abandons requests must let go of their slots and free them here. Engine and
  // reply write nothing to the slot's memory by then; a file system may still use what it was lent (lent()).
  // The default does nothing.
  virtual void given_up() {}

 protected:
  // done_with_file's default, where the range's first `size` bytes stand in the reply room already.
  int done_with_rest(RequestId unique, const FileRange& range, std::size_t size);
  // For a transport that uses slots again: gives back the memory that a long request made the slot take.
  // Between two requests only.
  void release_large_head();
  // For a transport whose request has been given up. Whether the file system has got hold of the payload or
  // of the reply's room, which it then may read or write as long as it keeps the Call.
  bool lent() const { return lent_; }
  RequestId unique() const { return unique_; }

 private:
  friend class Engine;
  friend class InFlight;
  friend class ReplyBase;

  // Makes the slot ready for a new request.
  void begin(Engine& engine);
  // Extends the head to the request's first `size` bytes, copying only what it does not have yet. Earlier
  // views of the head die. False when the request is shorter, or `size` is above kMaxHead.
  bool fetch_head(std::size_t size);
  std::span<const std::byte> head() const { return {head_data_, head_size_}; }

  // More than the largest argument that is copied: BATCH_FORGET of 8192 nodes, a 64 KiB xattr with its name.
  static constexpr std::size_t kMaxHead = std::size_t{256} * 1024;
  static constexpr std::size_t kInlineHead = 344;  // header, arguments and a NAME_MAX name

  // Whose the request is. The answering thread and Engine::abandon both want it; one of them gets it.
  enum class Hold : std::uint8_t { served, answering, abandoned };
  // False when the request has been abandoned. Two may want it at once: who installs an interrupt handler,
  // and the handler, which may run and answer before that is done.
  bool claim() {
    for (;;) {
      Hold expected = Hold::served;
      if (hold_.compare_exchange_weak(expected, Hold::answering, std::memory_order_acq_rel)) return true;
      if (expected == Hold::abandoned) return false;
      std::this_thread::yield();
    }
  }
  bool abandon() {
    Hold expected = Hold::served;
    return hold_.compare_exchange_strong(expected, Hold::abandoned, std::memory_order_acq_rel);
  }
  void unclaim() { hold_.store(Hold::served, std::memory_order_release); }

  // The engine's record of the request while it is in flight (engine.h and in_flight.h).
  std::atomic<Hold> hold_{Hold::served};
  bool lent_ = false;  // written by whoever has claimed the slot, or before the Call exists
  Engine* engine_ = nullptr;
  RequestId unique_{};
  std::uint32_t opcode_ = 0;
  std::atomic<bool> interrupted_{false};
  InterruptReason interrupt_reason_ = InterruptReason::interrupted;
  Slot* next_ = nullptr;
  Slot* previous_ = nullptr;
  std::function<void(InterruptReason)> on_interrupt_;

  alignas(8) std::array<std::byte, kInlineHead> inline_head_;
  std::byte* head_data_ = inline_head_.data();
  std::size_t head_size_ = 0;
  std::vector<std::byte> large_head_;
};

}  // namespace fusewire
