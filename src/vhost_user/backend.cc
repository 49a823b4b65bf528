#include "vhost_user/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "fusewire/bytes.h"

namespace fusewire::vhost_user {

using guestmem::MemoryMap;

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

}  // namespace fusewire::vhost_user
