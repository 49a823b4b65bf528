#include "driver/server.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>

#include "virtio/features.h"

namespace fusewire::driver {
namespace {

// Where guest memory begins: any address would do but the lowest, which a bug might hit by chance.
constexpr guestmem::GuestAddress kMemoryBase{0x40000000};
constexpr std::size_t kPageSize = 4096;

std::unexpected<std::string> failed(std::string text) { return std::unexpected(std::move(text)); }

virtio::DriverOptions driver_options(const ServerOptions& options) {
  return {.event_idx = options.event_idx,
          .indirect_entries = options.indirect ? options.indirect_entries : 0,
          .initial_index = 0,
          .packed = options.packed};
}

std::size_t ring_memory(const ServerOptions& options) {
  const std::size_t size = virtio::DriverQueue::memory_size(options.ring_size, driver_options(options));
  return (size + kPageSize - 1) / kPageSize * kPageSize;
}

// For the rings of either kind: which one it will be is known only after the negotiation.
std::size_t ring_room(ServerOptions options) {
  const std::size_t wanted = ring_memory(options);
  options.packed = false;
  return std::max(wanted, ring_memory(options));
}

}  // namespace

std::expected<std::unique_ptr<Server>, std::string> Server::connect(const std::string& socket,
                                                                    const ServerOptions& options) {
  auto frontend = vhost_user::Frontend::connect(socket);
  if (!frontend) return failed(frontend.error());
  return connect(std::move(*frontend), options);
}

std::expected<std::unique_ptr<Server>, std::string> Server::connect(vhost_user::Frontend frontend,
                                                                    const ServerOptions& options) {
  // A size for either kind of ring: a server without packed ones gets a split one.
  if (!virtio::valid_ring_size(options.ring_size, false))
    return failed(fmt::format("a ring of {} is not possible: powers of two from 2 to {} are",
                              options.ring_size, virtio::kMaxRingSize));
  if (options.request_queues == 0) return failed("at least one request queue is needed");
  auto memory = guestmem::SharedMemory::create(
      kMemoryBase, (options.request_queues + 1) * ring_room(options) + options.memory_bytes);
  if (!memory)
    return failed(fmt::format("no memory to share with the server: {}", to_string(memory.error())));
  std::unique_ptr<Server> server(new Server(std::move(frontend), std::move(*memory)));
  if (auto started = server->start(options); !started) return failed(started.error());
  return server;
}

std::expected<void, std::string> Server::start(const ServerOptions& options) {
  std::uint64_t features = virtio::kVersion1;
  if (options.event_idx) features |= virtio::kEventIdx;
  if (options.indirect) features |= virtio::kIndirectDesc;
  if (options.packed) features |= virtio::kRingPacked;
  if (auto done = frontend_.negotiate(features); !done) return done;
  ServerOptions taken = options;
  taken.event_idx = (frontend_.features() & virtio::kEventIdx) != 0;
  taken.indirect = (frontend_.features() & virtio::kIndirectDesc) != 0;
  taken.packed = (frontend_.features() & virtio::kRingPacked) != 0;

  if (frontend_.has(vhost_user::ProtocolFeature::mq)) {
    const auto queues = frontend_.get_queue_num();
    if (!queues) return failed(queues.error());
    if (taken.fewer_queues && *queues >= 2 && *queues < taken.request_queues + 1)
      taken.request_queues = static_cast<unsigned>(*queues - 1);
    if (*queues < taken.request_queues + 1)
      return failed(fmt::format("the server has {} request queues, not {}",
                                *queues - std::min<std::uint64_t>(*queues, 1), taken.request_queues));
  }
  const auto region = vhost_user::Frontend::share(memory_);
  if (auto done = frontend_.set_mem_table({&region, 1}); !done) return done;
  for (unsigned index = 0; index <= taken.request_queues; ++index) {
    const auto piece = memory_.allocate(ring_memory(taken), kPageSize);
    if (!piece) return failed("no room for the rings");
    auto queue = Queue::create(*piece, taken.ring_size, driver_options(taken));
    if (!queue) return failed(fmt::format("queue {}: {}", index, to_string(queue.error())));
    queues_.push_back(std::move(*queue));
    const Queue& made = queues_.back();
    if (auto done = frontend_.start_ring(index, made.setup(), made.kick_fd(), made.call_fd()); !done)
      return done;
  }
  if ((frontend_.features() & vhost_user::kProtocolFeatures) == 0) return {};  // rings start enabled
  for (unsigned index = 0; index <= taken.request_queues; ++index)
    if (auto done = frontend_.set_vring_enable(index, true); !done) return done;
  return {};
}

bool Server::hung_up() {
  pollfd socket{socket_fd(), POLLRDHUP, 0};
  return ::poll(&socket, 1, 0) == 1;
}

std::expected<void, std::string> Server::stop() {
  for (unsigned index = 0; index < queues_.size(); ++index)
    if (const auto base = frontend_.get_vring_base(index); !base) return failed(base.error());
  return {};
}

}  // namespace fusewire::driver
