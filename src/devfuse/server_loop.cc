// What a Server's threads do: take a request, serve it, wait for the next one; and how many there are.
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <new>

#include "base/event_fd.h"
#include "base/log.h"
#include "devfuse/only_user.h"
#include "devfuse/server_worker.h"

namespace fusewire::devfuse {
namespace {

// A thread that had to wait for its last request looks for the next one only this often without waiting.
constexpr unsigned kLookEvery = 16;

// A request that took this long may have waited for something: of so many after it, it is measured whether
// they did. So many after one that did, all threads wait at the device.
constexpr std::chrono::nanoseconds kLong = std::chrono::microseconds(200);
constexpr unsigned kLongRemembered = 4096;

// How often the deputy looks: less and less while all goes well, because its waking up has the kernel move
// the others to other processors. After how many looks it takes the others for overrun, and after how many
// without a request it rather waits at the device.
constexpr int kShortestTickMilliseconds = 1;
constexpr int kLongestTickMilliseconds = 8;
constexpr unsigned kOverrunTicks = 8;
constexpr unsigned kQuietTicks = 16;

// A thread above max_idle_threads ends after this long without a request.
constexpr int kSurplusMilliseconds = 2000;

// How often this thread gave the processor away because it had to wait; that it was taken does not count.
long waits_of_this_thread() {
  rusage used{};
  getrusage(RUSAGE_THREAD, &used);
  return used.ru_nvcsw;
}

// Whether `count` was not 0 yet, and one less of it. Threads may overlook each other, which does no harm: it
// is a rough number of requests.
bool count_down(std::atomic<unsigned>& count) {
  const unsigned left = count.load(std::memory_order_relaxed);
  if (left != 0) count.store(left - 1, std::memory_order_relaxed);
  return left != 0;
}

// Memory is short: others may give some back.
void pause(int milliseconds) { poll(nullptr, 0, milliseconds); }

}  // namespace

void Server::want_help() {
  received_.fetch_add(1);
  if (uring_ || options_.max_threads == 1 || listeners_.load() != 0) return;
  if (has_deputy_.load() && !all_listen()) return;
  if (sleepers_.load() != 0) {
    const std::lock_guard lock(workers_mutex_);
    if (call_sleeper()) return;
  }
  if (thread_count_.load() < options_.max_threads) start_thread();
}

bool Server::call_sleeper() {
  if (has_deputy_.load()) return true;
  for (const auto& worker : workers_) {
    if (!worker->asleep) continue;
    worker->asleep = false;
    sleepers_.fetch_sub(1);
    has_deputy_.store(true);
    signal_event(worker->call);
    return true;
  }
  return false;
}

void Server::start_thread() {
  const std::lock_guard lock(workers_mutex_);
  const bool as_deputy = !all_listen();
  if (ending() || (as_deputy && has_deputy_.load()) || thread_count_.load() >= options_.max_threads) return;
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
  if (as_deputy) has_deputy_.store(true);
  others_.fetch_add(1);
  try {
    made.thread = std::thread([this, &made, as_deputy] {
      if (as_deputy) {
        idle_.fetch_add(1);
        deputize(made);
      }
      serve(made);
      others_.fetch_sub(1);
    });
    made.running = true;
    thread_count_.fetch_add(1);
  } catch (const std::exception& error) {  // the system's, or want of memory
    others_.fetch_sub(1);
    if (as_deputy) has_deputy_.store(false);
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
  if (work && !io::watch(worker.epoll, work->event_fd(), EPOLLIN | EPOLLET)) {
    error_.store(errno);
    end(Ending::failed);
  }
  bool surplus = false;
  worker.awake.starts();
  while (!ending() && !surplus) {
    bool worked = false;
    if (worker.busy || ++worker.waits % kLookEvery == 0) worked = serve_one(worker);
    worker.busy = worked;
    if (work && work->ready()) worked |= work->turn();
    if (worked || ending()) continue;
    wait(worker);
    surplus = is_surplus(worker);
  }
  worker.awake.ends();
  // What waits in handlers of other threads is to end too.
  if (!surplus && !options_.resumable) end_waits();
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
  want_help();
  if (options_.only_user && refuse_others(*slot, *options_.only_user)) return;
  submit(*slot);
  if (!uring_decided_ && engine_.initialized()) decide_on_uring();
  if (!options_.resumable && engine_.refusal().value != 0) end(Ending::refused);
}

void Server::submit(ChannelSlot& slot) {
  count_down(all_listen_);
  const bool measured = count_down(measured_);
  const long waits_before = measured ? waits_of_this_thread() : 0;
  const auto began = std::chrono::steady_clock::now();
  engine_.submit(slot);
  if (std::chrono::steady_clock::now() - began < kLong) return;
  if (measured && waits_of_this_thread() != waits_before) have_all_listen();
  measured_.store(kLongRemembered, std::memory_order_relaxed);
}

void Server::have_all_listen() {
  if (options_.max_threads == 1 || all_listen_.exchange(kLongRemembered) != 0) return;
  const std::lock_guard lock(workers_mutex_);
  for (const auto& worker : workers_) signal_event(worker->call);
}

void Server::wait(Worker& worker) {
  worker.rested = false;
  idle_.fetch_add(1);
  if (becomes_listener(worker)) {
    listen(worker);
  } else if (!has_deputy_.exchange(true)) {
    deputize(worker);
  } else {
    sleep(worker);
  }
}

bool Server::becomes_listener(Worker& worker) {
  unsigned none = 0;
  if (listeners_.compare_exchange_strong(none, 1)) return true;
  if (!all_listen() && !worker.relieves) return false;
  worker.relieves = false;
  listeners_.fetch_add(1);
  return true;
}

void Server::listen(Worker& worker) {
  if (!worker.watch_requests(true)) {
    error_.store(errno);
    end(Ending::failed);
  }
  bool received = false;
  // Awake, it would take the processor from others who serve, and requests from one whom they wake.
  const bool alone = listeners_.load() == 1 && idle_.load() >= thread_count_.load();
  const bool found = alone && worker.awake.wait([this, &worker, &received] {
    received = receive(worker);
    return received || ending() || (worker.work != nullptr && worker.work->ready());
  });
  const bool requests = !found && has_requests_after(worker, longest_sleep(worker));
  listeners_.fetch_sub(1);
  idle_.fetch_sub(1);
  if (received) return serve_received(worker);
  if (requests && !ending()) serve_one(worker);
}

void Server::deputize(Worker& worker) {
  worker.watch_requests(false);
  std::uint64_t seen = received_.load();
  unsigned overrun = 0;
  int tick = kShortestTickMilliseconds;
  for (unsigned quiet = 0; quiet < kQuietTicks;) {
    has_requests_after(worker, tick);
    if (!worker.rested) break;  // something came for this thread
    const std::uint64_t received = received_.load();
    const bool moves = received != seen;
    seen = received;
    quiet = moves ? 0 : quiet + 1;
    tick = moves ? std::min(tick * 2, kLongestTickMilliseconds) : kShortestTickMilliseconds;
    if (listeners_.load() != 0) {
      overrun = 0;
    } else if (!moves || ++overrun == kOverrunTicks) {
      break;
    }
  }
  // Whichever it was: the next wait is at the device.
  worker.relieves = worker.rested;
  worker.rested = false;
  has_deputy_.store(false);
  idle_.fetch_sub(1);
}

void Server::sleep(Worker& worker) {
  worker.watch_requests(false);
  {
    const std::lock_guard lock(workers_mutex_);
    worker.asleep = true;
    sleepers_.fetch_add(1);
  }
  // The deputy may have gone just before it could be seen that this one can be called.
  bool called = !has_deputy_.load();
  if (!called) has_requests_after(worker, longest_sleep(worker));
  {
    const std::lock_guard lock(workers_mutex_);
    called = !std::exchange(worker.asleep, false);
    if (!called) sleepers_.fetch_sub(1);
  }
  if (!called) {
    idle_.fetch_sub(1);
    return;
  }
  worker.rested = false;
  deputize(worker);
}

int Server::longest_sleep(const Worker& worker) const {
  const bool kept = worker.number == 0 || options_.max_idle_threads >= options_.max_threads;
  return kept ? -1 : kSurplusMilliseconds;
}

bool Server::has_requests_after(Worker& worker, int milliseconds) {
  std::array<epoll_event, 4> events;
  worker.awake.falls_asleep();
  const int count = epoll_wait(worker.epoll.get(), events.data(), events.size(), milliseconds);
  worker.awake.woke_up();
  worker.rested = count == 0;
  bool requests = false;
  for (int i = 0; i < count; ++i) {
    const int fd = events[static_cast<std::size_t>(i)].data.fd;
    if (fd == worker.call.get()) {
      std::uint64_t calls = 0;
      [[maybe_unused]] const ssize_t got = ::read(fd, &calls, sizeof calls);
    }
    requests |= fd == worker.pool.channel().fd();
  }
  return requests;
}

bool Server::is_surplus(Worker& worker) {
  if (!worker.rested) return false;
  const std::lock_guard lock(workers_mutex_);
  // The one who asks is idle too.
  if (ending() || idle_.load() < options_.max_idle_threads) return false;
  worker.running = false;
  thread_count_.fetch_sub(1);
  // Who sleeps relies on somebody at the device.
  if (listeners_.load() == 0) call_sleeper();
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
