// The vhost-user wire format: header, payloads, feature bits and the table of requests. All numbers are in
// host byte order. Source: QEMU's docs/interop/vhost-user.rst; its sections are named at the structures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fusewire::vhost_user {

// -- Header ("Header") --

struct Header {
  std::uint32_t request;
  std::uint32_t flags;
  std::uint32_t size;  // Of the payload.
};
static_assert(sizeof(Header) == 12);

inline constexpr std::uint32_t kVersionMask = 0x3;
inline constexpr std::uint32_t kVersion = 0x1;
inline constexpr std::uint32_t kFlagReply = 1u << 2;
inline constexpr std::uint32_t kFlagNeedReply = 1u << 3;

// The longest payload that we read: more than any request has, so that an unknown one can be skipped and
// refused.
inline constexpr std::size_t kMaxPayload = 4096;
// The specification's tables hold 8 regions; front-ends made with rust-vmm send up to 32 at once, which costs
// us nothing.
inline constexpr std::size_t kMaxTableRegions = 32;
inline constexpr std::size_t kMaxFds = kMaxTableRegions;
inline constexpr std::size_t kMaxConfigSize = 256;

// -- Payloads ("Payload") --

struct NoPayload {};

struct U64 {
  std::uint64_t value;
};
static_assert(sizeof(U64) == 8);

// In SET_VRING_KICK, _CALL and _ERR: which ring, and that no descriptor comes along.
inline constexpr std::uint64_t kVringIndexMask = 0xff;
inline constexpr std::uint64_t kVringNoFd = 1u << 8;

// "A vring state description", "A vring descriptor index for split virtqueues"
struct VringState {
  std::uint32_t index;
  std::uint32_t value;
};
static_assert(sizeof(VringState) == 8);

// "A vring address description"
struct VringAddress {
  std::uint32_t index;
  std::uint32_t flags;
  std::uint64_t descriptor;
  std::uint64_t used;
  std::uint64_t available;
  std::uint64_t log;
};
static_assert(sizeof(VringAddress) == 40 && offsetof(VringAddress, log) == 32);
inline constexpr std::uint32_t kVringFlagLog = 1u << 0;  // VHOST_VRING_F_LOG

// "Memory region description"
struct Region {
  std::uint64_t guest;
  std::uint64_t size;
  std::uint64_t user;
  std::uint64_t mmap_offset;
};
static_assert(sizeof(Region) == 32);

// "Multiple Memory regions description": as many regions as `count` says are on the wire.
struct MemoryTable {
  std::uint32_t count;
  std::uint32_t padding;
  Region regions[kMaxTableRegions];
};
static_assert(offsetof(MemoryTable, regions) == 8);

// "Single memory region description"
struct SingleRegion {
  std::uint64_t padding;
  Region region;
};
static_assert(sizeof(SingleRegion) == 40);

// "Log description"
struct LogArea {
  std::uint64_t size;
  std::uint64_t offset;
};
static_assert(sizeof(LogArea) == 16);

// "Virtio device config space": `size` bytes of `payload` are on the wire, but some front-ends leave them out
// of GET_CONFIG.
struct ConfigAccess {
  std::uint32_t offset;
  std::uint32_t size;
  std::uint32_t flags;
  std::uint8_t payload[kMaxConfigSize];
};
static_assert(offsetof(ConfigAccess, payload) == 12);

// Payload sizes that a request with payload T may have.
struct SizeLimits {
  std::size_t min;
  std::size_t max;
};
template <class T>
inline constexpr SizeLimits payload_limits{sizeof(T), sizeof(T)};
template <>
inline constexpr SizeLimits payload_limits<NoPayload>{0, 0};
template <>
inline constexpr SizeLimits payload_limits<MemoryTable>{offsetof(MemoryTable, regions), sizeof(MemoryTable)};
template <>
inline constexpr SizeLimits payload_limits<ConfigAccess>{offsetof(ConfigAccess, payload),
                                                         sizeof(ConfigAccess)};

// -- Features --

// Vhost's own bits among the virtio features.
inline constexpr std::uint64_t kLogAll = std::uint64_t{1} << 26;            // VHOST_F_LOG_ALL
inline constexpr std::uint64_t kProtocolFeatures = std::uint64_t{1} << 30;  // VHOST_USER_F_PROTOCOL_FEATURES

// "Protocol features": the bit numbers of those we know.
enum class ProtocolFeature : unsigned {
  mq = 0,
  log_shmfd = 1,
  reply_ack = 3,
  backend_req = 5,
  config = 9,
  reset_device = 13,
  configure_mem_slots = 15,
  status = 16,
  none = 64,  // No bit.
};
constexpr std::uint64_t bit(ProtocolFeature feature) {
  return feature == ProtocolFeature::none ? 0 : std::uint64_t{1} << static_cast<unsigned>(feature);
}

inline constexpr std::uint64_t kKnownProtocolFeatures =
    bit(ProtocolFeature::mq) | bit(ProtocolFeature::log_shmfd) | bit(ProtocolFeature::reply_ack) |
    bit(ProtocolFeature::backend_req) | bit(ProtocolFeature::config) | bit(ProtocolFeature::reset_device) |
    bit(ProtocolFeature::configure_mem_slots) | bit(ProtocolFeature::status);

// -- Requests --

enum class Request : std::uint32_t {
#define FUSEWIRE_VHOST_USER_REQUEST(name, NAME, number, ...) name = number,
#include "vhost_user/messages.def"
#undef FUSEWIRE_VHOST_USER_REQUEST
};

// `status` is a u64 that is 0 for success.
enum class ReplyKind { none, status, u64, vring, config };

struct RequestInfo {
  Request request;
  std::string_view name;
  SizeLimits size;
  std::size_t min_fds;
  std::size_t max_fds;
  ReplyKind reply;
  ProtocolFeature feature;
};

// The whole table, in the order of messages.def.
std::span<const RequestInfo> all_requests();
// A request's row; null when there is none.
const RequestInfo* find_request(std::uint32_t number);
// "SET_VRING_NUM", or "request 99".
std::string request_name(std::uint32_t number);

}  // namespace fusewire::vhost_user
