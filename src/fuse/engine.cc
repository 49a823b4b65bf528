#include "fuse/engine.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <utility>

#include "base/log.h"
#include "fuse/request_scope.h"

namespace fusewire {
namespace {

// What the engine says for itself when it cannot follow the kernel's INIT.
fuse_init_out version_only() {
  fuse_init_out out{};
  out.major = kMajor;
  out.minor = kMinor;
  return out;
}

}  // namespace

Engine::~Engine() {
  reset();
  outbox_->stop();
}

void Engine::submit(Slot& slot) {
  const RequestScope scope;
  slot.begin(*this);
  const std::size_t request_size = slot.request.size();
  if (!slot.fetch_head(sizeof(fuse_in_header))) {
    static log::RateLimit limit;
    log::warn_limited(limit, "a request of {} bytes has no FUSE header", request_size);
    return slot.done_without_reply();
  }
  fuse_in_header in;
  std::memcpy(&in, slot.head().data(), sizeof in);
  slot.unique_ = RequestId{in.unique};
  slot.opcode_ = in.opcode;

  const Row* row = find_row(in.opcode);
  if (row == nullptr) {
    log::debug("{}: unknown opcode {}", in.unique, in.opcode);
    return answer_error(slot, ENOSYS);
  }
  log::debug("{}: {} at node {}, {} bytes, from process {}", in.unique, row->name, in.nodeid, in.len, in.pid);
  // What has no answer gets none, not even when it is malformed. INTERRUPT has one: EAGAIN.
  if (!row->has_reply && in.opcode != FUSE_INTERRUPT) slot.can_reply = false;
  if (in.len < sizeof in || in.len > request_size) return answer_malformed(slot, "bad length");
  slot.request.truncate(in.len - sizeof in);
  if (row->has_reply && (!slot.can_reply || slot.reply_room.size() < row->reply_size))
    return answer_malformed(slot, "no room for the reply");
  (this->*row->serve)(slot, in);
}

int Engine::error_of(const std::exception& exception, const char* where) {
  static log::RateLimit limit;
  const bool memory = dynamic_cast<const std::bad_alloc*>(&exception) != nullptr;
  log::emit_limited(limit, log::Level::error, "an exception came out of {}: {}", where, exception.what());
  return memory ? ENOMEM : EIO;
}

void log_answer(RequestId unique, int error, std::size_t body_size) {
  if (!log::enabled(log::Level::debug)) return;
  if (error != 0) return log::debug("{}: {}", unique.get(), to_string(Errno{error}));
  log::debug("{}: answered, {} bytes", unique.get(), body_size);
}

void Engine::answer_error(Slot& slot, int error) {
  if (slot.can_reply) {
    log_answer(slot.unique_, error, 0);
    slot.done(slot.unique_, error, 0);
  } else {
    slot.done_without_reply();
  }
}

void Engine::answer_malformed(Slot& slot, const char* what) {
  const Row* row = find_row(slot.opcode_);
  static log::RateLimit limit;
  log::warn_limited(limit, "malformed {} request: {}", row != nullptr ? row->name : "unknown", what);
  answer_error(slot, EINVAL);
}

void Engine::serve_init(Slot& slot, const fuse_in_header&) {
  // Kernels before 7.36 send the first 16 bytes of fuse_init_in.
  static constexpr std::size_t kOldSize = offsetof(fuse_init_in, flags2);
  fuse_init_in in{};
  const std::size_t size = std::min(sizeof in, slot.request.size());
  if (size < kOldSize || !slot.fetch_head(sizeof(fuse_in_header) + size))
    return answer_malformed(slot, "bad arguments");
  std::memcpy(&in, slot.head().data() + sizeof(fuse_in_header), size);

  if (in.major > kMajor) {
    // The kernel reads our version off this answer and sends a second INIT that speaks it.
    const fuse_init_out out = version_only();
    slot.reply_room.copy_from(bytes_of(out));
    slot.done(slot.unique_, 0, sizeof out);
    return;
  }
  if (in.major < kMajor || in.minor < kOldestMinor) {
    static log::RateLimit limit;
    log::emit_limited(limit, log::Level::error, "the kernel speaks FUSE {}.{}; {}.{} or later is needed",
                      in.major, in.minor, kMajor, kOldestMinor);
    return refuse(slot, EPROTO);
  }
  alone(slot, [&] { initialize(slot, in); });
}

bool Engine::alone(Slot& slot, const std::function<void()>& section) {
  flush_pending_interrupts(std::nullopt);
  if (in_flight_.exclusive_within(transport_.patience, section)) return true;
  static log::RateLimit limit;
  log::warn_limited(limit, "{} fails: requests that nobody answers stand in its way",
                    find_row(slot.opcode_)->name);
  answer_error(slot, EBUSY);
  return false;
}

void Engine::initialize(Slot& slot, const fuse_init_in& in) {
  // The guest may send INIT as often as it likes.
  static log::RateLimit limit;
  const bool rebooted = initialized();
  forget_kernel();
  Negotiation negotiation(in);
  // SAFETY: make_shared does not reach the constructor, which is for engines only.
  notifier_ = std::shared_ptr<Notifier>(new Notifier(outbox_, negotiation.kernel_minor(),
                                                     negotiation.offered(Cap::has_expire_only),
                                                     negotiation.offered(Cap::has_resend)));
  negotiation.notifier_ = notifier_;
  offer_backing_files(negotiation);
  if (transport_.abort_error) negotiation.want(Cap::abort_error);
  // The kernel would wait for queues that nobody makes.
  if (!transport_.over_io_uring) negotiation.withhold(Cap::over_io_uring);
  over_io_uring_ = negotiation.want(Cap::over_io_uring);
  lacking_.clear();
  int error = 0;
  try {
    if (const auto ready = file_system_.init(negotiation); !ready) error = answerable(ready.error().value);
  } catch (const std::exception& exception) {
    error = error_of(exception, "FileSystem::init");
  }
  if (error == 0 && !negotiation.missing().empty()) {
    lacking_ = negotiation.missing();
    log::emit_limited(limit, log::Level::error, "the kernel lacks what this file system needs: {}", lacking_);
    notifier_->disconnect();
    file_system_.destroy();
    error = EOPNOTSUPP;
  }
  if (error != 0) {
    notifier_->disconnect();
    withdraw_backing_files();
    return refuse(slot, error);
  }
  negotiation.max_write = std::min(negotiation.max_write, transport_.max_write);
  setxattr_ext_ = negotiation.enabled(Cap::setxattr_ext);
  security_ctx_ = negotiation.enabled(Cap::security_ctx);
  initialized_.store(true, std::memory_order_release);
  refusal_.store(0, std::memory_order_release);
  const fuse_init_out out = negotiation.reply();
  log::emit_limited(limit, log::Level::info,
                    "INIT{}: kernel FUSE {}.{}, flags {:#x} {:#x}, max_write {}, max_pages {}",
                    rebooted ? " of a guest that has rebooted" : "", in.major, in.minor, out.flags,
                    out.flags2, out.max_write, out.max_pages);
  slot.reply_room.copy_from(bytes_of(out));
  slot.done(slot.unique_, 0, sizeof out);
  notifier_->connect();
}

void Engine::refuse(Slot& slot, int error) {
  refusal_.store(error, std::memory_order_release);
  answer_error(slot, error);
}

void Engine::forget_kernel() {
  if (!initialized()) return;
  notifier_->disconnect();
  file_system_.destroy();
  withdraw_backing_files();
  initialized_.store(false, std::memory_order_release);
}

void Engine::offer_backing_files(Negotiation& negotiation) {
  const std::lock_guard lock(backing_mutex_);
  if (backing_channel_ == nullptr) return negotiation.withhold(Cap::passthrough);
  // SAFETY: make_shared does not reach the constructor, which is for engines only.
  backing_files_ = std::shared_ptr<BackingFiles>(new BackingFiles(backing_channel_));
  negotiation.backing_files_ = backing_files_;
}

void Engine::withdraw_backing_files() {
  const std::lock_guard lock(backing_mutex_);
  if (backing_files_ == nullptr) return;
  backing_files_->disconnect();
  backing_files_ = nullptr;
}

void Engine::set_backing_channel(BackingChannel* channel) {
  withdraw_backing_files();
  const std::lock_guard lock(backing_mutex_);
  backing_channel_ = channel;
}

void Engine::serve_destroy(Slot& slot, const fuse_in_header&) {
  if (!initialized()) return answer_error(slot, EIO);
  if (alone(slot, [this] { forget_kernel(); })) slot.done(slot.unique_, 0, 0);
}

void Engine::reset() {
  flush_pending_interrupts(std::nullopt);
  in_flight_.exclusive([this] { forget_kernel(); });
}

InFlight::Abandoned Engine::abandon(std::chrono::milliseconds grace) {
  flush_pending_interrupts(std::nullopt);
  return in_flight_.exclusive_abandoning(grace, [this] { forget_kernel(); });
}

void Engine::end_waits(std::optional<unsigned> queue) {
  flush_pending_interrupts(queue);
  in_flight_.interrupt_queue(queue);
}

// What FUSE_NOTIFY_RETRIEVE asked for; its id is the request's. The kernel waits for no answer.
void Engine::serve_notify_reply(Slot& slot, const fuse_in_header& in) {
  slot.claim();  // nobody else's: it ends here
  in_flight_.enter(slot);
  // SAFETY: relaxed, as in serve().
  if (initialized_.load(std::memory_order_relaxed)) {
    fuse_notify_retrieve_in arguments{};
    const bool complete = slot.fetch_head(sizeof in + sizeof arguments);
    if (complete) std::memcpy(&arguments, slot.head().data() + sizeof in, sizeof arguments);
    try {
      notifier_->finish_retrieve(in.unique, complete ? &arguments : nullptr, slot.request);
    } catch (const std::exception& exception) {
      error_of(exception, "the callback of a retrieve");
    }
  }
  in_flight_.leave(slot);
  slot.done_without_reply();
}

// A request that is in flight is marked, and INTERRUPT needs no answer then. Otherwise INTERRUPT has
// overtaken its request, or came too late: it is kept until the next request arrives, which either is the one
// or shows that it was too late.
void Engine::serve_interrupt(Slot& slot, const fuse_in_header&) {
  fuse_interrupt_in in{};
  if (!slot.fetch_head(sizeof(fuse_in_header) + sizeof in)) return answer_malformed(slot, "bad arguments");
  std::memcpy(&in, slot.head().data() + sizeof(fuse_in_header), sizeof in);
  const RequestId target{in.unique};

  std::vector<Slot*> unmatched;
  InFlight::Handlers handlers;
  bool matched = false;
  {
    const std::lock_guard lock(pending_mutex_);
    pending_interrupts_.push_back({target, &slot});
    pending_count_.store(pending_interrupts_.size());
    // Looked for only after it was announced: a request that arrives now either is found here or finds it
    // there.
    if (in_flight_.interrupt(target, handlers)) {
      pending_interrupts_.pop_back();
      matched = true;
    } else if (pending_interrupts_.size() > kMaxPendingInterrupts) {
      unmatched.push_back(pending_interrupts_.front().slot);
      pending_interrupts_.erase(pending_interrupts_.begin());
    }
    pending_count_.store(pending_interrupts_.size());
  }
  for (const auto& handler : handlers) handler(InterruptReason::interrupted);
  if (matched) slot.done_without_reply();
  for (Slot* late : unmatched) answer_error(*late, EAGAIN);
}

void Engine::meet_pending_interrupts(Slot& arrived) {
  Slot* met = nullptr;
  Slot* late = nullptr;
  InFlight::Handlers none;  // it has just arrived
  {
    const std::lock_guard lock(pending_mutex_);
    const auto found = std::ranges::find(pending_interrupts_, arrived.unique_, &PendingInterrupt::target);
    if (found != pending_interrupts_.end()) {
      met = found->slot;
      pending_interrupts_.erase(found);
      in_flight_.interrupt(arrived.unique_, none);
    } else if (!pending_interrupts_.empty()) {
      late = pending_interrupts_.front().slot;
      pending_interrupts_.erase(pending_interrupts_.begin());
    }
    pending_count_.store(pending_interrupts_.size());
  }
  if (met != nullptr) met->done_without_reply();
  if (late != nullptr) answer_error(*late, EAGAIN);
}

void Engine::flush_pending_interrupts(std::optional<unsigned> queue) {
  std::vector<PendingInterrupt> flushed;
  {
    const std::lock_guard lock(pending_mutex_);
    const auto ours = [queue](const PendingInterrupt& p) { return !queue || p.slot->queue == *queue; };
    std::ranges::copy_if(pending_interrupts_, std::back_inserter(flushed), ours);
    std::erase_if(pending_interrupts_, ours);
    pending_count_.store(pending_interrupts_.size());
  }
  for (const PendingInterrupt& interrupt : flushed) answer_error(*interrupt.slot, EAGAIN);
}

}  // namespace fusewire
