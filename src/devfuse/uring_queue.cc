#include "devfuse/uring_queue.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>
#include <future>
#include <new>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/event_fd.h"
#include "base/log.h"
#include "devfuse/only_user.h"
#include "io/thread.h"

namespace fusewire::devfuse {
namespace {

thread_local const UringQueue* queue_of_this_thread = nullptr;

// Completions are worked on when the thread asks for them (Linux 6.1; FUSE over io_uring is later).
constexpr unsigned kRingFlags =
    IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
// Beside the entries: two polls.
constexpr unsigned kOtherOperations = 2;
// How often a drained thread is asked again to end its waits: a handler may have begun one just now.
constexpr std::chrono::milliseconds kAskAgain{20};

}  // namespace

UringQueue::UringQueue(Engine& engine, UringQueueSettings settings)
    : engine_(engine),
      settings_(std::move(settings)),
      awake_(settings_.busy_poll, io::BusyPoll::Partner::here) {
  ring_.ring_fd = -1;
}

UringQueue::~UringQueue() { close(); }

Result<void> UringQueue::start() {
  wake_event_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_event_) return fail_errno();
  std::promise<Result<void>> ready;
  auto outcome = ready.get_future();
  // Signals are the business of the threads that the program made itself.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::optional<int> error;
  try {
    thread_ = std::thread([this, &ready] {
      const Result<void> made = set_up();
      ready.set_value(made);
      if (made) run();
      work_.reset();
      // With the thread's end the kernel lets go of what waits in the ring.
      if (ring_.ring_fd >= 0) io_uring_queue_exit(&ring_);
    });
  } catch (const std::system_error& failed) {
    error = failed.code().value();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error) return fail(*error);
  return outcome.get();
}

Result<void> UringQueue::set_up() {
  queue_of_this_thread = this;
  try {
    for (unsigned index = 0; index < settings_.depth; ++index)
      home_.push_back(std::make_unique<UringEntry>(*this, index, settings_.payload_room));
    answered_.reserve(settings_.depth);
    kept_.reserve(settings_.depth);
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
  const int error = io_uring_queue_init(settings_.depth + kOtherOperations, &ring_, kRingFlags);
  if (error != 0) {
    ring_.ring_fd = -1;
    return fail(-error);
  }
  // A processor that is offline, or not for us, has no requests or is served from another one.
  if (const auto stays = io::stay_on_cpu(settings_.cpu); !stays)
    log::debug("the queue of processor {} is served elsewhere: {}", settings_.cpu, to_string(stays.error()));
  watch(wake_event_.get(), kWakeUp);
  return {};
}

void UringQueue::enter(Phase phase) {
  {
    const std::lock_guard lock(mutex_);
    phase_.store(phase);
  }
  signal_event(wake_event_);
}

void UringQueue::serve() { enter(Phase::serving); }

void UringQueue::pause(bool end_waits) {
  if (!thread_.joinable()) return;
  enter(Phase::paused);
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kAskAgain, [this] { return paused_; })) {
    if (!end_waits) continue;
    lock.unlock();
    engine_.end_waits(settings_.number);
    lock.lock();
  }
}

void UringQueue::close() {
  if (!thread_.joinable()) return;
  enter(Phase::closed);
  thread_.join();
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (UringEntry* entry : std::exchange(answered_, {})) take_back(*entry);
}

void UringQueue::answer(UringEntry& entry) {
  if (queue_of_this_thread == this) return send_answer(entry);
  const std::lock_guard lock(mutex_);
  if (closed_) return take_back(entry);
  answered_.push_back(&entry);
  if (answered_.size() > 1) return;  // the thread has not come to the others yet
  // Under the lock: as soon as the thread has the entry, the queue may go.
  signal_event(wake_event_);
}

void UringQueue::run() {
  while (reached_ != Phase::closed) {
    wait();
    look_for_completions();
    send_answers_of_others();
    if (work_ && work_->ready()) work_->turn();
    follow_phase();
  }
}

// Hands over what is to be sent, and waits for something to do.
void UringQueue::wait() {
  int result = 0;
  if (awake_.pays()) {
    if (io_uring_sq_ready(&ring_) != 0) result = io_uring_submit_and_get_events(&ring_);
    const bool found = awake_.wait([this] { return is_ready() || (work_ && work_->ready()); });
    if (found && io_uring_cq_ready(&ring_) == 0) result = io_uring_get_events(&ring_);
    if (found && result >= 0) return;
  }
  awake_.falls_asleep();
  if (result >= 0) result = io_uring_submit_and_wait(&ring_, 1);
  awake_.woke_up();
  if (result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY) return;
  static log::RateLimit limit;
  log::emit_limited(limit, log::Level::error, "io_uring_enter: {}", to_string(Errno{-result}));
  poll(nullptr, 0, 10);
}

bool UringQueue::is_ready() const {
  const unsigned flags = std::atomic_ref(*ring_.sq.kflags).load(std::memory_order_relaxed);  // SAFETY: a hint
  return io_uring_cq_ready(&ring_) != 0 || (flags & IORING_SQ_TASKRUN) != 0;
}

void UringQueue::follow_phase() {
  if (phase_.load() == reached_) return;
  {
    // With the lock, so that pause() does not miss it.
    const std::lock_guard lock(mutex_);
    reached_ = phase_.load();
    paused_ = false;
  }
  if (reached_ == Phase::serving) {
    if (!std::exchange(registered_, true)) join_connection();
    for (const std::size_t index : std::exchange(kept_, {})) serve_entry(index);
    return;
  }
  if (work_) work_->finish_all();
  const std::lock_guard lock(mutex_);
  paused_ = true;
  changed_.notify_all();
}

void UringQueue::join_connection() {
  work_ = engine_.thread_work();
  if (work_) watch(work_->event_fd(), kFileSystemWork);
  for (const auto& entry : home_) command(*entry, UringOperation::register_entry);
}

void UringQueue::look_for_completions() {
  io_uring_cqe* completion = nullptr;
  while (io_uring_peek_cqe(&ring_, &completion) == 0) {
    const io_uring_cqe taken = *completion;
    io_uring_cqe_seen(&ring_, completion);
    on_completion(taken);
  }
}

void UringQueue::on_completion(const io_uring_cqe& completion) {
  const bool goes_on = (completion.flags & IORING_CQE_F_MORE) != 0;
  if (completion.user_data == kWakeUp) {
    if (!goes_on) watch(wake_event_.get(), kWakeUp);
  } else if (completion.user_data == kFileSystemWork) {
    if (!goes_on && work_) watch(work_->event_fd(), kFileSystemWork);
  } else {
    on_entry(completion.user_data, completion.res);
  }
}

void UringQueue::on_entry(std::size_t index, int result) {
  if (result == 0) {
    if (reached_ != Phase::serving) return kept_.push_back(index);
    return serve_entry(index);
  }
  if (result == -EAGAIN && reached_ != Phase::closed) {
    // The answer to INIT is written, but a mount(2) that waits for it has not gone on yet.
    poll(nullptr, 0, 1);
    return command(*home_[index], UringOperation::register_entry);
  }
  // The connection has gone: the kernel has no use for the entry any more.
  if (result == -ENOTCONN || result == -ECONNABORTED || result == -ECANCELED) return;
  static log::RateLimit limit;
  log::emit_limited(limit, log::Level::error, "the kernel refused an io_uring command of queue {}: {}",
                    settings_.cpu, to_string(Errno{-result}));
  if (!std::exchange(refused_, true)) settings_.on_refusal(Errno{-result});
}

void UringQueue::serve_entry(std::size_t index) {
  lent_.fetch_add(1, std::memory_order_relaxed);  // SAFETY: read only when nothing is lent any more
  UringEntry* entry = home_[index].release();
  try {
    entry->accept();
  } catch (const std::bad_alloc&) {
    entry->done_without_reply();
    return;
  }
  entry->queue = settings_.number;
  if (settings_.only_user && refuse_others(*entry, *settings_.only_user)) return;
  engine_.submit(*entry);
}

void UringQueue::send_answers_of_others() {
  for (;;) {
    UringEntry* entry = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (answered_.empty()) return;
      entry = answered_.back();
      answered_.pop_back();
    }
    send_answer(*entry);
  }
}

void UringQueue::send_answer(UringEntry& entry) {
  command(entry, UringOperation::commit_and_fetch);
  take_back(entry);
}

void UringQueue::take_back(UringEntry& entry) {
  home_[entry.index()].reset(&entry);
  lent_.fetch_sub(1, std::memory_order_release);
}

void UringQueue::command(UringEntry& entry, UringOperation operation) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  FUSEWIRE_CHECK(sqe != nullptr);  // the queue holds one for each entry, and the polls
  io_uring_prep_rw(IORING_OP_URING_CMD, sqe, settings_.fuse_fd, entry.memory().data(), 2, 0);
  sqe->cmd_op = static_cast<std::uint32_t>(operation);
  sqe->user_data = entry.index();
  UringCommand request;
  request.queue = static_cast<std::uint16_t>(settings_.cpu);
  if (operation == UringOperation::commit_and_fetch) request.commit_id = entry.commit_id();
  std::memcpy(sqe->cmd, &request, sizeof request);
}

void UringQueue::watch(int fd, std::uint64_t data) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  FUSEWIRE_CHECK(sqe != nullptr);
  io_uring_prep_poll_multishot(sqe, fd, POLLIN);
  sqe->user_data = data;
}

}  // namespace fusewire::devfuse
