#include "virtiofs-mount/init.h"

#include <algorithm>
#include <cstring>

namespace fusewire::carry {
namespace {

constexpr std::uint32_t kPageSize = 4096;
// What a kernel sends at a time if FUSE_MAX_PAGES is not agreed on (FUSE_DEFAULT_MAX_PAGES_PER_REQ).
constexpr std::uint32_t kDefaultPages = 32;
// fuse_init_in up to protocol 7.35: without flags2 and what follows.
constexpr std::size_t kOldInitIn = 16;

constexpr std::uint64_t bit(Cap cap) { return static_cast<std::uint64_t>(cap); }

constexpr std::uint64_t kKernelOnly = bit(Cap::splice_write) | bit(Cap::splice_move) | bit(Cap::splice_read) |
                                      bit(Cap::passthrough) | bit(Cap::over_io_uring) |
                                      bit(Cap::request_timeout) | bit(Cap::has_resend);
constexpr std::uint64_t kGuestOffers = bit(Cap::submounts);

std::uint64_t caps_of(std::uint32_t flags, std::uint32_t flags2) {
  std::uint64_t caps = flags;
  if ((caps & bit(Cap::init_ext)) != 0) caps |= std::uint64_t{flags2} << 32;
  return caps;
}

struct Offer {
  fuse_in_header header{};
  fuse_init_in in{};
  std::uint64_t caps = 0;
};
static_assert(sizeof(fuse_in_header) + sizeof(fuse_init_in) == 104);

Result<Offer> parse(std::span<const std::byte> request) {
  Offer offer;
  if (request.size() < sizeof offer.header + kOldInitIn) return fail(EPROTO);
  std::memcpy(&offer.header, request.data(), sizeof offer.header);
  if (offer.header.opcode != FUSE_INIT || offer.header.len != request.size()) return fail(EPROTO);
  const auto args = request.subspan(sizeof offer.header);
  std::memcpy(&offer.in, args.data(), std::min(args.size(), sizeof offer.in));
  offer.caps = caps_of(offer.in.flags, offer.in.flags2);
  return offer;
}

}  // namespace

Result<std::vector<std::byte>> init_for_server(std::span<const std::byte> request) {
  auto offer = parse(request);
  if (!offer) return fail(offer.error());
  const std::uint64_t caps = (offer->caps & ~kKernelOnly) | kGuestOffers;
  offer->in.flags = static_cast<std::uint32_t>(caps);
  offer->in.flags2 = static_cast<std::uint32_t>(caps >> 32);
  std::vector<std::byte> changed(request.begin(), request.end());
  std::memcpy(changed.data() + sizeof(fuse_in_header), &offer->in,
              std::min(changed.size() - sizeof(fuse_in_header), sizeof offer->in));
  return changed;
}

Result<fuse_init_out> init_for_kernel(std::span<const std::byte> request, std::span<const std::byte> body,
                                      std::uint32_t max_pages, Settled& settled) {
  const auto offer = parse(request);
  if (!offer) return fail(offer.error());
  fuse_init_out out{};
  if (!body.empty()) std::memcpy(&out, body.data(), std::min(body.size(), sizeof out));
  if (out.major != FUSE_KERNEL_VERSION) return fail(EPROTO);

  settled.minor = std::min(out.minor, offer->in.minor);
  settled.caps = caps_of(out.flags, out.flags2) & offer->caps & ~kKernelOnly;
  const bool says_pages = settled.has(Cap::max_pages);
  settled.max_pages =
      std::min(says_pages ? std::max<std::uint32_t>(out.max_pages, 1) : kDefaultPages, max_pages);
  settled.max_write = std::clamp(out.max_write, kPageSize, settled.max_pages * kPageSize);

  out.minor = settled.minor;
  out.flags = static_cast<std::uint32_t>(settled.caps);
  out.flags2 = static_cast<std::uint32_t>(settled.caps >> 32);
  out.max_pages = says_pages ? static_cast<std::uint16_t>(settled.max_pages) : std::uint16_t{0};
  out.max_write = settled.max_write;
  // What belongs to the capabilities that were cleared (max_stack_depth, request_timeout) is in here.
  std::memset(out.unused, 0, sizeof out.unused);
  return out;
}

}  // namespace fusewire::carry
