// What a Server's threads do: take a request, serve it, wait for the next one; and how many there are.
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>

#include <array>
#include <exception>
#include <new>

#include "base/log.h"
#include "devfuse/only_user.h"
#include "devfuse/server_worker.h"

namespace fusewire::devfuse {
namespace {

// A thread that had to wait for its last request looks for the next one only this often without waiting.
constexpr unsigned kLookEvery = 16;

// A thread above max_idle_threads ends after this long without a request.
constexpr int kSurplusMilliseconds = 2000;

// Memory is short: others may give some back.
void pause(int milliseconds) { poll(nullptr, 0, milliseconds); }

}  // namespace

void Server::want_thread() {
  if (uring_) return;
  if (idle_.load(std::memory_order_relaxed) != 0) return;  // SAFETY: a wrong guess costs or saves a thread
  if (thread_count_.load(std::memory_order_relaxed) >= options_.max_threads) return;  // SAFETY: as above
  const std::lock_guard lock(workers_mutex_);
  if (ending() || thread_count_.load() >= options_.max_threads) return;
  static log::RateLimit limit;
  const auto worker = spare_worker();
  if (!worker) {
    log::warn_limited(limit, "no further thread for /dev/fuse: {}", to_string(worker.error()));
    return;
  }
  Worker& made = **worker;
  // What ends a program is the business of the threads that it made itself.
  sigset_t ends, before;
  sigemptyset(&ends);
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM}) sigaddset(&ends, signal);
  pthread_sigmask(SIG_BLOCK, &ends, &before);
  try {
    made.thread = std::thread([this, &made] { serve(made); });
    made.running = true;
    thread_count_.fetch_add(1);
  } catch (const std::exception& error) {  // the system's, or want of memory
    log::warn_limited(limit, "no further thread for /dev/fuse: {}", error.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Result<Server::Worker*> Server::spare_worker() {
  for (const auto& worker : workers_) {
    if (worker->number == 0 || worker->running) continue;
    if (worker->thread.joinable()) worker->thread.join();  // it has nothing left to do
    return worker.get();
  }
  try {
    auto made = make_worker(static_cast<unsigned>(workers_.size()));
    if (!made) return fail(made.error().value);
    workers_.push_back(std::move(*made));
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
  return workers_.back().get();
}

void Server::serve(Worker& worker) {
  const std::unique_ptr<ThreadWork> work = engine_.thread_work();
  worker.work = work.get();
  if (work && !Worker::watch(worker.epoll, work->event_fd(), EPOLLIN | EPOLLET)) {
    error_.store(errno);
    end(Ending::failed);
  }
  worker.awake.starts();
  bool surplus = false;
  while (!ending() && !surplus) {
    bool worked = false;
    if (worker.busy || ++worker.waits % kLookEvery == 0) worked = serve_one(worker);
    if (!worked) worked = poll_awake(worker);
    worker.busy = worked;
    if (work && work->ready()) worked |= work->turn();
    if (worked || ending()) continue;
    wait(worker);
    surplus = is_surplus(worker);
  }
  worker.awake.ends();
  // What waits in handlers of other threads is to end too.
  if (!surplus && !options_.resumable) engine_.end_waits(worker.number);
  if (work) work->finish_all();
  worker.work = nullptr;
}

bool Server::serve_one(Worker& worker) {
  if (!receive(worker)) return false;
  serve_received(worker);
  return true;
}

bool Server::receive(Worker& worker) {
  if (worker.slot == nullptr) worker.slot = worker.pool.take();
  if (worker.slot == nullptr) {
    pause(10);
    return false;
  }
  const auto received = worker.slot->receive();
  if (!received) read_failed(received.error().value);
  return received && *received;
}

void Server::serve_received(Worker& worker) {
  ChannelSlot* slot = std::exchange(worker.slot, nullptr);
  slot->queue = worker.number;
  want_thread();
  if (options_.only_user && refuse_others(*slot, *options_.only_user)) return;
  engine_.submit(*slot);
  if (!uring_decided_ && engine_.initialized()) decide_on_uring();
}

bool Server::poll_awake(Worker& worker) {
  bool received = false;
  idle_.fetch_add(1, std::memory_order_relaxed);  // SAFETY: see want_thread()
  const bool found = worker.awake.wait([&] {
    // Whoever else wants the processor, the sender of the next request before all, goes first.
    sched_yield();
    received = receive(worker);
    return received || ending() || (worker.work != nullptr && worker.work->ready());
  });
  idle_.fetch_sub(1, std::memory_order_relaxed);  // SAFETY: see want_thread()
  if (received) serve_received(worker);
  return found;
}

void Server::wait(Worker& worker) {
  std::array<epoll_event, 3> events;
  const bool kept = worker.number == 0 || options_.max_idle_threads >= options_.max_threads;
  idle_.fetch_add(1, std::memory_order_relaxed);  // SAFETY: see want_thread()
  worker.awake.falls_asleep();
  const int count =
      epoll_wait(worker.epoll.get(), events.data(), events.size(), kept ? -1 : kSurplusMilliseconds);
  worker.awake.woke_up();
  idle_.fetch_sub(1, std::memory_order_relaxed);  // SAFETY: see want_thread()
  worker.rested = count == 0;
  const int work_fd = worker.work != nullptr ? worker.work->event_fd() : -1;
  bool requests = false;
  for (int i = 0; i < count; ++i) {
    const int fd = events[static_cast<std::size_t>(i)].data.fd;
    requests |= fd != work_fd && fd != stop_event_.get();
  }
  if (requests && !ending()) serve_one(worker);
}

bool Server::is_surplus(Worker& worker) {
  if (!worker.rested) return false;
  const std::lock_guard lock(workers_mutex_);
  // The one who asks is idle too.
  if (ending() || idle_.load() < options_.max_idle_threads) return false;
  worker.running = false;
  thread_count_.fetch_sub(1);
  return true;
}

void Server::read_failed(int error) {
  if (error == ENODEV) return end(Ending::unmounted);
  if (error == ECONNABORTED) return end(Ending::aborted);
  if (error == ENOMEM || error == EIO) {
    // Short of memory, or a request that the kernel has answered itself: the next one may do.
    return pause(1);
  }
  static log::RateLimit limit;
  log::emit_limited(limit, log::Level::error, "reading /dev/fuse: {}", to_string(Errno{error}));
  error_.store(error);
  end(Ending::failed);
}

}  // namespace fusewire::devfuse
