// What the front-end sets up for each ring (VHOST_USER_SET_VRING_*, GET_VRING_BASE), and when a ring starts.
#include <fmt/format.h>

#include <algorithm>

#include "fusewire/bytes.h"
#include "vhost_user/backend.h"

namespace fusewire::vhost_user {

using guestmem::GuestAddress;

namespace {

std::string no_ring(std::uint64_t index) { return fmt::format("there is no ring {}", index); }

}  // namespace

Backend::Ring* Backend::ring_at(std::uint64_t index) {
  return index < rings_.size() ? &rings_[index] : nullptr;
}

bool Backend::any_running() const { return std::ranges::any_of(rings_, &Ring::running); }

Backend::Verdict Backend::try_start(std::size_t index) {
  Ring& ring = rings_[index];
  if (ring.running || !ring.kick_came || map_->region_count() == 0) return done();
  ring.kick_came = false;
  const auto started = device_.start_queue(static_cast<unsigned>(index), ring.setup, std::move(ring.kick));
  if (!started) return failed(fmt::format("ring {} cannot start: {}", index, to_string(started.error())));
  ring.running = true;
  return done();
}

Backend::Verdict Backend::on_set_vring_num(Message& message) {
  const auto state = message.as<VringState>();
  Ring* ring = ring_at(state.index);
  if (ring == nullptr) return failed(no_ring(state.index));
  if (ring->running) return failed(fmt::format("ring {} runs", state.index));
  if (!virtio::valid_ring_size(state.value, packed_rings()))
    return failed(fmt::format("ring {} of size {}", state.index, state.value));
  ring->setup.size = state.value;
  ring->has_size = true;
  return done();
}

Backend::Verdict Backend::on_set_vring_addr(Message& message) {
  const auto address = message.as<VringAddress>();
  Ring* ring = ring_at(address.index);
  if (ring == nullptr) return failed(no_ring(address.index));
  virtio::RingSetup setup = ring->setup;
  setup.desc_user_addr = address.descriptor;
  setup.avail_user_addr = address.available;
  setup.used_user_addr = address.used;
  setup.log_used = (address.flags & kVringFlagLog) != 0;
  setup.log_guest_addr = GuestAddress(address.log);
  if (ring->running) {
    // Only what migration changes: "must support changing some configuration aspects on the fly".
    if (setup.desc_user_addr != ring->setup.desc_user_addr ||
        setup.avail_user_addr != ring->setup.avail_user_addr ||
        setup.used_user_addr != ring->setup.used_user_addr)
      return failed(fmt::format("ring {} runs", address.index));
    ring->setup = setup;
    device_.set_queue_logging(address.index, setup);
    return done();
  }
  ring->setup = setup;
  ring->has_addresses = true;
  return done();
}

Backend::Verdict Backend::on_set_vring_base(Message& message) {
  const auto state = message.as<VringState>();
  Ring* ring = ring_at(state.index);
  if (ring == nullptr) return failed(no_ring(state.index));
  if (ring->running) return failed(fmt::format("ring {} runs", state.index));
  if (!packed_rings() && state.value > 0xffff)
    return failed(fmt::format("ring {} at index {:#x}", state.index, state.value));
  ring->setup.base = state.value;
  return done();
}

Backend::Verdict Backend::on_get_vring_base(Message& message) {
  const auto state = message.as<VringState>();
  Ring* ring = ring_at(state.index);
  if (ring == nullptr) return failed(no_ring(state.index));
  if (ring->running) ring->setup.base = device_.stop_queue(state.index);
  ring->running = false;
  ring->kick_came = false;
  ring->kick.reset();
  const VringState answer{state.index, ring->setup.base};
  return reply(message, bytes_of(answer));
}

std::expected<std::size_t, std::string> Backend::vring_fd_index(const Message& message) const {
  const std::uint64_t value = message.as<U64>().value;
  const std::uint64_t index = value & ~kVringNoFd;
  if (index >= rings_.size()) return std::unexpected(no_ring(index));
  const bool none = (value & kVringNoFd) != 0;
  if (none != message.fds.empty())
    return std::unexpected(fmt::format("ring {} with {} file descriptors, {} the flag that there is none",
                                       index, message.fds.size(), none ? "with" : "without"));
  return index;
}

Backend::Verdict Backend::on_set_vring_kick(Message& message) {
  const auto index = vring_fd_index(message);
  if (!index) return failed(index.error());
  Ring& ring = rings_[*index];
  // Every front-end sends these first. Were the ring to start when they come after all, the base could come
  // too late.
  if (!ring.has_size || !ring.has_addresses)
    return failed(fmt::format("ring {} has no size or no addresses yet", *index));
  if (ring.running) {  // Another event for a running ring.
    ring.setup.base = device_.stop_queue(static_cast<unsigned>(*index));
    ring.running = false;
  }
  ring.kick = message.take_fd();
  ring.kick_came = true;
  return try_start(*index);
}

Backend::Verdict Backend::on_set_vring_call(Message& message) {
  const auto index = vring_fd_index(message);
  if (!index) return failed(index.error());
  device_.set_queue_call(static_cast<unsigned>(*index), message.take_fd());
  return done();
}

Backend::Verdict Backend::on_set_vring_err(Message& message) {
  const auto index = vring_fd_index(message);
  if (!index) return failed(index.error());
  device_.set_queue_error(static_cast<unsigned>(*index), message.take_fd());
  return done();
}

Backend::Verdict Backend::on_set_vring_enable(Message& message) {
  const auto state = message.as<VringState>();
  if (ring_at(state.index) == nullptr) return failed(no_ring(state.index));
  if (state.value > 1) return failed(fmt::format("ring {} enabled with {}", state.index, state.value));
  device_.set_queue_enabled(state.index, state.value == 1);
  return done();
}

}  // namespace fusewire::vhost_user
