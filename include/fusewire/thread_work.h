// ThreadWork: what a file system has going on in one of the transport's threads besides the calls that it
// serves there, such as reads in an io_uring. The transport's thread gives it turns between calls, and sleeps
// on its descriptor too.
//
// Created, used and destroyed by one thread, which has at most one. Whoever is about to wait on this thread
// until other requests are over must first finish the thread's own: nobody else would.
#pragma once

namespace fusewire {

class ThreadWork {
 public:
  ThreadWork();
  virtual ~ThreadWork();
  ThreadWork(const ThreadWork&) = delete;
  ThreadWork& operator=(const ThreadWork&) = delete;

  // Signalled when turn() has something to do, to be watched edge-triggered.
  virtual int event_fd() const = 0;
  // Whether it has, without a system call.
  virtual bool ready() const = 0;
  // Goes on with the work, without waiting; whether a request was answered.
  virtual bool turn() = 0;
  // Waits until there is none left.
  virtual void finish_all() = 0;

  // finish_all() of this thread's work, if it has any.
  static void finish_all_of_this_thread();
};

}  // namespace fusewire
