#include "virtiofs-mount/init.h"

#include <gmock/gmock.h>

#include <cstring>

#include "fusewire/bytes.h"

namespace fusewire::carry {
namespace {

constexpr std::uint64_t bit(Cap cap) { return static_cast<std::uint64_t>(cap); }
constexpr std::uint64_t kExt = bit(Cap::init_ext);
constexpr std::uint32_t kPages = 256;

fuse_init_in init_in(std::uint64_t caps, std::uint32_t minor = 45) {
  fuse_init_in in{};
  in.major = 7;
  in.minor = minor;
  in.max_readahead = 1 << 17;
  in.flags = static_cast<std::uint32_t>(caps);
  in.flags2 = static_cast<std::uint32_t>(caps >> 32);
  return in;
}

// `size`: how much of fuse_init_in this kernel knows.
std::vector<std::byte> request(const fuse_init_in& in, std::size_t size = sizeof(fuse_init_in)) {
  fuse_in_header header{};
  header.opcode = FUSE_INIT;
  header.unique = 2;
  header.len = static_cast<std::uint32_t>(sizeof header + size);
  std::vector<std::byte> bytes(header.len);
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &in, std::min(size, sizeof in));
  return bytes;
}

fuse_init_in server_sees(const std::vector<std::byte>& from) {
  const auto bytes = init_for_server(from);
  EXPECT_TRUE(bytes);
  fuse_init_in in{};
  if (!bytes) return in;
  EXPECT_EQ(bytes->size(), from.size());
  EXPECT_EQ(std::memcmp(bytes->data(), from.data(), sizeof(fuse_in_header)), 0);
  std::memcpy(&in, bytes->data() + sizeof(fuse_in_header), std::min(bytes->size() - 40, sizeof in));
  return in;
}

std::uint64_t caps_of(const fuse_init_in& in) { return in.flags | std::uint64_t{in.flags2} << 32; }

TEST(InitForServer, WhatOnlyAKernelTransportCanDo_IsCleared_AndNothingElse) {
  const std::uint64_t all = ~std::uint64_t{0};
  const std::uint64_t cleared = all & ~caps_of(server_sees(request(init_in(all))));
  EXPECT_EQ(cleared, bit(Cap::splice_read) | bit(Cap::splice_write) | bit(Cap::splice_move) |
                         bit(Cap::passthrough) | bit(Cap::over_io_uring) | bit(Cap::request_timeout) |
                         bit(Cap::has_resend));
}

TEST(InitForServer, WhatAGuestOffers_IsAdded) {
  EXPECT_EQ(caps_of(server_sees(request(init_in(kExt)))), kExt | bit(Cap::submounts));
}

TEST(InitForServer, TheRest_StaysAsItWas) {
  const auto in = server_sees(request(init_in(kExt, 38)));
  EXPECT_EQ(in.major, 7U);
  EXPECT_EQ(in.minor, 38U);
  EXPECT_EQ(in.max_readahead, 1U << 17);
}

TEST(InitForServer, WithoutInitExt_FlagsBeyondTheFirstWordMeanNothing) {
  EXPECT_EQ(caps_of(server_sees(request(init_in(bit(Cap::security_ctx))))), bit(Cap::submounts));
}

TEST(InitForServer, OlderKernelsShortInit_StaysShort) {
  const auto in = server_sees(request(init_in(bit(Cap::posix_acl), 31), 16));
  EXPECT_EQ(caps_of(in), bit(Cap::posix_acl) | bit(Cap::submounts));
}

TEST(InitForServer, WhatIsNoInit_IsRefused) {
  const auto whole = request(init_in(kExt));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    part.shrink_to_fit();
    EXPECT_FALSE(init_for_server(part)) << size;
  }
  auto other = whole;
  const std::uint32_t opcode = FUSE_GETATTR;
  std::memcpy(other.data() + offsetof(fuse_in_header, opcode), &opcode, sizeof opcode);
  EXPECT_FALSE(init_for_server(other));
}

fuse_init_out init_out(std::uint64_t caps) {
  fuse_init_out out{};
  out.major = 7;
  out.minor = 45;
  out.flags = static_cast<std::uint32_t>(caps);
  out.flags2 = static_cast<std::uint32_t>(caps >> 32);
  out.max_write = 1 << 20;
  out.max_pages = 256;
  out.max_background = 64;
  out.time_gran = 1;
  return out;
}

// What a kernel that offers `caps` sees of `out`.
fuse_init_out kernel_sees(std::uint64_t caps, const fuse_init_out& out, Settled& settled,
                          std::uint32_t pages = kPages) {
  const auto seen = init_for_kernel(request(init_in(caps)), bytes_of(out), pages, settled);
  EXPECT_TRUE(seen);
  return seen.value_or(fuse_init_out{});
}

TEST(InitForKernel, FlagsThatItDidNotAskFor_AreCleared) {
  Settled settled;
  const std::uint64_t asked = kExt | bit(Cap::posix_locks) | bit(Cap::security_ctx);
  const auto out = kernel_sees(asked, init_out(~std::uint64_t{0}), settled);
  EXPECT_EQ(settled.caps, asked);
  EXPECT_EQ(out.flags, static_cast<std::uint32_t>(asked));
  EXPECT_EQ(out.flags2, asked >> 32);
}

TEST(InitForKernel, WhatWasClearedOnTheWayThere_StaysCleared) {
  Settled settled;
  fuse_init_out from = init_out(~std::uint64_t{0});
  std::memset(from.unused, 0xff, sizeof from.unused);  // max_stack_depth and request_timeout lie here
  const auto out = kernel_sees(~std::uint64_t{0}, from, settled);
  EXPECT_FALSE(settled.has(Cap::passthrough));
  EXPECT_FALSE(settled.has(Cap::over_io_uring));
  EXPECT_FALSE(settled.has(Cap::request_timeout));
  EXPECT_TRUE(settled.has(Cap::posix_locks));
  for (const auto word : out.unused) EXPECT_EQ(word, 0U);
}

TEST(InitForKernel, SubmountsThatAreOurAddition_DoNotReachIt) {
  Settled settled;
  kernel_sees(kExt, init_out(kExt | bit(Cap::submounts)), settled);
  EXPECT_EQ(settled.caps, kExt);
}

TEST(InitForKernel, FlagsBeyondTheFirstWord_NeedInitExtOfBoth) {
  Settled settled;
  const std::uint64_t label = bit(Cap::security_ctx);
  EXPECT_EQ(kernel_sees(kExt | label, init_out(label), settled).flags2, 0U);
  EXPECT_EQ(kernel_sees(label, init_out(kExt | label), settled).flags2, 0U);
}

TEST(InitForKernel, Sizes_AreWhatTheServerSays_UpToTheRoom) {
  Settled settled;
  const std::uint64_t caps = kExt | bit(Cap::max_pages);
  auto from = init_out(caps);
  auto out = kernel_sees(caps, from, settled);
  EXPECT_EQ(out.max_pages, 256U);
  EXPECT_EQ(out.max_write, 1U << 20);
  out = kernel_sees(caps, from, settled, 100);
  EXPECT_EQ(out.max_pages, 100U);
  EXPECT_EQ(out.max_write, 100U * 4096);
  EXPECT_EQ(settled.max_pages, 100U);
  from.max_write = 128 << 10;
  out = kernel_sees(caps, from, settled);
  EXPECT_EQ(out.max_pages, 256U);
  EXPECT_EQ(out.max_write, 128U << 10);
  from.max_pages = 0;
  from.max_write = 0;
  out = kernel_sees(caps, from, settled);
  EXPECT_EQ(out.max_pages, 1U);
  EXPECT_EQ(out.max_write, 4096U);
}

TEST(InitForKernel, WithoutMaxPages_ARequestHasThirtyTwo) {
  Settled settled;
  const auto out = kernel_sees(kExt, init_out(kExt | bit(Cap::max_pages)), settled);
  EXPECT_EQ(out.max_pages, 0U);
  EXPECT_EQ(out.max_write, 32U * 4096);
  EXPECT_EQ(settled.max_pages, 32U);
}

TEST(InitForKernel, Minor_IsTheLowerOne) {
  Settled settled;
  auto from = init_out(kExt);
  from.minor = 31;
  EXPECT_EQ(kernel_sees(kExt, from, settled).minor, 31U);
  from.minor = 99;
  EXPECT_EQ(kernel_sees(kExt, from, settled).minor, 45U);
}

TEST(InitForKernel, ShorterReplyOfAnOlderServer_CountsAsZeros) {
  Settled settled;
  const auto from = init_out(kExt | bit(Cap::max_pages));
  const auto out = init_for_kernel(request(init_in(kExt | bit(Cap::max_pages))), bytes_of(from).first(24),
                                   kPages, settled);
  ASSERT_TRUE(out);
  EXPECT_EQ(out->max_write, 4096U);  // one page, as max_pages is not there
  EXPECT_EQ(out->flags2, 0U);
}

TEST(InitForKernel, AnotherMajor_IsRefused) {
  Settled settled;
  auto from = init_out(kExt);
  from.major = 8;
  EXPECT_FALSE(init_for_kernel(request(init_in(kExt)), bytes_of(from), kPages, settled));
  EXPECT_FALSE(init_for_kernel(request(init_in(kExt)), {}, kPages, settled));
}

}  // namespace
}  // namespace fusewire::carry
