#include "vhost_user/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "fusewire/bytes.h"

namespace fusewire::vhost_user {

using guestmem::DirtyLog;
using guestmem::GuestAddress;
using guestmem::MemoryMap;
using guestmem::MemoryRegion;

namespace {

std::string no_ring(std::uint64_t index) { return fmt::format("there is no ring {}", index); }

guestmem::RegionDescription describe(const Region& region) {
  return {GuestAddress(region.guest), region.size, region.user, region.mmap_offset};
}

}  // namespace

Backend::Backend(UniqueFd socket, Device& device, int stop_fd)
    : connection_(std::move(socket), stop_fd),
      device_(device),
      rings_(device.queue_count()),
      map_(MemoryMap::empty()) {
  FUSEWIRE_CHECK(rings_.size() <= kVringIndexMask + 1);
}

Backend::Outcome Backend::run() {
  Outcome outcome;
  Message message;
  for (bool serving = true; serving;) {
    switch (connection_.receive(message)) {
      case Connection::Io::done:
        if (auto error = dispatch(message)) {
          outcome = {Ending::protocol_error, std::move(*error)};
          serving = false;
        }
        break;
      case Connection::Io::closed:
        outcome = {Ending::front_end_gone, {}};
        serving = false;
        break;
      case Connection::Io::stopped:
        outcome = {Ending::stopped, {}};
        serving = false;
        break;
      case Connection::Io::failed:
        outcome = {Ending::protocol_error, connection_.error()};
        serving = false;
        break;
    }
  }
  device_.disconnect();
  for (unsigned i = 0; i < rings_.size(); ++i) {
    device_.set_queue_call(i, UniqueFd());
    device_.set_queue_error(i, UniqueFd());
  }
  log_.reset();
  device_.set_dirty_log(nullptr);
  map_ = MemoryMap::empty();
  device_.set_memory(map_);
  request_socket_.reset();
  connection_.close();
  return outcome;
}

std::optional<std::string> Backend::dispatch(Message& message) {
  const RequestInfo* info = find_request(message.header.request);
  log::trace("vhost-user: {}, {} bytes, {} descriptors", request_name(message.header.request),
             message.header.size, message.fds.size());
  Verdict verdict = handle(info, message);

  // "VHOST_USER_PROTOCOL_F_REPLY_ACK": requests with a reply of their own get no other.
  const bool ack = message.needs_reply() && (protocol_features_ & bit(ProtocolFeature::reply_ack)) != 0;
  switch (verdict.kind) {
    case Verdict::Kind::replied:
      return std::nullopt;
    case Verdict::Kind::done:
      if (!ack) return std::nullopt;
      verdict = reply_u64(message, 0);
      if (verdict.kind == Verdict::Kind::replied) return std::nullopt;
      return verdict.text;
    case Verdict::Kind::refused:
    case Verdict::Kind::failed:
      break;
  }

  std::string text = fmt::format("{}: {}", request_name(message.header.request), verdict.text);
  // A status can say no; a value could not be told from a good one.
  const ReplyKind kind = info == nullptr ? ReplyKind::none : info->reply;
  const bool can_say_no = ack && (kind == ReplyKind::none || kind == ReplyKind::status);
  if (!can_say_no && verdict.kind == Verdict::Kind::failed) return text;
  static log::RateLimit limit;
  log::warn_limited(limit, "vhost-user: {}", text);
  if (!can_say_no) return std::nullopt;
  verdict = reply_u64(message, 1);
  if (verdict.kind == Verdict::Kind::replied) return std::nullopt;
  return verdict.text;
}

Backend::Verdict Backend::handle(const RequestInfo* info, Message& message) {
  if (info == nullptr) return failed("unknown request");
  if ((message.header.flags & kFlagReply) != 0) return failed("a reply, where requests are expected");
  if (message.payload.size() < info->size.min || message.payload.size() > info->size.max)
    return failed(fmt::format("{} bytes of payload", message.payload.size()));
  if (message.fds.size() < info->min_fds || message.fds.size() > info->max_fds)
    return failed(fmt::format("{} file descriptors", message.fds.size()));
  // Some requests need only that we offer their feature, others that it was acknowledged. A front-end that
  // sends one means it, so we ask for no more than the former.
  const std::uint64_t needed = bit(info->feature);
  if ((offered_protocol_features() & needed) != needed) return failed("its protocol feature is not offered");

  switch (info->request) {
#define FUSEWIRE_VHOST_USER_REQUEST(name, ...) \
  case Request::name:                          \
    return on_##name(message);
#include "vhost_user/messages.def"
#undef FUSEWIRE_VHOST_USER_REQUEST
  }
  return failed("unknown request");
}

Backend::Verdict Backend::reply(const Message& request, std::span<const std::byte> payload) {
  switch (connection_.send(request.header.request, kFlagReply, payload)) {
    case Connection::Io::failed:
      return failed(connection_.error());
    // That the peer is gone or that we are to stop is what the next receive() reports.
    case Connection::Io::closed:
    case Connection::Io::stopped:
    case Connection::Io::done:
      break;
  }
  return {Verdict::Kind::replied, {}};
}

Backend::Verdict Backend::reply_u64(const Message& request, std::uint64_t value) {
  const U64 payload{value};
  return reply(request, bytes_of(payload));
}

// -- Features --

std::uint64_t Backend::offered_features() const { return device_.features() | kProtocolFeatures | kLogAll; }

std::uint64_t Backend::offered_protocol_features() const {
  // QEMU 7.1 to 8.0 crash when a file system device offers CONFIG, so only a device that has one does.
  return device_.config().empty() ? kKnownProtocolFeatures & ~bit(ProtocolFeature::config)
                                  : kKnownProtocolFeatures;
}

Backend::Verdict Backend::on_get_features(Message& message) { return reply_u64(message, offered_features()); }

Backend::Verdict Backend::on_set_features(Message& message) {
  const std::uint64_t acked = message.as<U64>().value;
  if ((acked & ~offered_features()) != 0)
    return failed(fmt::format("features {:#x} were not offered", acked & ~offered_features()));
  if (!any_running()) {
    device_.set_features(acked & device_.features());
  } else if (const std::uint64_t changed = (acked ^ features_) & device_.features(); changed != 0) {
    // VHOST_F_LOG_ALL comes and goes with migrations; a ring's own features do not.
    return failed(fmt::format("features {:#x} change while a ring runs", changed));
  }
  features_ = acked;
  // "Ring states": without protocol features there is no SET_VRING_ENABLE, and rings are enabled at once.
  if ((acked & kProtocolFeatures) == 0)
    for (unsigned i = 0; i < rings_.size(); ++i) device_.set_queue_enabled(i, true);
  pass_dirty_log();
  return done();
}

Backend::Verdict Backend::on_get_protocol_features(Message& message) {
  return reply_u64(message, offered_protocol_features());
}

Backend::Verdict Backend::on_set_protocol_features(Message& message) {
  const std::uint64_t acked = message.as<U64>().value;
  if ((acked & ~offered_protocol_features()) != 0)
    return failed(
        fmt::format("protocol features {:#x} were not offered", acked & ~offered_protocol_features()));
  protocol_features_ = acked;
  return done();
}

Backend::Verdict Backend::on_get_queue_num(Message& message) { return reply_u64(message, rings_.size()); }

// -- Session --

Backend::Verdict Backend::on_set_owner(Message&) { return done(); }

Backend::Verdict Backend::on_reset_owner(Message&) {
  // Deprecated; "use it to disable all rings", and keep all else.
  reset_device();
  return done();
}

Backend::Verdict Backend::on_reset_device(Message&) {
  reset_device();
  return done();
}

Backend::Verdict Backend::on_set_status(Message& message) {
  const std::uint64_t status = message.as<U64>().value;
  if (status > 0xff) return failed(fmt::format("status {:#x}", status));  // virtio 1.2, 2.1: a byte.
  if (status == 0) reset_device();
  status_ = status;
  return done();
}

Backend::Verdict Backend::on_get_status(Message& message) { return reply_u64(message, status_); }

Backend::Verdict Backend::on_set_backend_req_fd(Message& message) {
  request_socket_ = message.take_fd();
  return done();
}

void Backend::reset_device() {
  device_.reset();
  for (Ring& ring : rings_) ring = Ring();
  status_ = 0;
}

// -- Configuration space --

Backend::Verdict Backend::on_get_config(Message& message) {
  auto access = message.as<ConfigAccess>();
  const auto config = device_.config();
  const std::size_t sent = message.payload.size() - offsetof(ConfigAccess, payload);
  // Some front-ends leave room for the bytes in the request, some do not.
  const bool well_formed = access.size <= kMaxConfigSize && (sent == 0 || sent == access.size);
  if (!well_formed || access.size == 0 || access.offset > config.size() ||
      access.size > config.size() - access.offset)
    return reply(message, {});  // "zero length of payload to indicate an error"
  std::ranges::copy(config.subspan(access.offset, access.size),
                    std::as_writable_bytes(std::span(access.payload)).begin());
  return reply(message, bytes_of(access).first(offsetof(ConfigAccess, payload) + access.size));
}

Backend::Verdict Backend::on_set_config(Message&) {
  // A guest's attempt must not end the connection.
  return {Verdict::Kind::refused, "the configuration space is read-only"};
}

// -- Memory --

Backend::Verdict Backend::set_map(std::expected<std::shared_ptr<const MemoryMap>, std::string> map) {
  if (!map) return failed(std::move(map.error()));
  map_ = std::move(*map);
  device_.set_memory(map_);
  for (std::size_t i = 0; i < rings_.size(); ++i)
    if (auto started = try_start(i); started.kind != Verdict::Kind::done) return started;
  return done();
}

Backend::Verdict Backend::on_set_mem_table(Message& message) {
  const auto table = message.as<MemoryTable>();
  if (table.count > kMaxTableRegions || table.count != message.fds.size() ||
      message.payload.size() < offsetof(MemoryTable, regions) + table.count * sizeof(Region))
    return failed(fmt::format("{} regions in {} bytes with {} file descriptors", table.count,
                              message.payload.size(), message.fds.size()));
  MemoryMap::Regions regions;
  for (std::size_t i = 0; i < table.count; ++i) {
    auto region = MemoryRegion::map(describe(table.regions[i]), message.take_fd(i));
    if (!region) return failed(std::move(region.error()));
    regions.push_back(std::move(*region));
  }
  return set_map(MemoryMap::create(std::move(regions)));
}

Backend::Verdict Backend::on_get_max_mem_slots(Message& message) {
  return reply_u64(message, MemoryMap::kMaxRegions);
}

Backend::Verdict Backend::on_add_mem_reg(Message& message) {
  auto region = MemoryRegion::map(describe(message.as<SingleRegion>().region), message.take_fd());
  if (!region) return failed(std::move(region.error()));
  // No ring stops for this: a new snapshot with the old regions in it.
  return set_map(map_->with(std::move(*region)));
}

Backend::Verdict Backend::on_rem_mem_reg(Message& message) {
  // A descriptor that comes along is closed with the message, as the specification wants.
  return set_map(map_->without(describe(message.as<SingleRegion>().region)));
}

// -- Dirty log --

void Backend::pass_dirty_log() { device_.set_dirty_log((features_ & kLogAll) != 0 ? log_ : nullptr); }

Backend::Verdict Backend::on_set_log_base(Message& message) {
  // Without LOG_SHMFD the payload would be an address in the front-end, of no use to us.
  const auto area = message.as<LogArea>();
  auto log = DirtyLog::map(message.take_fd(), area.size, area.offset);
  if (!log) return failed(std::move(log.error()));
  log_ = std::move(*log);
  pass_dirty_log();
  return reply_u64(message, 0);
}

Backend::Verdict Backend::on_set_log_fd(Message&) {
  // An event that we "may" signal when we have marked pages. No front-end waits for it.
  return done();
}

// -- Rings --

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
