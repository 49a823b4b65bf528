// struct fuse_req: one request of a C file system, from its callback to its fuse_reply_*.
//
// Counted: the file system has one reference, which its reply gives back; so has whoever runs the callback,
// and an interrupt handler that is installed. A request that nobody waits for any more (the kernel has gone)
// loses its reply early: the file system's own reply then finds none, and returns -ENOENT.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "fusewire/call.h"
#include "libfuse/api.h"
#include "libfuse/known_ids.h"

struct fuse_req {
 public:
  fuse_req(fuse_session& owner, const fusewire::Header& header, std::uint32_t operation)
      : session(owner),
        opcode(operation),
        node(header.node.get()),
        context{.uid = header.uid.get(),
                .gid = header.gid.get(),
                .pid = static_cast<pid_t>(header.pid),
                .umask = 0} {}
  // One that no kernel sent.
  fuse_req(fuse_session& owner, std::uint64_t about, std::uint32_t operation)
      : session(owner), opcode(operation), node(about), context{} {}
  fuse_req(const fuse_req&) = delete;
  fuse_req& operator=(const fuse_req&) = delete;

  fuse_session& session;
  const std::uint32_t opcode;  // 0: one that no kernel sent
  const std::uint64_t node;
  fuse_ctx context;
  std::optional<fusewire::libfuse::Pins> pins;  // released with the last reference
  // A copy of what came in pieces or must not change any more.
  std::unique_ptr<std::byte[]> copy;

  void set_reply(fusewire::RawReply&& reply) { reply_.emplace(std::move(reply)); }
  void set_reply(fusewire::ReplyNone&& none) { none_.emplace(std::move(none)); }

  void ref() { references_.fetch_add(1); }
  void unref();

  // Takes the reply, for the one who answers; none when it is gone.
  std::optional<fusewire::RawReply> take_reply();
  // The room for a body in the transport's memory; the reply must be there.
  std::optional<fusewire::IoVecs> reply_room();

  // fuse_req_interrupted, fuse_req_interrupt_func
  bool interrupted();
  void set_interrupt_function(fuse_interrupt_func_t function, void* data);
  // Has interrupts and the end of the session reach this request while nobody is in its callback.
  void watch();

 private:
  ~fuse_req() = default;
  void on_interrupt(fusewire::InterruptReason reason);

  std::atomic<unsigned> references_{1};
  // Held while an interrupt function runs. Recursive: the function may set another one. Comes before mutex_.
  std::recursive_mutex call_mutex_;
  // For what follows. Recursive: a handler that is called while it is installed says so.
  std::recursive_mutex mutex_;
  std::optional<fusewire::RawReply> reply_;
  std::optional<fusewire::ReplyNone> none_;
  bool interrupted_ = false;
  bool watched_ = false;
  std::optional<fusewire::InterruptReason>* installing_ = nullptr;  // not null: where to leave the reason
  fuse_interrupt_func_t interrupt_function_ = nullptr;
  void* interrupt_data_ = nullptr;
};
