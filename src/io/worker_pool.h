// WorkerPool: threads for work that may block, so that the queue it came from goes on.
//
// On the data path: cache-missing and direct reads, fsync, fallocate, copy_file_range. Waiting locks are not
// given to it, because they may wait for another task of the pool (passthrough/lock_waiters.h).
//
// Threading: submit() from any thread, also from a task. Tasks start in the order in which they were
// submitted and run in parallel. The destructor must not run in one of the pool's own threads.
#pragma once

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

namespace fusewire::io {

class WorkerPool {
 public:
  using Task = std::move_only_function<void()>;

  // Starts no thread yet: each starts when there is a task for it and ends when it has had none for
  // `idle_time`. With `max_threads` 0 there are none at all and submit() runs each task itself. `name`: the
  // threads' name, of which the system shows 15 characters.
  explicit WorkerPool(unsigned max_threads, const std::string& name = "fw-worker",
                      std::chrono::milliseconds idle_time = std::chrono::seconds(10));
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  // Runs everything that was submitted to its end, then ends the threads.
  ~WorkerPool();

  // Runs `task` soon. When the system refuses the very first thread, or `max_threads` is 0, the task runs in
  // here. Tasks should not throw; a std::bad_alloc out of one is logged and ends only that task.
  void submit(Task task);

  unsigned max_threads() const { return max_threads_; }
  // The threads alive now, busy or idle.
  unsigned threads() const;

 private:
  static void run(Task task);

  bool add_thread(std::unique_lock<std::mutex>& lock);
  void join_ended(std::unique_lock<std::mutex>& lock);
  void work();

  const unsigned max_threads_;
  const std::string name_;
  const std::chrono::milliseconds idle_time_;

  mutable std::mutex mutex_;
  std::condition_variable work_or_stop_;
  std::condition_variable thread_ended_;
  std::deque<Task> queue_;
  unsigned threads_ = 0;          // alive
  unsigned waiting_ = 0;          // of them, those that wait for a task
  std::vector<pthread_t> ended_;  // past their last use of this object, not joined yet
  bool stopping_ = false;
};

}  // namespace fusewire::io
