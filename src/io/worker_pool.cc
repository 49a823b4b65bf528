#include "io/worker_pool.h"

#include <csignal>
#include <exception>
#include <new>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/result.h"

namespace fusewire::io {

namespace {

// Starts `main(argument)` with every signal blocked: signals belong to the control thread. The new thread
// inherits the mask, so there is no moment at which it could take one. Returns 0 or an errno.
int create_thread(pthread_t& thread, void* (*main)(void*), void* argument) {
  sigset_t all;
  sigset_t previous;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &previous);
  const int error = pthread_create(&thread, nullptr, main, argument);
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  return error;
}

}  // namespace

WorkerPool::WorkerPool(unsigned max_threads, const std::string& name, std::chrono::milliseconds idle_time)
    : max_threads_(max_threads), name_(name.substr(0, 15)), idle_time_(idle_time) {
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
  if (threads_ < max_threads_ && start_thread(lock)) return;
  if (threads_ != 0) return;  // busy ones will come to it
  Task own = std::move(queue_.back());
  queue_.pop_back();
  lock.unlock();
  run(std::move(own));
}

// Threads that have ended are joined first, so that ended_ never outgrows max_threads_. The lock is given up
// meanwhile only after the new thread is counted.
bool WorkerPool::start_thread(std::unique_lock<std::mutex>& lock) {
  pthread_t thread;
  if (const int error = create_thread(thread, thread_main, this); error != 0) {
    static log::RateLimit limit;
    log::warn_limited(limit, "cannot start a worker thread: {}; going on with {}", to_string(Errno{error}),
                      threads_);
    return false;
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

void* WorkerPool::thread_main(void* pool) {
  static_cast<WorkerPool*>(pool)->work();
  return nullptr;
}

void WorkerPool::work() {
  pthread_setname_np(pthread_self(), name_.c_str());
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
