// The chains of a packed ring: what pop() makes of good and of malformed ones.
#include "virtio/packed_queue.h"

#include "virtio/queue_fixture_test.h"

namespace fusewire::virtio {
namespace {

constexpr std::uint16_t kNext = VRING_DESC_F_NEXT;
constexpr std::uint16_t kWrite = VRING_DESC_F_WRITE;
constexpr std::uint16_t kIndirect = VRING_DESC_F_INDIRECT;

// The base of a drained ring.
std::uint32_t base_at(unsigned index, bool wrap) { return (index | (wrap ? 0x8000u : 0u)) * 0x10001u; }

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

}  // namespace
}  // namespace fusewire::virtio
