#include "vhost_user/frontend.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "fusewire/bytes.h"
#include "fusewire/result.h"
#include "virtio/features.h"

namespace fusewire::vhost_user {
namespace {

std::unexpected<std::string> failed(Request request, std::string_view what) {
  return std::unexpected(fmt::format("{}: {}", request_name(static_cast<std::uint32_t>(request)), what));
}

Region to_wire(const guestmem::RegionDescription& region) {
  return {region.guest.get(), region.size, region.user, region.mmap_offset};
}

std::span<const int> span_of(const int& fd) { return fd < 0 ? std::span<const int>() : std::span(&fd, 1); }

}  // namespace

Frontend::Expected<Frontend> Frontend::connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path))
    return std::unexpected(fmt::format("\"{}\" is no possible socket path", path));
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // SAFETY: the socket interface takes every address as a sockaddr.
  if (!socket_fd ||
      ::connect(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return std::unexpected(fmt::format("cannot connect to \"{}\": {}", path, to_string(Errno{errno})));
  return Frontend(std::move(socket_fd));
}

// -- Requests and replies --

Frontend::Expected<void> Frontend::outcome(Request request, Connection::Io io) const {
  switch (io) {
    case Connection::Io::done:
      return {};
    case Connection::Io::failed:
      return failed(request, connection_.error());
    case Connection::Io::closed:
    case Connection::Io::stopped:
      break;
  }
  return failed(request, "the back-end closed the connection");
}

Frontend::Expected<void> Frontend::send(Request request, std::span<const std::byte> payload,
                                        std::span<const int> fds) {
  const std::uint32_t flags = has(ProtocolFeature::reply_ack) ? kFlagNeedReply : 0;
  return outcome(request, connection_.send(static_cast<std::uint32_t>(request), flags, payload, fds));
}

Frontend::Expected<Message> Frontend::receive_reply(Request request) {
  Message message;
  if (auto received = outcome(request, connection_.receive(message)); !received)
    return std::unexpected(std::move(received.error()));
  if (message.header.request != static_cast<std::uint32_t>(request) ||
      (message.header.flags & kFlagReply) == 0)
    return failed(request, fmt::format("answered with {}, flags {:#x}", request_name(message.header.request),
                                       message.header.flags));
  return message;
}

Frontend::Expected<void> Frontend::request(Request request, std::span<const std::byte> payload,
                                           std::span<const int> fds) {
  const auto sent = send(request, payload, fds);
  if (!sent || !has(ProtocolFeature::reply_ack)) return sent;
  const auto reply = receive_reply(request);
  if (!reply) return std::unexpected(reply.error());
  if (reply->payload.size() != sizeof(U64)) return failed(request, "acknowledged with the wrong size");
  if (const std::uint64_t status = reply->as<U64>().value; status != 0)
    return failed(request, fmt::format("refused with {}", status));
  return {};
}

Frontend::Expected<Message> Frontend::request_reply(Request request, std::span<const std::byte> payload,
                                                    std::span<const int> fds) {
  if (auto sent = send(request, payload, fds); !sent) return std::unexpected(std::move(sent.error()));
  return receive_reply(request);
}

Frontend::Expected<std::uint64_t> Frontend::request_u64(Request request) {
  const auto reply = request_reply(request, {});
  if (!reply) return std::unexpected(reply.error());
  if (reply->payload.size() != sizeof(U64)) return failed(request, "answered with the wrong size");
  return reply->as<U64>().value;
}

// -- Negotiation --

Frontend::Expected<void> Frontend::negotiate(std::uint64_t features, std::uint64_t protocol_features) {
  const auto offered = get_features();
  if (!offered) return std::unexpected(offered.error());
  offered_features_ = *offered;
  if ((features & ~*offered & virtio::kVersion1) != 0)
    return failed(Request::get_features, "the back-end does not offer VIRTIO_F_VERSION_1");
  std::uint64_t taken = features & *offered & ~kProtocolFeatures;
  if ((*offered & kProtocolFeatures) != 0 && protocol_features != 0) {
    taken |= kProtocolFeatures;
    const auto offered_protocol = get_protocol_features();
    if (!offered_protocol) return std::unexpected(offered_protocol.error());
    offered_protocol_features_ = *offered_protocol;
    const std::uint64_t wanted = protocol_features & kKnownProtocolFeatures & *offered_protocol;
    if (auto set = set_protocol_features(wanted); !set) return set;
  }
  if (auto set = set_owner(); !set) return set;
  return set_features(taken);
}

Frontend::Expected<std::uint64_t> Frontend::get_features() { return request_u64(Request::get_features); }

Frontend::Expected<void> Frontend::set_features(std::uint64_t features) {
  const U64 payload{features};
  auto set = request(Request::set_features, bytes_of(payload));
  if (set) features_ = features;
  return set;
}

Frontend::Expected<std::uint64_t> Frontend::get_protocol_features() {
  return request_u64(Request::get_protocol_features);
}

Frontend::Expected<void> Frontend::set_protocol_features(std::uint64_t features) {
  // Whether it is acknowledged depends on the new features; so does request().
  const std::uint64_t before = std::exchange(protocol_features_, protocol_features_ & features);
  const U64 payload{features};
  auto set = request(Request::set_protocol_features, bytes_of(payload));
  protocol_features_ = set ? features : before;
  return set;
}

Frontend::Expected<void> Frontend::set_owner() { return request(Request::set_owner, {}); }
Frontend::Expected<void> Frontend::reset_owner() { return request(Request::reset_owner, {}); }
Frontend::Expected<void> Frontend::reset_device() { return request(Request::reset_device, {}); }

Frontend::Expected<std::uint64_t> Frontend::get_queue_num() { return request_u64(Request::get_queue_num); }

// -- Memory --

Frontend::Expected<void> Frontend::set_mem_table(std::span<const SharedRegion> regions) {
  if (regions.size() > kMaxTableRegions) return failed(Request::set_mem_table, "too many regions");
  MemoryTable table{};
  std::vector<int> fds;
  for (const SharedRegion& region : regions) {
    table.regions[table.count++] = to_wire(region.description);
    fds.push_back(region.fd);
  }
  return request(Request::set_mem_table,
                 bytes_of(table).first(offsetof(MemoryTable, regions) + regions.size() * sizeof(Region)),
                 fds);
}

Frontend::Expected<std::uint64_t> Frontend::get_max_mem_slots() {
  return request_u64(Request::get_max_mem_slots);
}

Frontend::Expected<void> Frontend::add_mem_reg(const SharedRegion& region) {
  const SingleRegion payload{0, to_wire(region.description)};
  return request(Request::add_mem_reg, bytes_of(payload), span_of(region.fd));
}

Frontend::Expected<void> Frontend::rem_mem_reg(const guestmem::RegionDescription& description, int stray_fd) {
  const SingleRegion payload{0, to_wire(description)};
  return request(Request::rem_mem_reg, bytes_of(payload), span_of(stray_fd));
}

Frontend::Expected<void> Frontend::set_log_base(std::uint64_t size, std::uint64_t offset, int fd) {
  const LogArea payload{size, offset};
  const auto reply = request_reply(Request::set_log_base, bytes_of(payload), span_of(fd));
  if (!reply) return std::unexpected(reply.error());
  // The specification leaves the payload open; where there is one it is a status.
  if (reply->as<U64>().value != 0) return failed(Request::set_log_base, "refused");
  return {};
}

// -- Rings --

Frontend::Expected<void> Frontend::start_ring(unsigned index, const virtio::RingSetup& ring, int kick,
                                              int call, int error) {
  if (auto set = set_vring_num(index, ring.size); !set) return set;
  if (auto set = set_vring_addr(index, ring); !set) return set;
  if (auto set = set_vring_base(index, ring.base); !set) return set;
  if (auto set = set_vring_call(index, call); !set) return set;
  if (error >= 0)
    if (auto set = set_vring_err(index, error); !set) return set;
  return set_vring_kick(index, kick);
}

Frontend::Expected<void> Frontend::set_vring_num(unsigned index, std::uint32_t size) {
  const VringState payload{index, size};
  return request(Request::set_vring_num, bytes_of(payload));
}

Frontend::Expected<void> Frontend::set_vring_addr(unsigned index, const virtio::RingSetup& ring) {
  const VringAddress payload{index,
                             ring.log_used ? kVringFlagLog : 0,
                             ring.desc_user_addr,
                             ring.used_user_addr,
                             ring.avail_user_addr,
                             ring.log_guest_addr.get()};
  return request(Request::set_vring_addr, bytes_of(payload));
}

Frontend::Expected<void> Frontend::set_vring_base(unsigned index, std::uint32_t base) {
  const VringState payload{index, base};
  return request(Request::set_vring_base, bytes_of(payload));
}

Frontend::Expected<void> Frontend::send_vring_fd(Request kind, unsigned index, int fd) {
  const U64 payload{index | (fd < 0 ? kVringNoFd : 0)};
  return request(kind, bytes_of(payload), span_of(fd));
}

Frontend::Expected<void> Frontend::set_vring_kick(unsigned index, int fd) {
  return send_vring_fd(Request::set_vring_kick, index, fd);
}
Frontend::Expected<void> Frontend::set_vring_call(unsigned index, int fd) {
  return send_vring_fd(Request::set_vring_call, index, fd);
}
Frontend::Expected<void> Frontend::set_vring_err(unsigned index, int fd) {
  return send_vring_fd(Request::set_vring_err, index, fd);
}

Frontend::Expected<void> Frontend::set_vring_enable(unsigned index, bool enabled) {
  const VringState payload{index, enabled ? 1u : 0u};
  return request(Request::set_vring_enable, bytes_of(payload));
}

Frontend::Expected<std::uint32_t> Frontend::get_vring_base(unsigned index) {
  const VringState payload{index, 0};
  const auto reply = request_reply(Request::get_vring_base, bytes_of(payload));
  if (!reply) return std::unexpected(reply.error());
  const auto state = reply->as<VringState>();
  const bool too_wide = (features_ & virtio::kRingPacked) == 0 && state.value > 0xffff;
  if (reply->payload.size() != sizeof(VringState) || state.index != index || too_wide)
    return failed(Request::get_vring_base, "answered nonsense");
  return state.value;
}

// -- Device --

Frontend::Expected<std::vector<std::byte>> Frontend::get_config(std::uint32_t offset, std::uint32_t size) {
  if (size > kMaxConfigSize) return failed(Request::get_config, "too many bytes");
  ConfigAccess access{};
  access.offset = offset;
  access.size = size;
  const std::size_t total = offsetof(ConfigAccess, payload) + size;
  const auto reply = request_reply(Request::get_config, bytes_of(access).first(total));
  if (!reply) return std::unexpected(reply.error());
  if (reply->payload.size() != total) return failed(Request::get_config, "refused");
  return std::vector(reply->payload.begin() + offsetof(ConfigAccess, payload), reply->payload.end());
}

Frontend::Expected<void> Frontend::set_config(std::uint32_t offset, std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxConfigSize) return failed(Request::set_config, "too many bytes");
  ConfigAccess access{};
  access.offset = offset;
  access.size = static_cast<std::uint32_t>(bytes.size());
  if (!bytes.empty()) std::memcpy(access.payload, bytes.data(), bytes.size());
  return request(Request::set_config, bytes_of(access).first(offsetof(ConfigAccess, payload) + bytes.size()));
}

Frontend::Expected<void> Frontend::set_status(std::uint64_t status) {
  const U64 payload{status};
  return request(Request::set_status, bytes_of(payload));
}

Frontend::Expected<std::uint64_t> Frontend::get_status() { return request_u64(Request::get_status); }

Frontend::Expected<void> Frontend::set_backend_req_fd(int fd) {
  return request(Request::set_backend_req_fd, {}, span_of(fd));
}

}  // namespace fusewire::vhost_user
