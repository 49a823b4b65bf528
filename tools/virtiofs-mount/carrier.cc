#include "virtiofs-mount/carrier.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/log.h"
#include "fusewire/bytes.h"
#include "io/thread.h"

namespace fusewire::carry {
namespace {

using namespace std::chrono_literals;

constexpr unsigned kRingSize = 1024;
// Requests of one queue that the server can have. A thread in SETLKW keeps one, for as long as it waits.
constexpr unsigned kSlots = 256;
// How long a server may take to answer INIT and DESTROY.
constexpr auto kInitPatience = 60s;
constexpr auto kDestroyPatience = 5s;
// How long requests may be out after the mount has been taken away from under those who use it.
constexpr auto kGrace = 5s;

std::unexpected<std::string> failed(std::string text) { return std::unexpected(std::move(text)); }

// The most pages of a request that this kernel makes, as far as a ring can carry them (virtio_fs keeps 4
// descriptors for headers).
std::uint32_t page_limit() {
  std::uint32_t limit = 256;
  if (std::ifstream file("/proc/sys/fs/fuse/max_pages_limit"); file) file >> limit;
  return std::clamp<std::uint32_t>(limit, 32, kRingSize - 4);
}

}  // namespace

// -- The start --

std::expected<std::unique_ptr<Carrier>, std::string> Carrier::start(const CarrierOptions& options,
                                                                    std::vector<Observer*> observers,
                                                                    int stop_fd) {
  // Before the server, which may serve one connection only.
  const auto mountpoint = devfuse::Mount::resolve(options.mountpoint);
  if (!mountpoint) return failed(mountpoint.error());
  if (!std::filesystem::is_directory(*mountpoint))  // a share's root is one
    return failed(fmt::format("cannot mount on {}: it is no directory", options.mountpoint));
  const std::uint32_t pages = page_limit();
  driver::ServerOptions server_options;
  server_options.request_queues = options.queues;
  server_options.ring_size = kRingSize;
  server_options.indirect_entries = pages + 16;
  server_options.memory_bytes = Exchange::memory_size() + Hiprio::memory_size() +
                                std::size_t{options.queues} * kSlots * Slot::memory_size(pages);
  auto server = driver::Server::connect(options.socket, server_options);
  if (!server) return failed(server.error());
  std::unique_ptr<Carrier> carrier(new Carrier(std::move(*server)));
  carrier->page_limit_ = pages;
  if (auto mounted = carrier->mount(options, std::move(observers)); !mounted) return failed(mounted.error());
  if (auto done = carrier->carry_init(stop_fd); !done) return failed(done.error());
  if (auto made = carrier->make_workers(options.queues); !made) return failed(made.error());
  return carrier;
}

std::expected<void, std::string> Carrier::mount(const CarrierOptions& options,
                                                std::vector<Observer*> observers) {
  alarm_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!alarm_) return failed("eventfd: " + to_string(Errno{errno}));
  auto exchange = Exchange::create(*server_);
  if (!exchange) return failed(exchange.error());
  exchange_ = std::make_unique<Exchange>(*exchange);
  // Before Hiprio, which looks at `abandoned` in it.
  shared_ = std::make_unique<Shared>(*server_);
  auto hiprio = Hiprio::create(*server_, shared_->abandoned);
  if (!hiprio) return failed("no memory for FORGETs");
  hiprio_ = std::make_unique<Hiprio>(*std::move(hiprio));
  shared_->hiprio = hiprio_.get();
  shared_->observers = std::move(observers);
  shared_->interrupts = options.interrupts;
  shared_->alarm_fd = alarm_.get();

  auto made = devfuse::Mount::create(options.mountpoint, options.mount);
  if (!made) return failed(made.error());
  mount_ = std::make_unique<devfuse::Mount>(std::move(made->mount));
  channel_ = std::make_unique<devfuse::Channel>(std::move(made->channel));
  return {};
}

std::expected<std::vector<std::byte>, std::string> Carrier::read_init(int stop_fd) {
  std::vector<std::byte> request(devfuse::Channel::kLeastRoom);
  for (;;) {
    const auto size = channel_->read(request);
    if (size) {
      request.resize(*size);
      return request;
    }
    if (size.error().value != EAGAIN) return failed("reading INIT: " + to_string(size.error()));
    std::array<pollfd, 2> watched{{{channel_->fd(), POLLIN, 0}, {stop_fd, POLLIN, 0}}};
    if (poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR)
      return failed("poll: " + to_string(Errno{errno}));
    if (watched[1].revents != 0) return failed("ended by a signal");
  }
}

std::expected<void, std::string> Carrier::carry_init(int stop_fd) {
  const auto request = read_init(stop_fd);
  if (!request) return failed(request.error());
  const auto changed = init_for_server(*request);
  if (!changed) return failed("the kernel did not begin with an INIT of protocol 7");
  const auto body = exchange_->call(*changed, kInitPatience, stop_fd);
  if (!body) return failed("INIT: " + body.error());
  auto out = init_for_kernel(*request, *body, page_limit_, settled_);
  if (!out) return failed("INIT: the server speaks another major version of FUSE");

  fuse_in_header in{};
  std::memcpy(&in, request->data(), sizeof in);
  fuse_out_header header{.len = sizeof header + sizeof *out, .error = 0, .unique = in.unique};
  const std::array<iovec, 2> pieces{{{&header, sizeof header}, {&*out, sizeof *out}}};
  if (const auto written = channel_->write(pieces); !written)
    return failed("INIT: the kernel rejects the reply: " + to_string(written.error()));
  for (Observer* observer : shared_->observers) {
    const Operation& operation = *find_operation(FUSE_INIT);
    observer->request(1, in, *changed, reply_room(operation, *changed));
    observer->reply(1, in, header, *body, 0ns);
  }
  log::debug("FUSE 7.{}, {} KiB a request at most", settled_.minor, settled_.max_write / 1024);
  return {};
}

std::expected<void, std::string> Carrier::make_workers(unsigned count) {
  const std::uint32_t pages = std::max(settled_.max_pages, settled_.max_write / 4096);
  for (unsigned index = 0; index < count; ++index) {
    std::vector<Slot> slots;
    for (unsigned i = 0; i < kSlots; ++i) {
      const auto piece = server_->memory().allocate(Slot::memory_size(pages), 4096);
      if (!piece) return failed("no memory for requests");
      slots.emplace_back(*piece, pages);
    }
    // The first one goes last: the others are made from it.
    auto channel = index + 1 < count ? channel_->clone() : Result<devfuse::Channel>(std::move(*channel_));
    if (!channel) return failed("another /dev/fuse for the mount: " + to_string(channel.error()));
    auto worker = Worker::create(*shared_, index, std::move(*channel), std::move(slots));
    if (!worker) return failed(fmt::format("queue {}: {}", index, to_string(worker.error())));
    workers_.push_back(std::move(*worker));
  }
  channel_.reset();
  return {};
}

std::expected<void, std::string> Carrier::serve() {
  for (const auto& worker : workers_) {
    ++shared_->running;
    const auto thread =
        io::start_thread([&worker] { worker->run(); }, fmt::format("queue {}", threads_.size()));
    if (!thread) {
      --shared_->running;
      return failed("starting a thread: " + to_string(thread.error()));
    }
    threads_.push_back(*thread);
  }
  return {};
}

// -- The end --

struct Carrier::Ending {
  End reason = End::unmounted;
  bool begun = false;     // the unmounter was started, by us
  bool given_up = false;  // by us, not because the server has gone
  std::optional<std::chrono::steady_clock::time_point> deadline;
};

Carrier::End Carrier::wait(daemon::StopSignals& signals) {
  Ending ending;
  while (shared_->running.load() != 0) {
    const int events = sleep(ending, signals.fd());
    if (events != 0) look_at_signals(ending, signals);
    look_at_server(ending);
    look_at_unmounter(ending);
  }
  join_all();
  workers_.clear();  // From here on the kernel answers by itself.
  const bool server_gone = ending.reason == End::server_gone;
  if (!server_gone && !ending.given_up && !shared_->abandoned.load()) destroy_session();
  return ending.reason;
}

// Returns 1 when a signal came.
int Carrier::sleep(const Ending& ending, int signal_fd) {
  std::array<pollfd, 3> watched{
      {{alarm_.get(), POLLIN, 0},
       {signal_fd, POLLIN, 0},
       {ending.reason == End::server_gone ? -1 : server_->socket_fd(), POLLRDHUP, 0}}};
  int timeout = -1;
  if (ending.deadline && !shared_->abandoned.load()) {
    const auto left = *ending.deadline - std::chrono::steady_clock::now();
    timeout = static_cast<int>(
        std::max<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(left).count(), 0));
  }
  if (poll(watched.data(), watched.size(), timeout) < 0) return 0;
  std::uint64_t alarms = 0;
  while (::read(alarm_.get(), &alarms, sizeof alarms) < 0 && errno == EINTR) {
  }
  return watched[1].revents != 0 ? 1 : 0;
}

void Carrier::look_at_server(Ending& ending) {
  if (ending.reason == End::server_gone) return;
  // A worker abandons it for a broken ring, too.
  if (!server_->hung_up() && (ending.given_up || !shared_->abandoned.load())) return;
  ending.reason = End::server_gone;
  log::error("the server has gone: {} answers with ENOTCONN and is unmounted", mount_->mountpoint());
  give_up();
  if (!std::exchange(ending.begun, true)) begin_unmount(true);
}

void Carrier::look_at_signals(Ending& ending, daemon::StopSignals& signals) {
  const int signal = signals.take();
  if (signal == 0) return;
  if (!std::exchange(ending.begun, true)) {
    log::info("unmounting {}: signal {}", mount_->mountpoint(), sigabbrev_np(signal));
    if (ending.reason == End::unmounted) ending.reason = End::signal;
    return begin_unmount(false);
  }
  log::warn("a second signal: requests that are out are answered with ENOTCONN");
  ending.given_up = true;
  give_up();
}

void Carrier::look_at_unmounter(Ending& ending) {
  if (unmount_done_.load() && !ending.deadline) {
    ending.deadline = std::chrono::steady_clock::now() + kGrace;
    shared_->closing.store(true);
    wake_all();
  } else if (ending.deadline && !shared_->abandoned.load() &&
             std::chrono::steady_clock::now() >= *ending.deadline) {
    log::warn("requests are still out: they are answered with ENOTCONN");
    ending.given_up = true;
    give_up();
  }
}

void Carrier::begin_unmount(bool server_gone) {
  const auto body = [this, server_gone] {
    bool done = false;
    if (!server_gone) {
      done = mount_->unmount(devfuse::Mount::Mode::clean).has_value();
      if (!done) {
        log::warn("{} is in use: those who use it get ENOTCONN from now on", mount_->mountpoint());
        mount_->write_back();
      }
    }
    if (!done) {
      if (auto lazy = mount_->unmount(devfuse::Mount::Mode::lazy); !lazy) log::error("{}", lazy.error());
    }
    unmount_done_.store(true);
    const std::uint64_t one = 1;
    while (::write(alarm_.get(), &one, sizeof one) < 0 && errno == EINTR) {
    }
  };
  const auto thread = io::start_thread(body, "unmount");
  if (thread) {
    unmounter_ = *thread;
  } else {
    // Then without waiting: closing the channels ends the file system, the destructor unmounts.
    log::error("no thread to unmount with: {}", to_string(thread.error()));
    give_up();
    unmount_done_.store(true);
  }
}

void Carrier::give_up() {
  shared_->abandoned.store(true);
  wake_all();
}

void Carrier::wake_all() {
  for (const auto& worker : workers_) worker->wake();
}

void Carrier::join_all() {
  for (const pthread_t thread : std::exchange(threads_, {})) pthread_join(thread, nullptr);
  if (const auto unmounter = std::exchange(unmounter_, std::nullopt)) pthread_join(*unmounter, nullptr);
}

// What a guest's kernel does when it unmounts; /dev/fuse's own DESTROY exists for block devices only.
void Carrier::destroy_session() {
  fuse_in_header destroy{};
  destroy.len = sizeof destroy;
  destroy.opcode = FUSE_DESTROY;
  destroy.unique = 2;  // No other request is out.
  if (const auto done = exchange_->call(bytes_of(destroy), kDestroyPatience, -1); !done) {
    log::warn("DESTROY: {}", done.error());
    return;
  }
  if (const auto stopped = server_->stop(); !stopped) log::warn("stopping the rings: {}", stopped.error());
}

Carrier::~Carrier() {
  // Only after a failed start are there threads.
  if (threads_.empty()) return;
  shared_->closing.store(true);
  give_up();
  join_all();
}

}  // namespace fusewire::carry
