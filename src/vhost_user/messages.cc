#include "vhost_user/messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace fusewire::vhost_user {
namespace {

constexpr RequestInfo kRequests[] = {
#define FUSEWIRE_VHOST_USER_REQUEST(name, NAME, number, Payload, min_fds, max_fds, Reply, feature) \
  {Request::name,           #NAME, payload_limits<Payload>, min_fds, max_fds, ReplyKind::Reply,    \
   ProtocolFeature::feature},
#include "vhost_user/messages.def"
#undef FUSEWIRE_VHOST_USER_REQUEST
};

static_assert(std::ranges::all_of(kRequests, [](const RequestInfo& info) {
  return info.size.min <= info.size.max && info.size.max <= kMaxPayload && info.min_fds <= info.max_fds &&
         info.max_fds <= kMaxFds;
}));

}  // namespace

std::span<const RequestInfo> all_requests() { return kRequests; }

const RequestInfo* find_request(std::uint32_t number) {
  const auto* found = std::ranges::find(kRequests, static_cast<Request>(number), &RequestInfo::request);
  return found == std::ranges::end(kRequests) ? nullptr : found;
}

std::string request_name(std::uint32_t number) {
  const RequestInfo* info = find_request(number);
  return info != nullptr ? std::string(info->name) : fmt::format("request {}", number);
}

}  // namespace fusewire::vhost_user
