#include "recording/encoding.h"

#include <algorithm>

#include "fusewire/bytes.h"

namespace fusewire::recording {
namespace {

enum Kind : std::uint8_t { kRequest = 1, kReply = 2 };

void put_byte(std::vector<std::byte>& out, std::uint8_t byte) { out.push_back(std::byte{byte}); }

void put_varint(std::vector<std::byte>& out, std::uint64_t value) {
  while (value >= 0x80) {
    put_byte(out, static_cast<std::uint8_t>(value | 0x80));
    value >>= 7;
  }
  put_byte(out, static_cast<std::uint8_t>(value));
}

void put_bytes(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  put_varint(out, bytes.size());
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void put_delay(std::vector<std::byte>& out, std::chrono::nanoseconds at, std::chrono::nanoseconds before) {
  put_varint(out, static_cast<std::uint64_t>(std::max(at - before, std::chrono::nanoseconds(0)).count()));
}

std::span<const std::byte> kept(const std::vector<std::byte>& bytes, std::uint32_t size) {
  return std::span(bytes).first(std::min({bytes.size(), std::size_t{size}, kMaxKept}));
}

void put(std::vector<std::byte>& out, const Request& request, std::chrono::nanoseconds before) {
  put_byte(out, kRequest);
  put_delay(out, request.at, before);
  put_varint(out, request.unique);
  put_varint(out, request.queue);
  put_varint(out, request.room);
  put_varint(out, request.size);
  put_bytes(out, kept(request.bytes, request.size));
}

void put(std::vector<std::byte>& out, const Reply& reply, std::chrono::nanoseconds before) {
  put_byte(out, kReply);
  put_delay(out, reply.at, before);
  put_varint(out, reply.unique);
  put_varint(out, static_cast<std::uint64_t>(std::max(reply.error, 0)));
  put_varint(out, reply.size);
  put_bytes(out, kept(reply.bytes, reply.size));
  const auto identifiers =
      std::span(reply.identifiers).first(std::min(reply.identifiers.size(), kMaxIdentifiers));
  put_varint(out, identifiers.size());
  for (const Identifier& identifier : identifiers) {
    put_byte(out, static_cast<std::uint8_t>(identifier.kind));
    put_varint(out, identifier.value);
    if (identifier.kind == Identifier::Kind::node)
      put_bytes(out, as_bytes(std::string_view(identifier.name).substr(0, kMaxName)));
  }
}

// A cursor that remembers what went wrong first. After that it gives zeros.
class Source {
 public:
  explicit Source(std::span<const std::byte> bytes) : rest_(bytes) {}
  std::size_t remaining() const { return rest_.remaining(); }
  std::optional<Fault> fault() const { return fault_; }
  void malformed() { fail(Fault::malformed); }

  std::uint8_t byte() {
    const auto value = rest_.read<std::uint8_t>();
    if (!value) fail(Fault::incomplete);
    return fault_ ? 0 : value.value_or(0);
  }

  // A number of at most `limit`.
  std::uint64_t varint(std::uint64_t limit = ~std::uint64_t{0}) {
    std::uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const std::uint64_t part = byte();
      if (fault_) return 0;
      // The tenth byte has room for one bit.
      if (shift == 63 && part > 1) fail(Fault::malformed);
      value |= (part & 0x7f) << shift;
      if ((part & 0x80) == 0 || fault_) break;
    }
    if (value > limit) fail(Fault::malformed);
    return fault_ ? 0 : value;
  }

  std::span<const std::byte> bytes(std::size_t limit) {
    const std::size_t size = varint(limit);
    const auto taken = rest_.take(size);
    if (!taken) fail(Fault::incomplete);
    return fault_ ? std::span<const std::byte>() : taken.value_or(std::span<const std::byte>());
  }

 private:
  void fail(Fault fault) {
    if (!fault_) fault_ = fault;
  }
  ByteReader rest_;
  std::optional<Fault> fault_;
};

constexpr std::uint64_t kMaxU32 = UINT32_MAX;

std::chrono::nanoseconds take_time(Source& source, std::chrono::nanoseconds before) {
  // A thousand days between two records: more is no recording, and the sum cannot overflow.
  constexpr auto kMaxDelay = std::chrono::nanoseconds(std::chrono::hours(24 * 1000));
  const auto at = before + std::chrono::nanoseconds(source.varint(kMaxDelay.count()));
  if (at > 10 * kMaxDelay) source.malformed();
  return at;
}

std::vector<std::byte> take_kept(Source& source, std::uint32_t size) {
  const auto bytes = source.bytes(std::min<std::size_t>(size, kMaxKept));
  return {bytes.begin(), bytes.end()};
}

Request take_request(Source& source, std::chrono::nanoseconds before) {
  Request request;
  request.at = take_time(source, before);
  request.unique = source.varint();
  request.queue = static_cast<unsigned>(source.varint(0xffff));
  request.room = static_cast<std::uint32_t>(source.varint(kMaxU32));
  request.size = static_cast<std::uint32_t>(source.varint(kMaxU32));
  request.bytes = take_kept(source, request.size);
  return request;
}

Identifier take_identifier(Source& source) {
  Identifier identifier;
  const std::uint8_t kind = source.byte();
  identifier.value = source.varint();
  switch (kind) {
    case static_cast<std::uint8_t>(Identifier::Kind::node):
      identifier.name = as_text(source.bytes(kMaxName));
      break;
    case static_cast<std::uint8_t>(Identifier::Kind::handle):
      identifier.kind = Identifier::Kind::handle;
      break;
    default:
      source.malformed();
  }
  return identifier;
}

Reply take_reply(Source& source, std::chrono::nanoseconds before) {
  Reply reply;
  reply.at = take_time(source, before);
  reply.unique = source.varint();
  reply.error = static_cast<int>(source.varint(511));
  reply.size = static_cast<std::uint32_t>(source.varint(kMaxU32));
  reply.bytes = take_kept(source, reply.size);
  const std::uint64_t count = source.varint(kMaxIdentifiers);
  for (std::uint64_t i = 0; i < count && !source.fault(); ++i)
    reply.identifiers.push_back(take_identifier(source));
  return reply;
}

}  // namespace

void encode_head(std::vector<std::byte>& out) {
  const auto magic = as_bytes(std::string_view(kMagic, kMagicSize));
  out.insert(out.end(), magic.begin(), magic.end());
  const auto version = bytes_of(kVersion);
  out.insert(out.end(), version.begin(), version.end());
}

void encode(const Record& record, std::chrono::nanoseconds before, std::vector<std::byte>& out) {
  std::visit([&](const auto& which) { put(out, which, before); }, record);
}

std::expected<Decoded, Fault> decode(std::span<const std::byte> bytes, std::chrono::nanoseconds before) {
  Source source(bytes);
  Decoded decoded;
  switch (source.byte()) {
    case kRequest:
      decoded.record = take_request(source, before);
      break;
    case kReply:
      decoded.record = take_reply(source, before);
      break;
    default:
      source.malformed();
  }
  if (const auto fault = source.fault()) return std::unexpected(*fault);
  decoded.size = bytes.size() - source.remaining();
  return decoded;
}

}  // namespace fusewire::recording
