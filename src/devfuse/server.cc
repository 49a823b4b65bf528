#include "devfuse/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>
#include <system_error>

#include "base/log.h"
#include "io/busy_poll.h"

namespace fusewire::devfuse {
namespace {

// A thread that had to wait for its last request looks for the next one only this often without waiting.
constexpr unsigned kLookEvery = 16;

// A thread above max_idle_threads ends after this long without a request.
constexpr int kSurplusMilliseconds = 2000;

bool watch(const UniqueFd& epoll, int fd, std::uint32_t events) {
  epoll_event event{.events = events, .data = {.fd = fd}};
  return epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

// Memory is short: others may give some back.
void pause(int milliseconds) { poll(nullptr, 0, milliseconds); }

}  // namespace

struct Server::Worker {
  Worker(unsigned index, std::optional<Channel> channel, UniqueFd epoll_fd, const Channel& first,
         const ServerOptions& options)
      : number(index),
        own(std::move(channel)),
        epoll(std::move(epoll_fd)),
        pool(own ? *own : first, options.max_write, options.splice),
        awake(std::chrono::microseconds(getenv("FW_SPIN") ? atoi(getenv("FW_SPIN")) : 50)) {}

  const unsigned number;
  const std::optional<Channel> own;
  const UniqueFd epoll;
  SlotPool pool;
  std::thread thread;    // none for the one that run() is
  bool running = false;  // guarded by workers_mutex_
  io::BusyPoll awake;
  ThreadWork* work = nullptr;
  bool busy = true;     // the last look for a request found one
  bool rested = false;  // the last sleep ended because of its length
  unsigned waits = 0;
  ChannelSlot* slot = nullptr;  // for the next request
};

std::size_t Server::kernel_max_write() {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  std::size_t pages = 256;  // FUSE_MAX_MAX_PAGES, the limit where it cannot be changed
  std::ifstream("/proc/sys/fs/fuse/max_pages_limit") >> pages;
  return std::clamp<std::size_t>(pages, 1, UINT16_MAX) * page;
}

Result<std::unique_ptr<Server>> Server::create(Engine& engine, Channel first, const ServerOptions& options) {
  if (options.max_threads == 0) return fail(EINVAL);
  std::unique_ptr<Server> server(new Server(engine, std::move(first), options));
  const std::size_t limit = kernel_max_write();
  std::size_t& max_write = server->options_.max_write;
  max_write = max_write == 0 ? limit : std::clamp(max_write, std::size_t{4096}, limit);
  server->stop_event_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!server->stop_event_) return fail_errno();
  auto worker = server->make_worker(0);
  if (!worker) return fail(worker.error().value);
  server->workers_.push_back(std::move(*worker));
  server->thread_count_ = 1;  // run()'s caller
  engine.set_transport({.max_write = static_cast<std::uint32_t>(max_write), .abort_error = true});
  return server;
}

Server::Server(Engine& engine, Channel first, const ServerOptions& options)
    : engine_(engine), first_(std::move(first)), options_(options) {}

Server::~Server() {
  if (options_.resumable) finish();
}

Result<std::unique_ptr<Server::Worker>> Server::make_worker(unsigned number) {
  std::optional<Channel> own;
  if (options_.clone_fd && number != 0) {
    auto cloned = first_.clone();
    if (!cloned) return fail(cloned.error().value);
    own = std::move(*cloned);
  }
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  // Exclusive: of all threads that wait on the connection, which is the same behind each clone, a request
  // wakes one.
  if (!epoll || !watch(epoll, (own ? *own : first_).fd(), EPOLLIN | EPOLLEXCLUSIVE) ||
      !watch(epoll, stop_event_.get(), EPOLLIN))
    return fail_errno();
  return std::make_unique<Worker>(number, std::move(own), std::move(epoll), first_, options_);
}

Server::Ending Server::run() {
  serve(*workers_.front());
  // After the end nobody starts threads.
  std::vector<std::thread> others;
  {
    const std::lock_guard lock(workers_mutex_);
    for (const auto& worker : workers_) {
      if (worker->thread.joinable()) others.push_back(std::move(worker->thread));
      worker->running = false;
    }
    thread_count_ = 1;
  }
  for (std::thread& thread : others) thread.join();
  if (!options_.resumable) finish();
  return why_.load();
}

void Server::finish() {
  std::size_t abandoned = engine_.abandon(options_.grace);
  if (abandoned != 0) log::warn("{} requests that nobody answered are given up", abandoned);
  // Slots that were answered just now are still on their way back.
  for (const auto& worker : workers_) {
    if (worker->slot != nullptr) worker->pool.give_back(*worker->slot);
    worker->slot = nullptr;
  }
  for (const auto& worker : workers_) abandoned -= worker->pool.wait_until_back(abandoned);
}

void Server::resume() {
  std::uint64_t count = 0;
  while (::read(stop_event_.get(), &count, sizeof count) < 0 && errno == EINTR) {
  }
  ending_.store(false);
}

void Server::set_threads(const ServerOptions& options) {
  options_.max_threads = std::max(options.max_threads, 1U);
  options_.max_idle_threads = options.max_idle_threads;
  options_.clone_fd = options.clone_fd;
}

void Server::disconnect() {
  // The numbers stay taken: somebody may be about to write to them.
  const UniqueFd nowhere(open("/dev/null", O_WRONLY | O_CLOEXEC));
  const auto replace = [&nowhere](const Channel& channel) {
    if (dup3(nowhere.get(), channel.fd(), O_CLOEXEC) < 0)
      log::error("closing /dev/fuse: {}", to_string(Errno{errno}));
  };
  const std::lock_guard lock(workers_mutex_);
  replace(first_);
  for (const auto& worker : workers_)
    if (worker->own) replace(*worker->own);
}

void Server::stop() {
  // Only system calls and lock-free atomics, for signal handlers.
  const int before = errno;
  bool expected = false;
  if (ending_.compare_exchange_strong(expected, true)) why_.store(Ending::stopped);
  const std::uint64_t one = 1;
  while (::write(stop_event_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  errno = before;
}

void Server::end(Ending why) {
  bool expected = false;
  if (ending_.compare_exchange_strong(expected, true)) why_.store(why);
  const std::uint64_t one = 1;
  while (::write(stop_event_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void Server::want_thread() {
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
  } catch (const std::system_error& error) {
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
  auto made = make_worker(static_cast<unsigned>(workers_.size()));
  if (!made) return fail(made.error().value);
  workers_.push_back(std::move(*made));
  return workers_.back().get();
}

void Server::serve(Worker& worker) {
  const std::unique_ptr<ThreadWork> work = engine_.thread_work();
  worker.work = work.get();
  if (work && !watch(worker.epoll, work->event_fd(), EPOLLIN | EPOLLET)) {
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
  if (options_.only_user && slot->refuse_others(*options_.only_user)) return;
  engine_.submit(*slot);
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
