#include "io/thread.h"

#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <memory>
#include <utility>

namespace fusewire::io {

namespace {

struct Start {
  std::move_only_function<void()> body;
  std::string name;
};

// A queue's thread may be tied to a CPU; what it starts is not.
void run_anywhere() {
  cpu_set_t all;
  // It fails where there are more CPUs than the set can hold: then the thread stays where it is.
  if (sched_getaffinity(getpid(), sizeof all, &all) == 0) sched_setaffinity(0, sizeof all, &all);
}

void* thread_main(void* argument) {
  const std::unique_ptr<Start> start(static_cast<Start*>(argument));
  run_anywhere();
  pthread_setname_np(pthread_self(), start->name.c_str());
  start->body();
  return nullptr;
}

// The new thread inherits the mask, so that there is no moment at which it could take a signal.
int create_blocked(pthread_t& thread, const pthread_attr_t& attributes, Start* start) {
  sigset_t all;
  sigset_t previous;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &previous);
  const int error = pthread_create(&thread, &attributes, thread_main, start);
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  return error;
}

}  // namespace

Result<pthread_t> start_thread(std::move_only_function<void()> body, const std::string& name,
                               std::size_t stack_size) {
  auto start = std::make_unique<Start>(Start{.body = std::move(body), .name = name.substr(0, 15)});
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0) return fail(error);
  if (stack_size != 0) error = pthread_attr_setstacksize(&attributes, stack_size);
  pthread_t thread{};
  if (error == 0) {
    Start* const given = start.release();  // thread_main's, if there is a thread
    error = create_blocked(thread, attributes, given);
    if (error != 0) start.reset(given);
  }
  pthread_attr_destroy(&attributes);
  if (error != 0) return fail(error);
  return thread;
}

Result<void> stay_on_cpu(unsigned cpu) {
  if (cpu >= CPU_SETSIZE) return fail(EINVAL);
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(cpu, &only);
  if (sched_setaffinity(0, sizeof only, &only) != 0) return fail(errno);
  return {};
}

}  // namespace fusewire::io
