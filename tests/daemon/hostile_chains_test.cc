// Rings and chains that break the rules: the chain comes back empty or the ring is given up, and the same
// daemon goes on serving.
#include <cstring>
#include <random>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

vring_desc descriptor(std::uint64_t address, std::uint32_t length, unsigned flags = 0, unsigned next = 0) {
  vring_desc made{};
  made.addr = address;
  made.len = length;
  made.flags = static_cast<std::uint16_t>(flags);
  made.next = static_cast<std::uint16_t>(next);
  return made;
}

class HostileChains : public DaemonTest {
 protected:
  void boot_hostile(unsigned indirect = 16) {
    boot({}, {.request_queues = 2, .queue = {.indirect_entries = indirect}});
    taken = guest().queue(1).driver().split().take_descriptors(8);
    // Somewhere to point at: a request, room for its reply, and an indirect table.
    memory = virtiofs::testing::allocate_from(guest().memory(), 4096);
    request = make_request(FUSE_GETATTR, kRootNode, fuse_getattr_in{}).encode();
    std::memcpy(memory.host, request.data(), request.size());
    table = guestmem::GuestAddress(memory.guest.get() + 2048);
    reply = guestmem::GuestAddress(memory.guest.get() + 1024);
  }
  // Offers the chain that begins at taken[0]; the used length, or nothing when it did not come back.
  std::optional<std::uint32_t> offer() {
    GuestQueue& queue = guest().queue(1);
    const auto cookie = queue.next_cookie();
    queue.driver().split().offer_raw(taken[0], cookie);
    queue.kick();
    return queue.wait_used(cookie);
  }
  void write(unsigned index, const vring_desc& content) {
    guest().queue(1).driver().split().write_descriptor(taken[index], content);
  }
  void write_table(unsigned index, const vring_desc& content) {
    std::memcpy(guest().memory().host(table) + index * sizeof content, &content, sizeof content);
  }
  std::uint32_t request_size() const { return static_cast<std::uint32_t>(request.size()); }

  std::vector<std::uint16_t> taken;
  guestmem::SharedMemory::Piece memory;
  guestmem::GuestAddress table, reply;
  std::vector<std::byte> request;
};

TEST_F(HostileChains, GoodRawChain_IsServed) {
  boot_hostile();
  write(0, descriptor(memory.guest.get(), request_size(), VRING_DESC_F_NEXT, taken[1]));
  write(1, descriptor(reply.get(), 1024, VRING_DESC_F_WRITE));
  EXPECT_EQ(offer(), sizeof(fuse_out_header) + sizeof(fuse_attr_out));
}

TEST_F(HostileChains, EveryMalformedChain_ComesBackEmpty) {
  boot_hostile();
  const std::uint64_t good = memory.guest.get();
  const std::uint64_t end = guest().memory().description().guest.get() + guest().memory().size();
  const vring_desc first = descriptor(good, request_size(), VRING_DESC_F_NEXT, taken[1]);
  struct Case {
    const char* what;
    std::vector<vring_desc> chain;
    std::vector<vring_desc> indirect = {};
  };
  const vring_desc to_table = descriptor(table.get(), 64, VRING_DESC_F_INDIRECT);
  const std::vector<Case> cases = {
      {"below memory", {descriptor(0, 100)}},
      {"above memory", {descriptor(end, 1)}},
      {"over the end", {descriptor(end - 10, 11)}},
      {"wraps around", {descriptor(~std::uint64_t{0} - 5, 100)}},
      {"4 GiB long", {descriptor(good, 0xffff'ffff)}},
      {"reply outside", {first, descriptor(end - 8, 64, VRING_DESC_F_WRITE)}},
      {"next outside of the table", {descriptor(good, 10, VRING_DESC_F_NEXT, 128)}},
      {"next far outside", {descriptor(good, 10, VRING_DESC_F_NEXT, 0xffff)}},
      {"points at itself", {descriptor(good, 10, VRING_DESC_F_NEXT, taken[0])}},
      {"runs in a circle", {first, descriptor(good, 10, VRING_DESC_F_NEXT, taken[0])}},
      {"readable behind writable",
       {descriptor(reply.get(), 100, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, taken[1]),
        descriptor(good, 64)}},
      {"indirect of no size", {descriptor(table.get(), 0, VRING_DESC_F_INDIRECT)}},
      {"indirect of an odd size", {descriptor(table.get(), 33, VRING_DESC_F_INDIRECT)}},
      {"indirect outside", {descriptor(end, 64, VRING_DESC_F_INDIRECT)}},
      {"indirect of 4 GiB", {descriptor(good, 0xffff'fff0, VRING_DESC_F_INDIRECT)}},
      {"indirect with a next",
       {descriptor(table.get(), 64, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, taken[1])}},
      {"indirect in indirect", {to_table}, {descriptor(table.get(), 64, VRING_DESC_F_INDIRECT)}},
      {"next outside of the indirect table", {to_table}, {descriptor(good, 10, VRING_DESC_F_NEXT, 4)}},
      {"circle in the indirect table", {to_table}, {descriptor(good, 10, VRING_DESC_F_NEXT, 0)}},
      {"outside in the indirect table",
       {to_table},
       {descriptor(good, 10, VRING_DESC_F_NEXT, 1), descriptor(end, 10)}},
  };
  for (const Case& tested : cases) {
    SCOPED_TRACE(tested.what);
    for (unsigned i = 0; i < tested.chain.size(); ++i) write(i, tested.chain[i]);
    for (unsigned i = 0; i < tested.indirect.size(); ++i) write_table(i, tested.indirect[i]);
    EXPECT_EQ(offer(), 0u);
    EXPECT_TRUE(client().getattr(kRootNode).has_value());
  }
}

TEST_F(HostileChains, IndirectThatWasNotNegotiated_ComesBackEmpty) {
  boot_hostile(0);
  write_table(0, descriptor(memory.guest.get(), request_size(), VRING_DESC_F_NEXT, 1));
  write_table(1, descriptor(reply.get(), 1024, VRING_DESC_F_WRITE));
  write(0, descriptor(table.get(), 32, VRING_DESC_F_INDIRECT));
  EXPECT_EQ(offer(), 0u);
  expect_alive();
}

TEST_F(HostileChains, ChainsWithoutARequestOrRoom_ComeBack) {
  boot_hostile();
  write(0, descriptor(reply.get(), 1024, VRING_DESC_F_WRITE));  // no request
  EXPECT_EQ(offer(), 0u);
  write(0, descriptor(memory.guest.get(), request_size()));  // no room
  EXPECT_EQ(offer(), 0u);
  write(0, descriptor(memory.guest.get(), 0));  // nothing at all
  EXPECT_EQ(offer(), 0u);
  write(0, descriptor(memory.guest.get(), request_size(), VRING_DESC_F_NEXT, taken[1]));
  write(1, descriptor(reply.get(), 15, VRING_DESC_F_WRITE));  // room for less than a header
  EXPECT_EQ(offer(), 0u);
  write(1, descriptor(reply.get(), 16, VRING_DESC_F_WRITE));  // and for no more
  EXPECT_EQ(offer(), sizeof(fuse_out_header));
  expect_alive();
}

TEST_F(HostileChains, ReplyOverTheRequestItself_IsServed) {
  boot_hostile();
  write(0, descriptor(memory.guest.get(), request_size(), VRING_DESC_F_NEXT, taken[1]));
  write(1, descriptor(memory.guest.get(), 1024, VRING_DESC_F_WRITE));
  EXPECT_EQ(offer(), sizeof(fuse_out_header) + sizeof(fuse_attr_out));
  expect_alive();
}

TEST_F(HostileChains, ReplyOverTheRing_DoesNotHurtTheDaemon) {
  boot_hostile();
  write(0, descriptor(memory.guest.get(), request_size(), VRING_DESC_F_NEXT, taken[1]));
  // The reply lands on the descriptor table and what follows it.
  write(1, descriptor(guest().memory().description().guest.get(), 3 * 4096, VRING_DESC_F_WRITE));
  guest().queue(1).driver().split().offer_raw(taken[0], 1);
  guest().queue(1).kick();
  (void)guest().stop_ring(1);
  Client other(guest(), 2);
  EXPECT_TRUE(other.getattr(kRootNode).has_value());
}

TEST_F(HostileChains, SameDescriptorOfferedOverAndOver_IsServedOrGivenUp) {
  boot_hostile();
  write(0, descriptor(memory.guest.get(), request_size(), VRING_DESC_F_NEXT, taken[1]));
  write(1, descriptor(reply.get(), 1024, VRING_DESC_F_WRITE));
  auto& driver = guest().queue(1).driver().split();
  for (int i = 0; i < 500; ++i) driver.offer_raw(taken[0], 1);
  guest().queue(1).kick();
  (void)guest().stop_ring(1);
  Client other(guest(), 2);
  EXPECT_TRUE(other.getattr(kRootNode).has_value());
}

TEST_F(HostileChains, NonsenseRings_AreGivenUpAndCanBeStartedAnew) {
  boot_hostile();
  std::mt19937 random(7);
  for (int round = 0; round < 30; ++round) {
    GuestQueue& queue = guest().queue(1);
    const std::uint16_t good = queue.driver().split().available_index();
    if (round % 2 == 0) {
      // An index that runs too far ahead.
      queue.driver().split().set_available_index(static_cast<std::uint16_t>(good + 129 + random() % 60'000));
      queue.kick();
      EXPECT_TRUE(virtiofs::testing::wait_event(queue.error_fd()));
    } else {
      // An index that goes back: the same as far ahead.
      queue.driver().split().set_available_index(static_cast<std::uint16_t>(good - 1));
      queue.kick();
      EXPECT_TRUE(virtiofs::testing::wait_event(queue.error_fd()));
    }
    queue.driver().split().set_available_index(good);
    EXPECT_EQ(guest().stop_ring(1), good);
    guest().start_ring(1);
    EXPECT_TRUE(client().getattr(kRootNode).has_value());
  }
}

TEST_F(HostileChains, HeadOutsideOfTheTable_BreaksTheRing) {
  boot_hostile();
  GuestQueue& queue = guest().queue(1);
  queue.driver().split().offer_raw(128, 1);
  queue.kick();
  EXPECT_TRUE(virtiofs::testing::wait_event(queue.error_fd()));
  Client other(guest(), 2);
  EXPECT_TRUE(other.getattr(kRootNode).has_value());
  ASSERT_TRUE(daemon().running());
}

TEST_F(HostileChains, RandomDescriptors_NeverEndTheDaemon) {
  boot_hostile();
  std::mt19937 random(20261121);
  const auto base = guest().memory().description();
  GuestQueue* queue = &guest().queue(1);
  Client other(guest(), 2);
  for (int round = 0; round < (kSanitized ? 300 : 2000); ++round) {
    for (unsigned i = 0; i < 8; ++i) {
      const std::uint64_t address =
          random() % 4 == 0 ? random() * std::uint64_t{0x1'0001} : memory.guest.get() + random() % 4096;
      const std::uint32_t length = random() % 8 == 0 ? random() : random() % 300;
      const vring_desc content =
          descriptor(address, length, random() % 8, random() % 4 == 0 ? random() : taken[random() % 8]);
      write(i, content);
      if (i < 4) write_table(i, content);
    }
    // The rings themselves stay out of the way: what is random must not make them nonsense.
    ASSERT_LT(base.guest.get(), memory.guest.get());
    if (!offer()) break;
    if (round % 50 == 0) {
      ASSERT_TRUE(other.getattr(kRootNode).has_value());
    }
    std::memcpy(memory.host, request.data(), request.size());
  }
  EXPECT_FALSE(queue->driver().broken());
  ASSERT_TRUE(daemon().running());
  EXPECT_TRUE(other.getattr(kRootNode).has_value());
}

}  // namespace
}  // namespace fusewire::tests
