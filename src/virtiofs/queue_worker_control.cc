// The control thread's side of a QueueWorker: its making and its end, and the state that the front-end sets.
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "base/check.h"
#include "base/event_fd.h"
#include "base/log.h"
#include "io/epoll.h"
#include "virtiofs/queue_worker.h"

namespace fusewire::virtiofs {

Result<std::unique_ptr<QueueWorker>> QueueWorker::create(Engine& engine, unsigned queue_index,
                                                         const WorkerOptions& options) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno();
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno();
  if (!io::watch(epoll, wake.get(), EPOLLIN)) return fail_errno();
  return std::unique_ptr<QueueWorker>(
      new QueueWorker(engine, queue_index, options, std::move(epoll), std::move(wake)));
}

QueueWorker::~QueueWorker() {
  FUSEWIRE_CHECK(!started_);
  if (!thread_.joinable()) return;
  run_on_worker([this] { exit_ = true; });
  thread_.join();
  // Threads that have handed a slot back may still be on their way out of complete().
  while (completing_.load() != 0) std::this_thread::yield();
}

Result<void> QueueWorker::start(const virtio::RingSetup& ring, virtio::QueueOptions options, UniqueFd kick,
                                NotificationChannel* notifications) {
  FUSEWIRE_CHECK(!started_);
  if (!thread_.joinable()) {
    // Signals are the control thread's business.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  Result<void> result;
  run_on_worker([&] {
    auto queue = virtio::DeviceQueue::create(ring, map_, options);
    if (!queue) {
      log::error("queue {} cannot start: {}", queue_index_, queue.error());
      result = fail(EINVAL);
      return;
    }
    if (kick) {
      // Edge-triggered: each write to the event is one wake-up, and its counter need not be read.
      if (!io::watch(epoll_, kick.get(), EPOLLIN | EPOLLET)) {
        result = fail_errno();
        return;
      }
    }
    event_idx_ = options.event_idx;
    notifications_ = notifications;
    queue_.emplace(std::move(*queue));
    queue_->set_dirty_log(log_);
    kick_ = std::move(kick);
    accepting_ = true;
    broken_reported_ = false;
  });
  started_ = result.has_value();
  return result;
}

std::uint32_t QueueWorker::stop(Deadline deadline) {
  FUSEWIRE_CHECK(started_);
  run_on_worker([this] { accepting_ = false; });
  engine_.end_waits(queue_index_);
  if (!wait_drained(deadline)) {
    run_on_worker([this] { give_up_unanswered(); });
    wait_drained(std::nullopt);  // those that were being answered just then
  }
  std::uint32_t base = 0;
  run_on_worker([&] {
    publish(true);
    base = queue_->base();
    queue_.reset();
    notifications_ = nullptr;
    // Closing would not take the event out of the epoll set, for the front-end still has it open.
    if (kick_) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, kick_.get(), nullptr);
    kick_.reset();
    slab_.clear();
    free_.clear();
  });
  started_ = false;
  return base;
}

bool QueueWorker::wait_drained(std::optional<Deadline> deadline) {
  run_on_worker([this] {
    const std::lock_guard lock(tasks_mutex_);
    drained_ = in_flight_ == 0;
  });
  std::unique_lock lock(tasks_mutex_);
  const auto drained = [this] { return drained_; };
  if (deadline) return drain_ended_.wait_until(lock, *deadline, drained);
  drain_ended_.wait(lock, drained);
  return true;
}

void QueueWorker::set_memory(std::shared_ptr<const guestmem::MemoryMap> map) {
  run_on_worker([&] {
    map_ = std::move(map);
    for (QueueSlot* slot : free_) slot->drop_map();
    if (!queue_) return;
    if (const auto found = queue_->rebind(map_); !found) {
      log::error("queue {} is not in the new memory: {}", queue_index_, found.error());
      ring_broken();
    }
  });
}

void QueueWorker::set_dirty_log(std::shared_ptr<guestmem::DirtyLog> log) {
  run_on_worker([&] {
    log_ = std::move(log);
    if (queue_) queue_->set_dirty_log(log_);
  });
}

void QueueWorker::set_logging(const virtio::RingSetup& ring) {
  run_on_worker([&] {
    if (queue_) queue_->set_logging(ring);
  });
}

void QueueWorker::set_enabled(bool enabled) {
  // The turn after the task looks at the ring, so that a kick from before counts.
  run_on_worker([&] { enabled_ = enabled; });
}

void QueueWorker::set_call(UniqueFd call) {
  run_on_worker([&] {
    call_ = std::move(call);
    // What was published while there was nobody to tell: one signal too many does no harm.
    if (queue_) signal_event(call_);
  });
}

void QueueWorker::set_error(UniqueFd error) {
  run_on_worker([&] { error_ = std::move(error); });
}

void QueueWorker::run_on_worker(const std::function<void()>& task) {
  if (!thread_.joinable()) return task();
  std::unique_lock lock(tasks_mutex_);
  tasks_.push_back(&task);
  has_tasks_.store(true);
  wake_up();
  task_done_.wait(lock, [&] { return std::ranges::find(tasks_, &task) == tasks_.end(); });
}

}  // namespace fusewire::virtiofs
