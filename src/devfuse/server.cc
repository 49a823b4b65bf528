#include "devfuse/server.h"

#include <poll.h>
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
#include "devfuse/only_user.h"

namespace fusewire::devfuse {
namespace {

// A thread that had to wait for its last request looks for the next one only this often without waiting.
constexpr unsigned kLookEvery = 16;

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
        pool(own ? *own : first, options.max_write, options.splice) {}

  const unsigned number;
  const std::optional<Channel> own;
  const UniqueFd epoll;
  SlotPool pool;
  std::thread thread;  // none for the one that run() is
  ThreadWork* work = nullptr;
  bool busy = true;  // the last look for a request found one
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
  server->thread_count_ = 1;
  engine.set_transport(server->transport());
  return server;
}

Engine::Transport Server::transport() const {
  return {.max_write = static_cast<std::uint32_t>(options_.max_write),
          .abort_error = true,
          .over_io_uring = uring_ != nullptr};
}

Server::Server(Engine& engine, Channel first, const ServerOptions& options)
    : engine_(engine), first_(std::move(first)), options_(options) {}

Server::~Server() = default;

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
  if (options_.io_uring) prepare_uring();
  Worker* first = workers_.front().get();
  serve(*first);
  // After the end nobody starts threads.
  std::vector<Worker*> others;
  {
    const std::lock_guard lock(workers_mutex_);
    for (const auto& worker : workers_) others.push_back(worker.get());
  }
  for (Worker* worker : others)
    if (worker->thread.joinable()) worker->thread.join();
  if (uring_) uring_->drain();
  const std::size_t abandoned = engine_.abandon(options_.grace);
  if (abandoned != 0) log::warn("{} requests that nobody answered are given up", abandoned);
  // Slots that were answered just now are still on their way back.
  for (Worker* worker : others) {
    if (worker->slot != nullptr) worker->pool.give_back(*worker->slot);
    worker->slot = nullptr;
  }
  while (lent(others) > abandoned) pause(1);
  uring_.reset();
  return why_.load();
}

std::size_t Server::lent(std::span<Worker* const> workers) const {
  std::size_t count = uring_ ? uring_->lent() : 0;
  for (Worker* worker : workers) count += worker->pool.lent();
  return count;
}

void Server::prepare_uring() {
  UringQueueSettings like;
  like.fuse_fd = first_.fd();
  like.number = options_.max_threads;
  like.depth = options_.io_uring_queue_depth;
  like.payload_room = payload_room(options_.max_write);
  like.only_user = options_.only_user;
  like.busy_poll = options_.io_uring_busy_poll;
  like.on_refusal = [this](Errno error) {
    error_.store(error.value);
    end(Ending::failed);
  };
  auto made = UringChannel::create(engine_, like);
  if (!made) {
    log::warn("no io_uring ({}): requests are read from /dev/fuse", to_string(made.error()));
    return;
  }
  uring_ = std::move(*made);
  uring_decided_ = false;
  engine_.set_transport(transport());
}

void Server::decide_on_uring() {
  uring_decided_ = true;
  if (engine_.over_io_uring()) return uring_->begin();
  log::warn(
      "no FUSE over io_uring: the kernel does not offer it (it is for Linux 6.14 and later, with "
      "/sys/module/fuse/parameters/enable_uring set to Y); requests are read from /dev/fuse");
  uring_.reset();
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
  if (uring_) return;
  if (idle_.load(std::memory_order_relaxed) != 0) return;  // SAFETY: a wrong guess costs or saves a thread
  if (thread_count_.load(std::memory_order_relaxed) >= options_.max_threads) return;  // SAFETY: as above
  const std::lock_guard lock(workers_mutex_);
  if (ending() || workers_.size() >= options_.max_threads) return;
  static log::RateLimit limit;
  auto worker = make_worker(static_cast<unsigned>(workers_.size()));
  if (!worker) {
    log::warn_limited(limit, "no further thread for /dev/fuse: {}", to_string(worker.error()));
    return;
  }
  Worker& made = **worker;
  workers_.push_back(std::move(*worker));
  // Signals are the business of the threads that the program made itself.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    made.thread = std::thread([this, &made] { serve(made); });
    thread_count_.store(static_cast<unsigned>(workers_.size()));
  } catch (const std::system_error& error) {
    log::warn_limited(limit, "no further thread for /dev/fuse: {}", error.what());
    workers_.pop_back();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Server::serve(Worker& worker) {
  const std::unique_ptr<ThreadWork> work = engine_.thread_work();
  worker.work = work.get();
  if (work && !watch(worker.epoll, work->event_fd(), EPOLLIN | EPOLLET)) {
    error_.store(errno);
    end(Ending::failed);
  }
  while (!ending()) {
    bool worked = false;
    if (worker.busy || ++worker.waits % kLookEvery == 0) worked = serve_one(worker);
    worker.busy = worked;
    if (work && work->ready()) worked |= work->turn();
    if (!worked && !ending()) wait(worker);
  }
  // What waits in handlers of other threads is to end too.
  engine_.end_waits(worker.number);
  if (work) work->finish_all();
  worker.work = nullptr;
}

bool Server::serve_one(Worker& worker) {
  if (worker.slot == nullptr) worker.slot = worker.pool.take();
  if (worker.slot == nullptr) {
    pause(10);
    return false;
  }
  const auto received = worker.slot->receive();
  if (!received) {
    read_failed(received.error().value);
    return false;
  }
  if (!*received) return false;
  ChannelSlot* slot = std::exchange(worker.slot, nullptr);
  slot->queue = worker.number;
  want_thread();
  if (options_.only_user && refuse_others(*slot, *options_.only_user)) return true;
  engine_.submit(*slot);
  if (!uring_decided_ && engine_.initialized()) decide_on_uring();
  return true;
}

void Server::wait(Worker& worker) {
  std::array<epoll_event, 3> events;
  idle_.fetch_add(1, std::memory_order_relaxed);  // SAFETY: see want_thread()
  const int count = epoll_wait(worker.epoll.get(), events.data(), events.size(), -1);
  idle_.fetch_sub(1, std::memory_order_relaxed);  // SAFETY: see want_thread()
  const int work_fd = worker.work != nullptr ? worker.work->event_fd() : -1;
  bool requests = false;
  for (int i = 0; i < count; ++i) {
    const int fd = events[static_cast<std::size_t>(i)].data.fd;
    requests |= fd != work_fd && fd != stop_event_.get();
  }
  if (requests && !ending()) serve_one(worker);
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
