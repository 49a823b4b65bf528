#include "virtio/packed_queue.h"

#include <sys/mman.h>

#include "virtio/queue_fixture_test.h"

namespace fusewire::virtio {
namespace {

constexpr std::uint16_t kNext = VRING_DESC_F_NEXT;
constexpr std::uint16_t kWrite = VRING_DESC_F_WRITE;
constexpr std::uint16_t kIndirect = VRING_DESC_F_INDIRECT;

DriverOptions packed(DriverOptions options = {}) {
  options.packed = true;
  return options;
}

// The base of a drained ring.
std::uint32_t base_at(unsigned index, bool wrap) { return (index | (wrap ? 0x8000u : 0u)) * 0x10001u; }

vring_packed_desc entry(std::uint64_t address, std::uint32_t length, std::uint16_t flags = 0) {
  return {.addr = address, .len = length, .id = 0, .flags = flags};
}

// Offers the raw descriptors as a chain, pops it, and checks that the verdict is `expected`, that the chain
// is known by its id and its length in the ring, and that it can be returned.
void expect_pop(Ring& ring, const std::vector<vring_packed_desc>& descriptors, Pop expected) {
  const std::uint16_t id = ring.driver.packed().offer_raw(descriptors, 77);
  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), expected);
  EXPECT_EQ(chain.id.head, id);
  EXPECT_EQ(chain.id.descriptors, descriptors.size());
  if (expected == Pop::malformed) {
    EXPECT_TRUE(chain.readable.empty());
    EXPECT_TRUE(chain.writable.empty());
  }
  ring.device.push_used(chain.id, 0);
  ring.device.publish();
  const auto used = taken(ring.driver.poll_used());
  EXPECT_EQ(used.cookie, 77u);
  EXPECT_EQ(used.length, 0u);
}

// Writes an indirect table into guest memory and gives the descriptor that refers to it.
vring_packed_desc table_of(Ring& ring, const std::vector<vring_packed_desc>& entries) {
  const auto piece = taken(ring.memory.allocate(entries.size() * sizeof(vring_packed_desc), 1));
  std::memcpy(piece.host, entries.data(), piece.size);
  return entry(piece.guest.get(), static_cast<std::uint32_t>(piece.size), kIndirect);
}

TEST(PackedQueue, Pop_EmptyRing_IsNothing) {
  for (const std::uint16_t start : {std::uint16_t{0}, std::uint16_t{3}, std::uint16_t{4}, std::uint16_t{7}}) {
    Ring ring(4, packed({.initial_index = start}));
    Chain chain;
    EXPECT_FALSE(ring.device.has_available());
    EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::nothing);
    EXPECT_FALSE(ring.driver.has_used());
  }
}

TEST(PackedQueue, Pop_DirectChain_GivesBothLists) {
  Ring ring(8, packed());
  ASSERT_TRUE(
      ring.driver.add({{ring.text("head"), ring.text("er")}}, {{ring.buffer(16), ring.buffer(5)}}, 42));

  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);

  EXPECT_EQ(gather(chain.readable), "header");
  EXPECT_EQ(chain.readable_size, 6u);
  EXPECT_EQ(chain.writable.size(), 2u);
  EXPECT_EQ(chain.writable_size, 21u);
  EXPECT_EQ(chain.id.descriptors, 4);
  EXPECT_EQ(ring.device.outstanding(), 1u);
  EXPECT_EQ(ring.device.base(), 0x8000'8004u) << "four taken, none returned, both in the first turn";
}

TEST(PackedQueue, Pop_IndirectChain_GivesTheSame) {
  Ring ring(4, packed({.indirect_entries = 8}));
  std::vector<GuestBuffer> in;
  for (const char* word : {"a", "bc", "def", "g", "hi"}) in.push_back(ring.text(word));
  ASSERT_TRUE(ring.driver.add(in, {{ring.buffer(3)}}, 1));
  EXPECT_EQ(ring.driver.free_descriptors(), 3u);

  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);

  EXPECT_EQ(gather(chain.readable), "abcdefghi");
  EXPECT_EQ(chain.writable_size, 3u);
  EXPECT_EQ(chain.id.descriptors, 1);
}

TEST(PackedQueue, Pop_ChainOverTheEndOfTheRing_GoesOnAtItsBeginning) {
  Ring ring(5, packed({.initial_index = 3}));
  ASSERT_TRUE(ring.driver.add({{ring.text("a"), ring.text("b"), ring.text("c")}}, {{ring.buffer(1)}}, 9));
  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
  EXPECT_EQ(gather(chain.readable), "abc");
  ring.device.push_used(chain.id, 1);
  ring.device.publish();
  EXPECT_EQ(taken(ring.driver.poll_used()).cookie, 9u);
  EXPECT_EQ(ring.device.base(), base_at(2, false));
}

TEST(PackedQueue, Pop_ChainAsLongAsTheRing_IsTaken) {
  for (const unsigned size : {1u, 3u, 4u}) {
    Ring ring(size, packed());
    const std::vector<GuestBuffer> in(size, ring.text("x"));
    for (std::uint64_t turn = 0; turn < 5; ++turn) {
      ASSERT_TRUE(ring.driver.add(in, {}, turn));
      EXPECT_FALSE(ring.driver.add({{in[0]}}, {}, 0)) << "no room";
      Chain chain;
      ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
      EXPECT_EQ(chain.readable_size, size);
      EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::nothing);
      ring.device.push_used({.head = chain.id.head, .descriptors = static_cast<std::uint16_t>(size)}, 0);
      ring.device.publish();
      EXPECT_EQ(taken(ring.driver.poll_used()).cookie, turn);
    }
  }
}

TEST(PackedQueue, Pop_FlagsInAnIndirectTable_AreIgnoredButForWrite) {
  Ring ring(4, packed({.indirect_entries = 4}));
  const GuestBuffer text = ring.text("abc");
  const std::uint64_t at = text.address.get();
  ring.driver.packed().offer_raw(
      {{table_of(ring, {entry(at, 1, 0), entry(at + 1, 1, kNext | kIndirect | kPackedAvail),
                        entry(at + 2, 1, kPackedUsed), entry(ring.buffer(7).address.get(), 7, kWrite)})}},
      1);
  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
  EXPECT_EQ(gather(chain.readable), "abc");
  EXPECT_EQ(chain.writable_size, 7u);
}

TEST(PackedQueue, Pop_WriteFlagBesideIndirect_IsIgnored) {
  Ring ring(4, packed({.indirect_entries = 4}));
  const GuestBuffer text = ring.text("read me");
  auto table = table_of(ring, {entry(text.address.get(), text.length)});
  table.flags |= kWrite;
  ring.driver.packed().offer_raw({{table}}, 1);
  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
  EXPECT_EQ(gather(chain.readable), "read me");
}

TEST(PackedQueue, Pop_ZeroLengthDescriptors_AreTolerated) {
  Ring ring(4, packed());
  const GuestBuffer text = ring.text("x");
  expect_pop(ring,
             {entry(0, 0, kNext), entry(text.address.get(), 1, kNext),
              entry(~std::uint64_t{0}, 0, kNext | kWrite), entry(0, 0, kWrite)},
             Pop::chain);
}

TEST(PackedQueue, Pop_BuffersOverwrittenByOthersUsedDescriptors_AreStillKnown) {
  Ring ring(4, packed());
  for (std::uint64_t i = 0; i < 4; ++i) ASSERT_TRUE(ring.driver.add({{ring.text("x")}}, {}, i));
  std::vector<Chain> chains(4);
  for (Chain& chain : chains) ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
  // The last first: its used descriptor lies where the first chain's was.
  for (const std::size_t i : {3u, 1u, 0u, 2u}) {
    ring.device.push_used(chains[i].id, static_cast<std::uint32_t>(10 + i));
    ring.device.publish();
    const auto used = taken(ring.driver.poll_used());
    EXPECT_EQ(used.cookie, i);
    EXPECT_EQ(used.length, 10 + i);
    EXPECT_EQ(gather(chains[i].readable), "x");
  }
}

TEST(PackedQueue, Pop_IndirectTableAcrossRegions_IsRead) {
  Ring ring(4, packed({.indirect_entries = 2}));
  const auto next =
      guestmem::SharedMemory::create(guestmem::GuestAddress(kGuestBase.get() + ring.memory.size()), 4096);
  const auto map = map_of({&ring.memory, &*next});
  const GuestBuffer text = ring.text("split table");
  // Three descriptors, the second of which lies in both regions.
  const std::uint64_t address = kGuestBase.get() + ring.memory.size() - 24;
  const vring_packed_desc table[3] = {entry(text.address.get(), 3), entry(text.address.get() + 3, 3),
                                      entry(text.address.get() + 6, 5)};
  std::memcpy(ring.memory.host(guestmem::GuestAddress(address)), table, 24);
  std::memcpy(next->host(next->description().guest), reinterpret_cast<const char*>(table) + 24, 24);
  ring.driver.packed().offer_raw({{entry(address, sizeof(table), kIndirect)}}, 1);

  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *map), Pop::chain);
  EXPECT_EQ(gather(chain.readable), "split table");

  ring.driver.packed().offer_raw({{entry(address, sizeof(table), kIndirect)}}, 1);
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::malformed) << "without the second region";
}

TEST(PackedQueue, Pop_AddressOutsideMemory_IsMalformed) {
  Ring ring(4, packed());
  const std::uint64_t end = kGuestBase.get() + ring.memory.size();
  expect_pop(ring, {entry(0, 1)}, Pop::malformed);
  expect_pop(ring, {entry(kGuestBase.get() - 1, 2)}, Pop::malformed);
  expect_pop(ring, {entry(end - 1, 2)}, Pop::malformed);
  expect_pop(ring, {entry(end, 1, kWrite)}, Pop::malformed);
  expect_pop(ring, {entry(~std::uint64_t{0}, 1)}, Pop::malformed);
  expect_pop(ring, {entry(~std::uint64_t{0} - 1, 0xffffffff)}, Pop::malformed);
  expect_pop(ring, {entry(kGuestBase.get(), 0xffffffff)}, Pop::malformed);
  expect_pop(ring, {entry(end - 1, 1)}, Pop::chain);
}

TEST(PackedQueue, Pop_MalformedFirstDescriptor_TakesTheWholeChain) {
  Ring ring(8, packed());
  const GuestBuffer text = ring.text("fine");
  for (int turn = 0; turn < 5; ++turn) {
    expect_pop(ring, {entry(0, 1, kNext), entry(text.address.get(), 4, kNext), entry(0, 1)}, Pop::malformed);
    EXPECT_FALSE(ring.device.broken());
    expect_pop(ring, {entry(text.address.get(), text.length)}, Pop::chain);
  }
}

TEST(PackedQueue, Pop_ReadableBehindWritable_IsMalformed) {
  Ring ring(4, packed({.indirect_entries = 4}));
  const std::uint64_t at = kGuestBase.get();
  expect_pop(ring, {entry(at, 1, kWrite | kNext), entry(at, 1)}, Pop::malformed);
  expect_pop(ring, {entry(at, 0, kWrite | kNext), entry(at, 1)}, Pop::malformed);
  expect_pop(ring, {table_of(ring, {entry(at, 1, kWrite), entry(at, 1)})}, Pop::malformed);
}

TEST(PackedQueue, Pop_IndirectNotNegotiated_IsMalformed) {
  Ring ring(4, packed());
  expect_pop(ring, {table_of(ring, {entry(kGuestBase.get(), 1)})}, Pop::malformed);
}

TEST(PackedQueue, Pop_IndirectAmongOthers_IsMalformed) {
  Ring ring(4, packed({.indirect_entries = 4}));
  const std::uint64_t at = kGuestBase.get();
  const auto table = table_of(ring, {entry(at, 1)});
  auto linked = table;
  linked.flags |= kNext;
  expect_pop(ring, {linked, entry(at, 1)}, Pop::malformed);
  expect_pop(ring, {entry(at, 1, kNext), table}, Pop::malformed);
  expect_pop(ring, {table}, Pop::chain);
}

TEST(PackedQueue, Pop_IndirectTableSize_IsChecked) {
  Ring ring(4, packed({.indirect_entries = 4}));
  const auto table = table_of(ring, {entry(kGuestBase.get(), 1), entry(kGuestBase.get(), 1)});
  for (const std::uint32_t length : {0u, 1u, 15u, 17u, 24u, 31u, 33u, 0xffffffffu, 0xfffffff0u}) {
    auto odd = table;
    odd.len = length;
    expect_pop(ring, {odd}, Pop::malformed);
  }
}

TEST(PackedQueue, Pop_IndirectTableOutsideMemory_IsMalformed) {
  Ring ring(4, packed({.indirect_entries = 4}));
  const std::uint64_t end = kGuestBase.get() + ring.memory.size();
  expect_pop(ring, {entry(end, 16, kIndirect)}, Pop::malformed);
  expect_pop(ring, {entry(end - 8, 16, kIndirect)}, Pop::malformed);
  expect_pop(ring, {entry(~std::uint64_t{0} - 7, 16, kIndirect)}, Pop::malformed);
}

TEST(PackedQueue, Pop_MoreThan32768Descriptors_IsMalformed) {
  Ring ring(4, packed({.indirect_entries = 4}));
  std::vector<vring_packed_desc> table(32768, entry(kGuestBase.get(), 1));
  expect_pop(ring, {table_of(ring, table)}, Pop::chain);
  table.push_back(entry(kGuestBase.get(), 0));
  expect_pop(ring, {table_of(ring, table)}, Pop::malformed);
}

TEST(PackedQueue, Pop_TotalLengthOf4GiB_IsMalformed) {
  Ring ring(4, packed());
  const auto big =
      guestmem::SharedMemory::create(guestmem::GuestAddress(std::uint64_t{1} << 40), std::size_t{1} << 31);
  ASSERT_TRUE(big);
  const auto map = map_of({&ring.memory, &*big});
  const std::uint64_t at = std::uint64_t{1} << 40;
  Chain chain;
  ring.driver.packed().offer_raw({{entry(at, 0x80000000, kNext), entry(at, 0x7fffffff, kWrite)}}, 1);
  EXPECT_EQ(ring.device.pop(chain, *map), Pop::chain);
  EXPECT_EQ(chain.readable_size + chain.writable_size, 0xffffffffu);
  ring.driver.packed().offer_raw({{entry(at, 0x80000000, kNext), entry(at, 0x80000000, kWrite)}}, 1);
  EXPECT_EQ(ring.device.pop(chain, *map), Pop::malformed);
}

TEST(PackedQueue, Pop_ChainWithoutAnEnd_IsBrokenForGood) {
  for (const unsigned size : {1u, 4u, 5u, 32768u}) {
    Ring ring(size, packed());
    ring.driver.packed().offer_raw(std::vector<vring_packed_desc>(size, entry(kGuestBase.get(), 1, kNext)),
                                   1);
    Chain chain;
    EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::broken);
    EXPECT_TRUE(chain.readable.empty());
    EXPECT_TRUE(ring.device.broken());
    EXPECT_FALSE(ring.device.has_available());
    EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::broken);
  }
}

TEST(PackedQueue, Pop_ChainIntoDescriptorsThatAreTaken_IsBroken) {
  Ring ring(4, packed());
  ASSERT_TRUE(ring.driver.add({{ring.text("a"), ring.text("b")}}, {}, 1));
  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
  const ChainId first = chain.id;
  // Its second descriptor says that it goes on, over the two that we have not returned.
  ring.driver.packed().offer_raw({{entry(kGuestBase.get(), 1, kNext), entry(kGuestBase.get(), 1, kNext)}}, 2);
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::broken);
  EXPECT_EQ(ring.device.outstanding(), 1u);
  ring.device.push_used(first, 0);
  ring.device.publish();
  EXPECT_EQ(taken(ring.driver.poll_used()).cookie, 1u) << "what is in flight still comes back";
}

TEST(PackedQueue, Pop_DescriptorsOfferedAgainBeforeTheyCameBack_AreBroken) {
  Ring ring(4, packed());
  auto& driver = ring.driver.packed();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(ring.driver.add({{ring.text("x")}}, {}, 1));
  Chain chain;
  for (int i = 0; i < 4; ++i) ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::nothing);
  // Available in the next turn already.
  driver.write_descriptor(0, entry(kGuestBase.get(), 1, kPackedUsed));
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::broken);
}

TEST(PackedQueue, Pop_FlagsThatMakeNothingAvailable_AreNothing) {
  Ring ring(4, packed());
  Chain chain;
  for (const std::uint16_t flags :
       {std::uint16_t{0}, kPackedUsed, static_cast<std::uint16_t>(kPackedAvail | kPackedUsed)}) {
    ring.driver.packed().write_descriptor(0, entry(kGuestBase.get(), 1, flags));
    EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::nothing);
  }
}

TEST(PackedQueue, PushUsed_IdsThatTheDriverMadeUp_AreGivenBackAsTheyCame) {
  Ring ring(4, packed());
  auto& driver = ring.driver.packed();
  Chain chain;
  // The same id twice, and one beyond the ring: any 16 bits are the driver's business.
  const std::uint16_t ids[] = {0xffff, 7, 7};
  for (std::uint16_t i = 0; i < 3; ++i) {
    driver.write_descriptor(i, {.addr = kGuestBase.get(), .len = 1, .id = ids[i], .flags = kPackedAvail});
    ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
    EXPECT_EQ(chain.id.head, ids[i]);
    ring.device.push_used(chain.id, i);
  }
  ring.device.publish();
  for (std::uint16_t i = 0; i < 3; ++i) {
    const auto used = driver.read_descriptor(i);
    EXPECT_EQ(used.id, ids[i]);
    EXPECT_EQ(used.len, i);
    EXPECT_EQ(used.flags, kPackedAvail | kPackedUsed | (i != 0 ? kWrite : 0));
  }
}

TEST(PackedQueue, Publish_ShowsABatchAtOnce) {
  Ring ring(7, packed({.initial_index = 4}));
  Chain chain;
  for (std::uint64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(ring.driver.add({{ring.text("x"), ring.text("y")}}, {}, i));
    ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
    ring.device.push_used(chain.id, static_cast<std::uint32_t>(100 + i));
    EXPECT_FALSE(ring.driver.has_used());
  }
  EXPECT_TRUE(ring.device.has_unpublished());
  ring.device.publish();
  EXPECT_FALSE(ring.device.has_unpublished());
  EXPECT_EQ(ring.device.outstanding(), 0u);
  for (std::uint64_t i = 0; i < 3; ++i) {
    const auto used = taken(ring.driver.poll_used());
    EXPECT_EQ(used.cookie, i);
    EXPECT_EQ(used.length, 100 + i);
  }
  EXPECT_FALSE(ring.driver.poll_used());
}

TEST(PackedQueueDeathTest, PushUsed_WithoutAPoppedChain_IsOurBug) {
  Ring ring(4, packed());
  EXPECT_DEATH(ring.device.push_used({}, 0), "staged_ < outstanding_");
}

TEST(PackedQueue, Create_BadSize_IsRefused) {
  Ring ring(4, packed());
  for (const unsigned size : {0u, 32769u, 65536u, 0x80000000u}) {
    RingSetup setup = ring.driver.setup();
    setup.size = size;
    EXPECT_FALSE(PackedQueue::create(setup, ring.map, {})) << size;
  }
  for (const unsigned size : {1u, 3u, 100u}) {
    RingSetup setup = ring.driver.setup();
    setup.size = size;
    EXPECT_TRUE(PackedQueue::create(setup, ring.map, {})) << size;
  }
}

TEST(PackedQueue, Create_BaseOutsideTheRing_IsRefused) {
  Ring ring(5, packed());
  const auto with_base = [&](std::uint32_t base) {
    RingSetup setup = ring.driver.setup();
    setup.base = base;
    return PackedQueue::create(setup, ring.map, {});
  };
  for (const std::uint32_t base : {0x0005'0005u, 0x8005'8004u, 0x8004'8005u, 0x7fff'7fffu, 0xffff'ffffu})
    EXPECT_FALSE(with_base(base)) << std::hex << base;
  // More used than there were taken.
  for (const std::uint32_t base : {0x8002'8001u, 0x8001'0002u, 0x0002'8003u})
    EXPECT_FALSE(with_base(base)) << std::hex << base;
  for (const std::uint32_t base : {0x0004'0004u, 0x8004'8004u, 0x8001'8003u, 0x8003'0001u, 0x8003'0003u})
    EXPECT_EQ(with_base(base)->base(), base) << std::hex << base;
  EXPECT_EQ(with_base(0x8003)->base(), 0x8003'8003u) << "only the low half is given";
}

TEST(PackedQueue, Create_WithChainsThatAnotherDeviceTook_LeavesTheirDescriptorsAlone) {
  Ring ring(4, packed());
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(ring.driver.add({{ring.text("x")}}, {}, i));
  RingSetup setup = ring.driver.setup();
  setup.base = 0x8000'8002;  // Two were taken and not returned.
  auto device = *PackedQueue::create(setup, ring.map, {});
  Chain chain;
  ASSERT_EQ(device.pop(chain, *ring.map), Pop::chain);
  device.push_used(chain.id, 5);
  device.publish();
  EXPECT_EQ(taken(ring.driver.poll_used()).cookie, 2u);
  // Of the ring two are lost: a longer chain would run into them.
  ring.driver.packed().offer_raw({{entry(kGuestBase.get(), 1, kNext), entry(kGuestBase.get(), 1, kNext)}}, 9);
  EXPECT_EQ(device.pop(chain, *ring.map), Pop::broken);
}

TEST(PackedQueue, Create_RingOutsideMemoryOrMisaligned_IsRefused) {
  Ring ring(4, packed());
  const std::uint64_t end = ring.memory.description().user + ring.memory.size();
  const auto refused = [&](auto change) {
    RingSetup setup = ring.driver.setup();
    change(setup);
    return !PackedQueue::create(setup, ring.map, {});
  };
  EXPECT_FALSE(refused([](RingSetup&) {}));
  EXPECT_TRUE(refused([](RingSetup& s) { s.desc_user_addr = 0; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.avail_user_addr = 0; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.used_user_addr = 0; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.used_user_addr = ~std::uint64_t{0}; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.desc_user_addr += 8; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.avail_user_addr += 2; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.used_user_addr += 2; }));
  EXPECT_FALSE(refused([&](RingSetup& s) { s.desc_user_addr = end - 64; }));
  EXPECT_TRUE(refused([&](RingSetup& s) { s.desc_user_addr = end - 48; }));
  EXPECT_FALSE(refused([&](RingSetup& s) { s.avail_user_addr = end - 4; }));
  EXPECT_TRUE(refused([&](RingSetup& s) { s.avail_user_addr = end; }));
  EXPECT_FALSE(refused([&](RingSetup& s) { s.used_user_addr = end - 4; }));
  EXPECT_TRUE(refused([&](RingSetup& s) { s.used_user_addr = end; }));
}

TEST(PackedQueue, Base_OfADrainedRing_IsWhereAnotherGoesOn) {
  Ring ring(5, packed());
  Chain chain;
  std::uint64_t cookie = 0;
  for (int round = 0; round < 40; ++round) {
    // Out of order, so that what is drained is not what was taken last.
    std::vector<ChainId> ids;
    for (int i = 0; i < 2; ++i) {
      const std::vector<GuestBuffer> in(i == 0 ? 1 : 3, ring.text("x"));
      ASSERT_TRUE(ring.driver.add(in, {}, ++cookie));
      ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
      ids.push_back(chain.id);
    }
    ring.device.push_used(ids[1], 0);
    ring.device.publish();
    ring.device.push_used(ids[0], 0);
    ring.device.publish();
    EXPECT_EQ(taken(ring.driver.poll_used()).cookie, cookie);
    EXPECT_EQ(taken(ring.driver.poll_used()).cookie, cookie - 1);

    RingSetup setup = ring.driver.setup();
    setup.base = ring.device.base();
    EXPECT_EQ(setup.base, ring.driver.drained_base());
    ring.device = *DeviceQueue::create(setup, ring.map, {.packed = true});
  }
}

TEST(PackedQueue, Rebind_FollowsTheRingToANewMapping) {
  Ring ring(4, packed());
  Chain chain;
  ASSERT_TRUE(ring.driver.add({{ring.text("one")}}, {}, 1));
  ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
  ring.device.push_used(chain.id, 0);  // Staged on the old mapping,

  const auto map = map_of({&ring.memory});
  ASSERT_TRUE(ring.device.rebind(map));

  ASSERT_TRUE(ring.driver.add({{ring.text("two")}}, {}, 2));
  ASSERT_EQ(ring.device.pop(chain, *map), Pop::chain);
  EXPECT_EQ(gather(chain.readable), "two");
  ring.device.push_used(chain.id, 0);
  ring.device.publish();  // published on the new one.
  EXPECT_EQ(taken(ring.driver.poll_used()).cookie, 1u);
  EXPECT_EQ(taken(ring.driver.poll_used()).cookie, 2u);
}

TEST(PackedQueue, Rebind_RingNotInTheNewMap_Breaks) {
  Ring ring(4, packed());
  Chain chain;
  EXPECT_FALSE(ring.device.rebind(guestmem::MemoryMap::empty()));
  EXPECT_TRUE(ring.device.broken());
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::broken);
}

// A guest whose ring begins at a page of its own, and the pages that the device marked.
class PackedLog : public ::testing::Test {
 protected:
  PackedLog() {
    EXPECT_EQ(ftruncate(fd.get(), 4096), 0);
    ring.device.set_dirty_log(*guestmem::DirtyLog::map(fd, 4096, 0));
  }
  void turn(int count) {
    Chain chain;
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(ring.driver.add({{{kGuestBase, 1}}}, {}, 0));
      ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
      ring.device.push_used(chain.id, 0);
    }
    ring.device.publish();
  }
  // Pages marked since the last call, counted from the ring's first.
  std::vector<unsigned> pages() {
    std::vector<std::uint8_t> bits(4096);
    EXPECT_EQ(pread(fd.get(), bits.data(), bits.size(), 0), 4096);
    EXPECT_EQ(pwrite(fd.get(), std::vector<char>(4096).data(), 4096, 0), 4096);
    std::vector<unsigned> set;
    for (unsigned page = 0; page < 4096 * 8; ++page)
      if (bits[page / 8] >> (page % 8) & 1) set.push_back(page - kGuestBase.get() / 4096);
    return set;
  }
  void log_ring() {
    RingSetup setup = ring.driver.setup();
    setup.log_used = true;
    ring.device.set_logging(setup);
  }

  // 512 descriptors are two pages; the event structures lie on the third.
  Ring ring{512, packed({.event_idx = true, .initial_index = 510})};
  UniqueFd fd{memfd_create("log", MFD_CLOEXEC)};
};

TEST_F(PackedLog, Publish_MarksTheUsedDescriptors) {
  ASSERT_EQ(ring.memory.description().guest, kGuestBase);
  turn(1);
  EXPECT_THAT(pages(), testing::IsEmpty()) << "the ring does not ask for it yet";
  log_ring();
  turn(3);  // Descriptors 511, 0 and 1.
  EXPECT_THAT(pages(), testing::ElementsAre(0, 1));
  turn(1);
  EXPECT_THAT(pages(), testing::ElementsAre(0));
  ring.device.set_dirty_log(nullptr);
  turn(1);
  EXPECT_THAT(pages(), testing::IsEmpty());
}

TEST_F(PackedLog, KickWishes_MarkTheEventStructure) {
  log_ring();
  (void)ring.device.enable_kicks();
  EXPECT_THAT(pages(), testing::ElementsAre(2));
  ring.device.disable_kicks();
  EXPECT_THAT(pages(), testing::ElementsAre(2));
  ring.device.disable_kicks();
  EXPECT_THAT(pages(), testing::IsEmpty()) << "nothing was written";
}

}  // namespace
}  // namespace fusewire::virtio
