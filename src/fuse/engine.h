// Engine: the protocol engine between a transport and a FileSystem. One object for one served device.
//
// submit() takes a request through: header copied once, row of the op table, arguments and names decoded, the
// FileSystem's method called with a Call. It runs the method on the calling thread; the answer may come from
// any thread, before or after submit() returns.
//
// Requests run in parallel; INIT and DESTROY run alone. Before a successful INIT everything gets EIO; a
// second INIT means that the guest rebooted: the FileSystem is destroyed and initialised again.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "fuse/in_flight.h"
#include "fuse/outbox.h"
#include "fusewire/backing_file.h"
#include "fusewire/file_system.h"
#include "fusewire/notifier.h"
#include "fusewire/slot.h"

namespace fusewire {

class Engine {
 public:
  // `file_system` must outlive the engine.
  explicit Engine(FileSystem& file_system) : file_system_(file_system) {}
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  // No request may be in flight. Destroys the file system's state like DESTROY.
  ~Engine();

  // Serves the request in `slot` (see slot.h for what the transport promises). From any thread.
  void submit(Slot& slot);

  // For a thread of the transport before its first submit(): see FileSystem::thread_work().
  std::unique_ptr<ThreadWork> thread_work() { return file_system_.thread_work(); }

  // Ends the waits (locks, interrupts that wait for their request) of the requests of one queue, or of all,
  // so that their slots come back soon. From any thread but one whose own request is being served.
  void end_waits(std::optional<unsigned> queue);

  // The kernel is gone without a word: what DESTROY does. Waits for the requests in flight.
  void reset();

  // How notifications (see notifier.h) reach the kernel; null, as at first: not at all, they give ENOSYS. The
  // channel must live until another one, or null, takes its place; that waits for the sends which are under
  // way, so that the transport must have them end (by an abort of the connection, say). From any thread but
  // one inside submit().
  void set_notification_channel(NotificationChannel* channel) { outbox_->set_channel(channel); }

  // How backing files (see backing_file.h) reach the kernel; null, as at first: not at all. Holds from the
  // next INIT on. The channel must live until another one, or null, takes its place; the backing files that
  // there are let go of it then. From any thread but one inside submit().
  void set_backing_channel(BackingChannel* channel);

  // As reset(), but waits no longer than `grace`: requests that are not answered until then are given up. To
  // answer them later is allowed and does nothing, even after the engine is gone; see Slot::given_up. Returns
  // how many they are. No thread may be inside submit().
  InFlight::Abandoned abandon(std::chrono::milliseconds grace);

  // For a queue that is stopped while the others go on: gives up those of its requests that are not answered
  // yet, and returns their slots. given_up() may come to a slot before this returns: the transport must not
  // free a slot there that it still wants to look at. No thread may be inside submit() with a request of the
  // queue.
  std::vector<Slot*> abandon_queue(unsigned queue) { return in_flight_.abandon_queue(queue); }

  // What the transport is able to do; holds from the next INIT on.
  struct Transport {
    std::uint32_t max_write = UINT32_MAX;  // bounds what the file system asks for
    bool abort_error = false;              // FUSE_ABORT_ERROR: it tells an abort from an unmount
    // How long INIT and DESTROY wait for the requests in flight before they fail with EBUSY.
    std::chrono::milliseconds patience{60'000};
    bool over_io_uring = false;  // FUSE_OVER_IO_URING: it takes requests that way too
  };
  void set_transport(const Transport& transport) { transport_ = transport; }

  // With which error the last INIT was refused; 0: it was not. For when its answer has been sent.
  Errno refusal() const { return Errno{refusal_.load(std::memory_order_acquire)}; }
  // What the kernel lacks if that is why; else empty. For the thread that submitted INIT, or after it.
  const std::string& lacking() const { return lacking_; }
  // Whether the answer to the last INIT said FUSE_OVER_IO_URING. For the thread that submitted INIT, and in
  // requests that came after it.
  bool over_io_uring() const { return over_io_uring_; }

  // True between a successful INIT and DESTROY or reset().
  bool initialized() const { return initialized_.load(std::memory_order_acquire); }

 private:
  friend class ReplyBase;

  using Serve = void (Engine::*)(Slot&, const fuse_in_header&);
  struct Row {
    std::uint32_t opcode = 0;
    const char* name = nullptr;
    bool has_reply = true;
    std::size_t reply_size = 0;  // the body's least room
    Serve serve = nullptr;
  };
  static const Row* find_row(std::uint32_t opcode);
  template <class Op>
  static constexpr Row row_of(Serve serve);

  template <class Op>
  void serve(Slot& slot, const fuse_in_header& in);
  template <class Op>
  void call_file_system(Slot& slot, const fuse_in_header& in);
  template <class Op>
  bool fetch_arguments(Slot& slot, typename Op::In& arguments);
  template <class Op>
  bool fetch_tail(Slot& slot, const fuse_in_header& in, const typename Op::In& arguments,
                  typename Op::Tail& tail);
  void serve_init(Slot& slot, const fuse_in_header& in);
  void serve_destroy(Slot& slot, const fuse_in_header& in);
  void serve_interrupt(Slot& slot, const fuse_in_header& in);
  void serve_notify_reply(Slot& slot, const fuse_in_header& in);

  // INIT's two outcomes; both run alone.
  void initialize(Slot& slot, const fuse_init_in& in);
  void refuse(Slot& slot, int error);
  void forget_kernel();
  // Runs `section` alone; or, when that cannot be for too long, answers the request with EBUSY and returns
  // false.
  bool alone(Slot& slot, const std::function<void()>& section);
  void offer_backing_files(Negotiation& negotiation);
  void withdraw_backing_files();

  // What an exception that came out of the file system means as an answer; logs it.
  static int error_of(const std::exception& exception, const char* where);
  // Answers a request that is not in flight.
  static void answer_error(Slot& slot, int error);
  void answer_malformed(Slot& slot, const char* what);

  // For ReplyBase: the request is about to be answered.
  void finish(Slot& slot) { in_flight_.leave(slot); }
  std::optional<InterruptReason> set_interrupt_handler(Slot& slot,
                                                       std::function<void(InterruptReason)>& handler) {
    return in_flight_.set_interrupt_handler(slot, handler);
  }

  // INTERRUPTs that came before their request, waiting for it or for any other one.
  struct PendingInterrupt {
    RequestId target;
    Slot* slot;
  };
  void meet_pending_interrupts(Slot& arrived);
  // Answers those of `queue` (nullopt: all) with EAGAIN.
  void flush_pending_interrupts(std::optional<unsigned> queue);

  FileSystem& file_system_;
  Transport transport_;
  InFlight in_flight_;
  std::atomic<bool> initialized_{false};
  std::atomic<int> refusal_{0};
  std::string lacking_;
  const std::shared_ptr<Outbox> outbox_ = std::make_shared<Outbox>();
  // Written with no request in flight, read by requests in flight.
  std::shared_ptr<Notifier> notifier_;  // the present kernel's; null before the first
  std::mutex backing_mutex_;
  BackingChannel* backing_channel_ = nullptr;
  std::shared_ptr<BackingFiles> backing_files_;  // the present kernel's; null: there are none
  bool setxattr_ext_ = false;
  bool security_ctx_ = false;
  bool over_io_uring_ = false;

  static constexpr std::size_t kMaxPendingInterrupts = 64;
  std::mutex pending_mutex_;
  std::vector<PendingInterrupt> pending_interrupts_;
  std::atomic<std::size_t> pending_count_{0};
};

// At the level "debug", a line of what a request is answered with, as submit() writes one of the request.
void log_answer(RequestId unique, int error, std::size_t body_size);

}  // namespace fusewire
