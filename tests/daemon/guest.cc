#include "daemon/guest.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "guestmem/dirty_log.h"
#include "vhost_user/messages.h"

namespace fusewire::tests {
namespace {

// Fails the test with the text of what went wrong.
template <class T>
bool succeeded(const std::expected<T, std::string>& result) {
  if (!result) ADD_FAILURE() << result.error();
  return result.has_value();
}

guestmem::SharedMemory create_memory(guestmem::GuestAddress address, std::size_t size) {
  auto memory = guestmem::SharedMemory::create(address, size);
  FUSEWIRE_CHECK(memory.has_value());
  return std::move(*memory);
}

// FUSEWIRE_PACKED_RINGS makes all rings packed, whatever the test wants.
GuestOptions as_the_environment_says(GuestOptions options) {
  if (std::getenv("FUSEWIRE_PACKED_RINGS") != nullptr) options.queue.packed = true;
  return options;
}

// A pair whose other end is closed: a front-end that could not connect. Every request fails.
UniqueFd dead_socket() {
  int pair[2] = {-1, -1};
  FUSEWIRE_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  const UniqueFd closed(pair[1]);
  return UniqueFd(pair[0]);
}

}  // namespace

MockGuest::MockGuest(DaemonProcess& daemon, const GuestOptions& wanted)
    : options_(as_the_environment_says(wanted)),
      memory_(create_memory(kMemoryBase,
                            (options_.request_queues + 1) * GuestQueue::memory_size(options_.queue))),
      log_(create_memory(guestmem::GuestAddress(0), std::size_t{1} << 20)) {  // of 32 GiB
  UniqueFd socket = daemon.connect();
  if (!socket) socket = dead_socket();
  frontend_ = std::make_unique<vhost_user::Frontend>(std::move(socket));
  const GuestOptions& options = options_;
  for (unsigned i = 0; i <= options.request_queues; ++i) {
    queues_.push_back(std::make_unique<GuestQueue>(memory_, options.queue));
    base_.push_back(queues_.back()->driver().setup().base);
  }

  std::uint64_t features = options.queue.accepted(virtio::kVersion1 | virtio::kEventIdx |
                                                  virtio::kIndirectDesc | virtio::kRingPacked);
  if (options.dirty_log) features |= vhost_user::kLogAll;
  if (!succeeded(frontend_->negotiate(features))) return;
  const auto region = vhost_user::Frontend::share(memory_);
  if (!succeeded(frontend_->set_mem_table({&region, 1}))) return;
  if (options.dirty_log) {
    logging_ = true;
    if (!succeeded(frontend_->set_log_base(log_.size(), 0, log_.fd().get()))) return;
  }
  if (!options.start_rings) return;
  for (unsigned i = 0; i < queue_count(); ++i) {
    start_ring(i);
    enable_ring(i);
  }
  if (options.initialize) {
    EXPECT_EQ(initialize(options.caps).error, 0);
  }
}

MockGuest::~MockGuest() = default;

Answer MockGuest::initialize(std::uint64_t caps, std::uint32_t minor, std::uint32_t major) {
  fuse_init_in in{};
  in.major = major;
  in.minor = minor;
  in.max_readahead = 128 * 1024;
  in.flags = static_cast<std::uint32_t>(caps);
  in.flags2 = static_cast<std::uint32_t>(caps >> 32);
  Answer answer = send(Request(FUSE_INIT, NodeId{0}).arg(in).room(sizeof(fuse_init_out)));
  init_reply_ = answer.as<fuse_init_out>();
  return answer;
}

virtio::RingSetup MockGuest::ring_setup(unsigned index) {
  virtio::RingSetup setup = queue(index).driver().setup();
  setup.base = base_[index];
  setup.log_used = logging_;
  return setup;
}

void MockGuest::start_ring(unsigned index) {
  GuestQueue& ring = queue(index);
  succeeded(frontend_->start_ring(index, ring_setup(index), ring.kick_fd(), ring.call_fd(), ring.error_fd()));
}

void MockGuest::enable_ring(unsigned index, bool enabled) {
  succeeded(frontend_->set_vring_enable(index, enabled));
}

std::uint32_t MockGuest::stop_ring(unsigned index) {
  const auto base = frontend_->get_vring_base(index);
  if (succeeded(base)) base_[index] = *base;
  return base_[index];
}

guestmem::SharedMemory& MockGuest::make_memory(std::uint64_t gigabyte, std::size_t size) {
  const guestmem::GuestAddress address(kMemoryBase.get() + (gigabyte << 30));
  more_.push_back(std::make_unique<guestmem::SharedMemory>(create_memory(address, size)));
  return *more_.back();
}

void MockGuest::plug(guestmem::SharedMemory& memory) {
  succeeded(frontend_->add_mem_reg(vhost_user::Frontend::share(memory)));
}

void MockGuest::unplug(guestmem::SharedMemory& memory) {
  succeeded(frontend_->rem_mem_reg(memory.description()));
}

bool MockGuest::is_dirty(guestmem::GuestAddress address) const {
  const std::uint64_t page = address.get() / guestmem::DirtyLog::kPageSize;
  const std::byte bits = *log_.host(guestmem::GuestAddress(page / 8));
  return ((bits >> (page % 8)) & std::byte{1}) != std::byte{0};
}

void MockGuest::clear_dirty_log() { std::memset(log_.host(guestmem::GuestAddress(0)), 0, log_.size()); }

void MockGuest::set_logging(bool on) {
  logging_ = on;
  if (on) succeeded(frontend_->set_log_base(log_.size(), 0, log_.fd().get()));
  const std::uint64_t features = frontend_->features() & ~vhost_user::kLogAll;
  succeeded(frontend_->set_features(features | (on ? vhost_user::kLogAll : 0)));
  for (unsigned i = 0; i < queue_count(); ++i) succeeded(frontend_->set_vring_addr(i, ring_setup(i)));
}

}  // namespace fusewire::tests
