#include "io/worker_pool.h"

#include <new>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "fusewire/result.h"
#include "io/thread.h"

namespace fusewire::io {

WorkerPool::WorkerPool(unsigned max_threads, const std::string& name, std::chrono::milliseconds idle_time)
    : max_threads_(max_threads), name_(name), idle_time_(idle_time) {
  // So that a thread that ends never has to allocate.
  ended_.reserve(max_threads);
}

WorkerPool::~WorkerPool() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  work_or_stop_.notify_all();
  thread_ended_.wait(lock, [this] { return threads_ == 0; });
  join_ended(lock);
  FUSEWIRE_CHECK(queue_.empty());
}

unsigned WorkerPool::threads() const {
  const std::scoped_lock lock(mutex_);
  return threads_;
}

void WorkerPool::submit(Task task) {
  if (max_threads_ == 0) return run(std::move(task));
  std::unique_lock lock(mutex_);
  queue_.push_back(std::move(task));
  if (queue_.size() <= waiting_) {
    work_or_stop_.notify_one();
    return;
  }
  if (threads_ < max_threads_ && add_thread(lock)) return;
  if (threads_ != 0) return;  // busy ones will come to it
  Task own = std::move(queue_.back());
  queue_.pop_back();
  lock.unlock();
  run(std::move(own));
}

// Threads that have ended are joined first, so that ended_ never outgrows max_threads_. The lock is given up
// meanwhile only after the new thread is counted.
bool WorkerPool::add_thread(std::unique_lock<std::mutex>& lock) {
  static log::RateLimit limit;
  try {
    const auto thread = start_thread([this] { work(); }, name_);
    if (!thread) {
      log::warn_limited(limit, "cannot start a worker thread: {}; going on with {}",
                        to_string(thread.error()), threads_);
      return false;
    }
  } catch (const std::bad_alloc&) {
    return false;  // the task is queued already, and must not be lost by an exception out of submit()
  }
  ++threads_;
  join_ended(lock);
  return true;
}

void WorkerPool::join_ended(std::unique_lock<std::mutex>& lock) {
  while (!ended_.empty()) {
    const pthread_t thread = ended_.back();
    ended_.pop_back();
    lock.unlock();
    pthread_join(thread, nullptr);
    lock.lock();
  }
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (queue_.empty() && !stopping_) {
      ++waiting_;
      work_or_stop_.wait_for(lock, idle_time_, [this] { return !queue_.empty() || stopping_; });
      --waiting_;
    }
    if (queue_.empty()) break;  // idle for long, or stopping with nothing left
    Task task = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    run(std::move(task));
    lock.lock();
  }
  ended_.push_back(pthread_self());
  --threads_;
  thread_ended_.notify_all();
}

void WorkerPool::run(Task task) {
  try {
    task();
  } catch (const std::bad_alloc&) {
    static log::RateLimit limit;
    log::warn_limited(limit, "out of memory in a worker thread; one request failed");
  }
}

}  // namespace fusewire::io
