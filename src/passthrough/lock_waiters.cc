#include "passthrough/lock_waiters.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <list>
#include <mutex>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "io/thread.h"

namespace fusewire::passthrough {

namespace {

constexpr std::size_t kStackSize = std::size_t{256} * 1024;
constexpr auto kFirstPause = std::chrono::milliseconds(1);
constexpr auto kLongestPause = std::chrono::milliseconds(16);

// Breaks a system call of the thread that it is sent to. Blocked in every other thread.
int break_signal() { return SIGRTMIN + 5; }

extern "C" void on_break_signal(int) {}

void install_break_signal() {
  static const bool installed = [] {
    struct sigaction action = {};
    action.sa_handler = on_break_signal;
    sigemptyset(&action.sa_mask);
    action.sa_flags = 0;  // above all no SA_RESTART
    return ::sigaction(break_signal(), &action, nullptr) == 0;
  }();
  FUSEWIRE_CHECK(installed);
}

void accept_break_signal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, break_signal());
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

int errno_of(InterruptReason reason) { return reason == InterruptReason::interrupted ? EINTR : ENOLCK; }

void warn_no_thread(Errno error) {
  static log::RateLimit limit;
  log::warn_limited(limit, "cannot start a thread for a waiting lock: {}", to_string(error));
}

}  // namespace

struct LockWaiters::Shared {
  explicit Shared(std::size_t max) : max_waiters(max) { ended.reserve(max + 1); }

  const std::size_t max_waiters;
  std::atomic<std::size_t> places_taken{0};

  std::mutex mutex;
  std::condition_variable changed;  // wakes the keeper
  std::list<TicketPtr> running;     // that have a thread
  std::vector<pthread_t> ended;     // to be joined
  std::optional<pthread_t> keeper;
  bool stopping = false;
};

class LockWaiters::Ticket {
 public:
  explicit Ticket(std::shared_ptr<Shared> of) : shared(std::move(of)) {}
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;
  ~Ticket() { shared->places_taken.fetch_sub(1); }

  const std::shared_ptr<Shared> shared;
  // Guarded by shared->mutex:
  std::optional<InterruptReason> cancelled;
  bool in_call = false;  // `thread` is in its attempt, or just before or behind it
  pthread_t thread{};    // set while in_call
};

LockWaiters::LockWaiters(std::size_t max_waiters) : shared_(std::make_shared<Shared>(max_waiters)) {
  install_break_signal();
}

LockWaiters::~LockWaiters() { end_all(); }

std::size_t LockWaiters::waiting() const { return shared_->places_taken.load(); }

Result<LockWaiters::TicketPtr> LockWaiters::reserve() {
  std::size_t taken = shared_->places_taken.load();
  do {
    if (taken >= shared_->max_waiters) return fail(ENOLCK);
  } while (!shared_->places_taken.compare_exchange_weak(taken, taken + 1));
  try {
    return std::make_shared<Ticket>(shared_);
  } catch (const std::bad_alloc&) {
    shared_->places_taken.fetch_sub(1);
    return fail(ENOMEM);
  }
}

void LockWaiters::start(const TicketPtr& ticket, Attempt attempt, Finish finish) {
  // Both belong to the thread once there is one, and stay here for the refusal otherwise.
  auto work = std::make_shared<std::pair<Attempt, Finish>>(std::move(attempt), std::move(finish));
  const bool started = start_threads(
      ticket, [ticket, work] { wait(ticket, std::move(work->first), std::move(work->second)); });
  if (!started) work->second(ENOLCK);
}

bool LockWaiters::start_threads(const TicketPtr& ticket, std::move_only_function<void()> body) {
  const std::scoped_lock lock(shared_->mutex);
  if (shared_->stopping) return false;
  if (!shared_->keeper) {
    const auto keeper = io::start_thread([shared = shared_] { keep(shared); }, "fw-lock-keeper", kStackSize);
    if (!keeper) {
      warn_no_thread(keeper.error());
      return false;
    }
    shared_->keeper = *keeper;
  }
  std::list<TicketPtr> entry{ticket};
  const auto thread = io::start_thread(std::move(body), "fw-lock-wait", kStackSize);
  if (!thread) {
    warn_no_thread(thread.error());
    return false;
  }
  // The thread takes itself out again under this same lock.
  shared_->running.splice(shared_->running.end(), entry);
  return true;
}

void LockWaiters::cancel(const TicketPtr& ticket, InterruptReason reason) {
  Shared& shared = *ticket->shared;
  const std::scoped_lock lock(shared.mutex);
  if (ticket->cancelled) return;
  ticket->cancelled = reason;
  if (!ticket->in_call) return;
  pthread_kill(ticket->thread, break_signal());
  shared.changed.notify_all();  // in case that was too early
}

int LockWaiters::attempt_until_over(const TicketPtr& ticket, Attempt& attempt) {
  Shared& shared = *ticket->shared;
  std::unique_lock lock(shared.mutex);
  ticket->thread = pthread_self();
  for (;;) {
    if (const auto reason = ticket->cancelled) return errno_of(*reason);
    ticket->in_call = true;
    lock.unlock();
    const int error = attempt();
    lock.lock();
    ticket->in_call = false;
    // A lock that came although the wait was to be broken off is a lock.
    if (error != EINTR) return error;
  }
}

void LockWaiters::wait(const TicketPtr& ticket, Attempt attempt, Finish finish) {
  accept_break_signal();
  const int error = attempt_until_over(ticket, attempt);
  try {
    finish(error);
  } catch (const std::bad_alloc&) {
    log::error("out of memory behind a waiting lock; its request failed");
  }
  attempt = nullptr;
  finish = nullptr;
  Shared& shared = *ticket->shared;
  const std::scoped_lock lock(shared.mutex);
  shared.running.remove(ticket);
  shared.ended.push_back(pthread_self());
  shared.changed.notify_all();
}

// Sends the signal again and again to the threads that are to come out of their call, and joins those that
// ended.
void LockWaiters::keep(const std::shared_ptr<Shared>& shared) {
  std::unique_lock lock(shared->mutex);
  auto pause = kFirstPause;
  for (;;) {
    while (!shared->ended.empty()) {
      const pthread_t thread = shared->ended.back();
      shared->ended.pop_back();
      lock.unlock();
      pthread_join(thread, nullptr);
      lock.lock();
    }
    if (shared->stopping && shared->running.empty()) return;
    bool sent = false;
    for (const TicketPtr& ticket : shared->running) {
      if (!ticket->cancelled || !ticket->in_call) continue;
      pthread_kill(ticket->thread, break_signal());
      sent = true;
    }
    if (sent) {
      shared->changed.wait_for(lock, pause);
      pause = std::min(pause * 2, kLongestPause);
    } else {
      pause = kFirstPause;
      shared->changed.wait(lock);
    }
  }
}

void LockWaiters::end_all() {
  std::unique_lock lock(shared_->mutex);
  const auto keeper = shared_->keeper;
  if (!keeper) return;
  shared_->stopping = true;
  for (const TicketPtr& ticket : shared_->running) {
    if (!ticket->cancelled) ticket->cancelled = InterruptReason::stopping;
  }
  shared_->changed.notify_all();
  lock.unlock();
  pthread_join(*keeper, nullptr);
  lock.lock();
  shared_->keeper.reset();
  shared_->stopping = false;
}

}  // namespace fusewire::passthrough
