// Packed rings and their chains that break the rules: the chain comes back empty or the ring is given up, and
// the same daemon goes on serving.
#include <algorithm>
#include <cstring>
#include <random>
#include <span>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

constexpr unsigned kNext = VRING_DESC_F_NEXT;
constexpr unsigned kWrite = VRING_DESC_F_WRITE;
constexpr unsigned kIndirect = VRING_DESC_F_INDIRECT;

vring_packed_desc descriptor(std::uint64_t address, std::uint32_t length, unsigned flags = 0) {
  return {.addr = address, .len = length, .id = 0, .flags = static_cast<std::uint16_t>(flags)};
}

class HostilePacked : public DaemonTest {
 protected:
  void boot_hostile(unsigned indirect = 16) {
    boot({}, {.request_queues = 2, .queue = {.indirect_entries = indirect, .packed = true}});
    memory = virtiofs::testing::allocate_from(guest().memory(), 4096);
    request = make_request(FUSE_GETATTR, kRootNode, fuse_getattr_in{}).encode();
    std::memcpy(memory.host, request.data(), request.size());
    table = guestmem::GuestAddress(memory.guest.get() + 2048);
    reply = guestmem::GuestAddress(memory.guest.get() + 1024);
  }
  virtio::PackedDriverQueue& driver() { return guest().queue(1).driver().packed(); }
  // The chain's used length, or nothing when it did not come back.
  std::optional<std::uint32_t> offer(const std::vector<vring_packed_desc>& chain) {
    GuestQueue& queue = guest().queue(1);
    const auto cookie = queue.next_cookie();
    driver().offer_raw(chain, cookie);
    queue.kick();
    return queue.wait_used(cookie);
  }
  void write_table(const std::vector<vring_packed_desc>& content) {
    const auto bytes = std::as_bytes(std::span(content));
    std::ranges::copy(bytes, guest().memory().host(table));
  }
  std::uint32_t request_size() const { return static_cast<std::uint32_t>(request.size()); }
  // The ring is given up, its neighbour is not.
  void expect_broken() {
    guest().queue(1).kick();
    EXPECT_TRUE(virtiofs::testing::wait_event(guest().queue(1).error_fd()));
    Client other(guest(), 2);
    EXPECT_TRUE(other.getattr(kRootNode).has_value());
  }

  guestmem::SharedMemory::Piece memory;
  guestmem::GuestAddress table, reply;
  std::vector<std::byte> request;
};

TEST_F(HostilePacked, GoodRawChains_AreServed) {
  boot_hostile();
  const auto length = sizeof(fuse_out_header) + sizeof(fuse_attr_out);
  EXPECT_EQ(
      offer({descriptor(memory.guest.get(), request_size(), kNext), descriptor(reply.get(), 1024, kWrite)}),
      length);
  write_table({descriptor(memory.guest.get(), request_size()), descriptor(reply.get(), 1024, kWrite)});
  EXPECT_EQ(offer({descriptor(table.get(), 32, kIndirect)}), length);
}

TEST_F(HostilePacked, EveryMalformedChain_ComesBackEmpty) {
  boot_hostile();
  const std::uint64_t good = memory.guest.get();
  const std::uint64_t end = guest().memory().description().guest.get() + guest().memory().size();
  const vring_packed_desc first = descriptor(good, request_size(), kNext);
  const vring_packed_desc to_table = descriptor(table.get(), 32, kIndirect);
  struct Case {
    const char* what;
    std::vector<vring_packed_desc> chain;
    std::vector<vring_packed_desc> indirect = {};
  };
  const std::vector<Case> cases = {
      {"below memory", {descriptor(0, 100)}},
      {"above memory", {descriptor(end, 1)}},
      {"over the end", {descriptor(end - 10, 11)}},
      {"wraps around", {descriptor(~std::uint64_t{0} - 5, 100)}},
      {"4 GiB long", {descriptor(good, 0xffff'ffff)}},
      {"outside, and more behind", {descriptor(0, 1, kNext), first, descriptor(reply.get(), 64, kWrite)}},
      {"reply outside", {first, descriptor(end - 8, 64, kWrite)}},
      {"readable behind writable", {descriptor(reply.get(), 100, kWrite | kNext), descriptor(good, 64)}},
      {"indirect of no size", {descriptor(table.get(), 0, kIndirect)}},
      {"indirect of an odd size", {descriptor(table.get(), 33, kIndirect)}},
      {"indirect outside", {descriptor(end, 64, kIndirect)}},
      {"indirect of 4 GiB", {descriptor(good, 0xffff'fff0, kIndirect)}},
      {"indirect with a next", {descriptor(table.get(), 32, kIndirect | kNext), descriptor(good, 64)}},
      {"indirect behind another", {first, to_table}},
      {"outside in the indirect table", {to_table}, {descriptor(good, 10), descriptor(end, 10)}},
      {"readable behind writable in the table",
       {to_table},
       {descriptor(reply.get(), 100, kWrite), descriptor(good, 10)}},
  };
  for (const Case& tested : cases) {
    SCOPED_TRACE(tested.what);
    write_table(tested.indirect);
    EXPECT_EQ(offer(tested.chain), 0u);
    EXPECT_TRUE(client().getattr(kRootNode).has_value());
  }
}

TEST_F(HostilePacked, IndirectThatWasNotNegotiated_ComesBackEmpty) {
  boot_hostile(0);
  write_table({descriptor(memory.guest.get(), request_size()), descriptor(reply.get(), 1024, kWrite)});
  EXPECT_EQ(offer({descriptor(table.get(), 32, kIndirect)}), 0u);
  expect_alive();
}

TEST_F(HostilePacked, ChainWithoutAnEnd_BreaksTheRing) {
  boot_hostile();
  const std::vector<vring_packed_desc> endless(driver().free_descriptors(),
                                               descriptor(memory.guest.get(), 1, kNext));
  driver().offer_raw(endless, 1);
  expect_broken();
}

TEST_F(HostilePacked, DescriptorsThatAreAlwaysAvailable_AreServedOrGivenUp) {
  boot_hostile();
  // Both turns' bits cannot be set at once, so that the guest rewrites the whole ring for the next turn
  // whenever it likes, here after every look.
  Client other(guest(), 2);
  for (int round = 0; round < 200; ++round) {
    const std::uint16_t bits = round % 2 == 0 ? virtio::kPackedAvail : virtio::kPackedUsed;
    for (unsigned i = 0; i < driver().size(); ++i)
      driver().write_descriptor(static_cast<std::uint16_t>(i), descriptor(memory.guest.get(), 1, bits));
    guest().queue(1).kick();
  }
  (void)guest().stop_ring(1);
  EXPECT_TRUE(other.getattr(kRootNode).has_value());
  ASSERT_TRUE(daemon().running());
}

TEST_F(HostilePacked, ReplyOverTheRing_DoesNotHurtTheDaemon) {
  boot_hostile();
  driver().offer_raw({{descriptor(memory.guest.get(), request_size(), kNext),
                       descriptor(guest().memory().description().guest.get(), 3 * 4096, kWrite)}},
                     1);
  guest().queue(1).kick();
  (void)guest().stop_ring(1);
  Client other(guest(), 2);
  EXPECT_TRUE(other.getattr(kRootNode).has_value());
}

TEST_F(HostilePacked, BasesOutsideOfTheRing_AreRefusedAndCanBeSetRight) {
  boot_hostile();
  const std::uint32_t good = guest().stop_ring(1);
  for (const std::uint32_t base : {0x0080'0080u, 0xffff'ffffu, 0x8080'8000u, 0x8000'80ffu, 0x8001'8000u}) {
    EXPECT_TRUE(guest().frontend().set_vring_base(1, base).has_value());
    EXPECT_FALSE(guest().frontend().set_vring_kick(1, guest().queue(1).kick_fd()).has_value());
  }
  guest().set_base(1, good);
  guest().start_ring(1);
  expect_alive();
}

TEST_F(HostilePacked, RandomRings_NeverEndTheDaemon) {
  boot_hostile();
  std::mt19937 random(20261121);
  Client other(guest(), 2);
  for (int round = 0; round < (kSanitized ? 60 : 300); ++round) {
    for (unsigned i = 0; i < driver().size(); ++i) {
      const std::uint64_t address =
          random() % 4 == 0 ? random() * std::uint64_t{0x1'0001} : memory.guest.get() + random() % 4096;
      const std::uint32_t length = random() % 8 == 0 ? random() : random() % 300;
      auto content = descriptor(address, length, random());
      content.id = static_cast<std::uint16_t>(random());
      driver().write_descriptor(static_cast<std::uint16_t>(i), content);
    }
    driver().set_driver_event(static_cast<std::uint16_t>(random()), static_cast<std::uint16_t>(random() % 4));
    guest().queue(1).kick();
    // A ring that was given up is started anew, on what lies there, anywhere in it.
    (void)guest().stop_ring(1);
    const std::uint32_t place = random() % driver().size() | (random() % 2 << 15);
    guest().set_base(1, place | place << 16);
    guest().start_ring(1);
    if (round % 20 == 0) {
      ASSERT_TRUE(other.getattr(kRootNode).has_value());
    }
    std::memcpy(memory.host, request.data(), request.size());
  }
  ASSERT_TRUE(daemon().running());
  EXPECT_TRUE(other.getattr(kRootNode).has_value());
}

}  // namespace
}  // namespace fusewire::tests
