#include "devfuse/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <utility>

#include "base/event_fd.h"
#include "base/log.h"
#include "devfuse/server_worker.h"

namespace fusewire::devfuse {

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
  engine.set_transport(server->transport());
  return server;
}

Engine::Transport Server::transport() const {
  return {.max_write = static_cast<std::uint32_t>(options_.max_write),
          .abort_error = options_.abort_error,
          .over_io_uring = uring_ != nullptr};
}

void choose(const MountOptions& wishes, ServerOptions& options) {
  options.io_uring = wishes.io_uring;
  options.io_uring_queue_depth = wishes.io_uring_queue_depth.value_or(options.io_uring_queue_depth);
  options.busy_poll = wishes.busy_poll.value_or(options.busy_poll);
}

Server::Server(Engine& engine, Channel first, const ServerOptions& options)
    : engine_(engine), first_(std::move(first)), options_(options) {}

Server::~Server() {
  // Queues that run() did not end: there was none.
  if (uring_) uring_->pause(true);
  if (options_.resumable || uring_) finish();
}

Result<std::unique_ptr<Server::Worker>> Server::make_worker(unsigned number) {
  std::optional<Channel> own;
  if (options_.clone_fd && number != 0) {
    auto cloned = first_.clone();
    if (!cloned) return fail(cloned.error().value);
    own = std::move(*cloned);
  }
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  UniqueFd call(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll || !call || !io::watch(epoll, stop_event_.get(), EPOLLIN) ||
      !io::watch(epoll, call.get(), EPOLLIN))
    return fail_errno();
  return std::make_unique<Worker>(number, std::move(own), std::move(epoll), std::move(call), first_,
                                  options_);
}

void Server::serve_init() {
  if (options_.io_uring) prepare_uring();
  Worker& worker = *workers_.front();
  ChannelSlot* slot = nullptr;
  while ((slot = worker.pool.take()) == nullptr) poll(nullptr, 0, 10);
  for (;;) {
    const auto received = slot->receive();
    if (received && *received) break;
    if (!received && received.error().value != ENOMEM) return worker.pool.give_back(*slot);  // no mount
    poll(nullptr, 0, 10);
  }
  slot->queue = worker.number;
  engine_.submit(*slot);
  if (uring_decided_ || !engine_.initialized()) return;
  joins_uring_ = engine_.over_io_uring();
  if (!joins_uring_) return decide_on_uring();
  // The queues that run() makes are the ones: their threads would not live through a fork before it.
  uring_decided_ = true;
  uring_.reset();
}

// The kernel keeps all requests waiting until the queues are there.
bool Server::join_uring() {
  prepare_uring();
  uring_decided_ = true;
  if (uring_) {
    uring_->serve();
    return true;
  }
  error_.store(ENOMEM);
  end(Ending::failed);
  return false;
}

Server::Ending Server::run() {
  if (options_.io_uring) prepare_uring();
  if (uring_ && uring_decided_) uring_->serve();
  if (std::exchange(joins_uring_, false) && !join_uring()) return why_.load();
  serve(*workers_.front());
  // After the end nobody starts threads.
  std::vector<std::thread> others;
  {
    const std::lock_guard lock(workers_mutex_);
    for (const auto& worker : workers_) {
      if (worker->thread.joinable()) others.push_back(std::move(worker->thread));
      worker->running = false;
      worker->asleep = false;
    }
    thread_count_ = 1;
    sleepers_ = 0;
    has_deputy_ = false;
  }
  // Again and again, for those that had just taken a request.
  while (!options_.resumable && others_.load() != 0) {
    end_waits();
    poll(nullptr, 0, 1);
  }
  for (std::thread& thread : others) thread.join();
  if (uring_) uring_->pause(!options_.resumable);
  if (!options_.resumable) finish();
  return why_.load();
}

void Server::finish() {
  const auto given_up = engine_.abandon(options_.grace);
  if (given_up.requests != 0) log::warn("{} requests that nobody answered are given up", given_up.requests);
  awaited_ = given_up.awaited;
  // Slots that were answered just now are still on their way back.
  for (const auto& worker : workers_) {
    if (worker->slot != nullptr) worker->pool.give_back(*worker->slot);
    worker->slot = nullptr;
  }
  while (lent() > given_up.requests) poll(nullptr, 0, 1);
  uring_.reset();
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
  const UniqueFd nowhere(open("/dev/null", O_RDONLY | O_CLOEXEC));  // answers fail
  const auto replace = [&nowhere](const Channel& channel) {
    if (dup3(nowhere.get(), channel.fd(), O_CLOEXEC) < 0)
      log::error("closing /dev/fuse: {}", to_string(Errno{errno}));
  };
  const std::lock_guard lock(workers_mutex_);
  replace(first_);
  for (const auto& worker : workers_)
    if (const std::optional<Channel>& own = worker->own) replace(*own);
  if (uring_) uring_->close();
}

std::size_t Server::lent() const {
  std::size_t count = uring_ ? uring_->lent() : 0;
  for (const auto& worker : workers_) count += worker->pool.lent();
  return count;
}

void Server::prepare_uring() {
  static constexpr unsigned kFirstQueue = 1U << 16;  // above all threads' numbers
  options_.io_uring = false;                         // decided here, whatever comes of it
  if (options_.max_threads == 1)
    return log::warn("io_uring needs more than one thread: requests are read from /dev/fuse");
  auto made = UringChannel::create(engine_, {.fuse_fd = first_.fd(),
                                             .number = kFirstQueue,
                                             .depth = options_.io_uring_queue_depth,
                                             .payload_room = payload_room(options_.max_write),
                                             .only_user = options_.only_user,
                                             .busy_poll = options_.busy_poll,
                                             .on_refusal = [this](Errno error) {
                                               error_.store(error.value);
                                               end(Ending::failed);
                                             }});
  if (!made) return log::warn("no io_uring ({}): requests are read from /dev/fuse", to_string(made.error()));
  uring_ = std::move(*made);
  uring_decided_ = false;
  engine_.set_transport(transport());
}

void Server::decide_on_uring() {
  uring_decided_ = true;
  if (engine_.over_io_uring()) return uring_->serve();
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
  signal_event(stop_event_);
  errno = before;
}

void Server::end(Ending why) {
  bool expected = false;
  if (ending_.compare_exchange_strong(expected, true)) why_.store(why);
  signal_event(stop_event_);
}

}  // namespace fusewire::devfuse
