#include "virtio/split_queue.h"

#include <sys/mman.h>

#include "virtio/queue_fixture_test.h"

namespace fusewire::virtio {
namespace {

constexpr unsigned kNext = VRING_DESC_F_NEXT;
constexpr unsigned kWrite = VRING_DESC_F_WRITE;
constexpr unsigned kIndirect = VRING_DESC_F_INDIRECT;

// Offers the raw descriptors as a chain that begins with descriptor 0, pops it, and checks that the verdict
// is `expected`, that the head is known, and that the chain can be returned.
void expect_pop(Ring& ring, const std::vector<vring_desc>& descriptors, Pop expected) {
  for (std::size_t i = 0; i < descriptors.size(); ++i)
    ring.driver.split().write_descriptor(static_cast<std::uint16_t>(i), descriptors[i]);
  ring.driver.split().offer_raw(0, 77);
  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), expected);
  EXPECT_EQ(chain.id.head, 0);
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
vring_desc table_of(Ring& ring, const std::vector<vring_desc>& descriptors) {
  const auto piece = taken(ring.memory.allocate(descriptors.size() * sizeof(vring_desc), 1));
  std::memcpy(piece.host, descriptors.data(), piece.size);
  return descriptor(piece.guest.get(), static_cast<std::uint32_t>(piece.size), kIndirect);
}

TEST(SplitQueue, Pop_EmptyRing_IsNothing) {
  Ring ring(4);
  Chain chain;
  EXPECT_FALSE(ring.device.has_available());
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::nothing);
}

TEST(SplitQueue, Pop_DirectChain_GivesBothLists) {
  Ring ring(8);
  ASSERT_TRUE(
      ring.driver.add({{ring.text("head"), ring.text("er")}}, {{ring.buffer(16), ring.buffer(5)}}, 42));

  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);

  EXPECT_EQ(gather(chain.readable), "header");
  EXPECT_EQ(chain.readable_size, 6u);
  EXPECT_EQ(chain.writable.size(), 2u);
  EXPECT_EQ(chain.writable_size, 21u);
  EXPECT_EQ(ring.device.base(), 1u);
  EXPECT_EQ(ring.device.outstanding(), 1u);
}

TEST(SplitQueue, Pop_IndirectChain_GivesTheSame) {
  Ring ring(4, {.indirect_entries = 8});
  std::vector<GuestBuffer> in;
  for (const char* word : {"a", "bc", "def", "g", "hi"}) in.push_back(ring.text(word));
  const unsigned free = ring.driver.free_descriptors();
  ASSERT_TRUE(ring.driver.add(in, {{ring.buffer(3)}}, 1));
  EXPECT_EQ(ring.driver.free_descriptors(), free - 1);

  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);

  EXPECT_EQ(gather(chain.readable), "abcdefghi");
  EXPECT_EQ(chain.writable_size, 3u);
}

TEST(SplitQueue, Pop_DirectDescriptorsBeforeAnIndirectOne_AreOneChain) {
  Ring ring(4, {.indirect_entries = 4});
  const GuestBuffer first = ring.text("direct,");
  const GuestBuffer second = ring.text("indirect");
  const auto table = table_of(ring, {descriptor(second.address.get(), second.length, kNext, 2),
                                     {},
                                     descriptor(ring.buffer(9).address.get(), 9, kWrite)});
  ring.driver.split().write_descriptor(0, descriptor(first.address.get(), first.length, kNext, 3));
  ring.driver.split().write_descriptor(3, table);
  ring.driver.split().offer_raw(0, 1);

  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);

  EXPECT_EQ(gather(chain.readable), "direct,indirect");
  EXPECT_EQ(chain.writable_size, 9u);
}

TEST(SplitQueue, Pop_WriteFlagBesideIndirect_IsIgnored) {
  Ring ring(4, {.indirect_entries = 4});
  const GuestBuffer text = ring.text("read me");
  auto table = table_of(ring, {descriptor(text.address.get(), text.length)});
  table.flags |= kWrite;
  ring.driver.split().write_descriptor(0, table);
  ring.driver.split().offer_raw(0, 1);
  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
  EXPECT_EQ(gather(chain.readable), "read me");
}

TEST(SplitQueue, Pop_ZeroLengthDescriptors_AreTolerated) {
  Ring ring(4);
  const GuestBuffer text = ring.text("x");
  expect_pop(ring,
             {descriptor(0, 0, kNext, 1), descriptor(text.address.get(), 1, kNext, 2),
              descriptor(~std::uint64_t{0}, 0, kNext | kWrite, 3), descriptor(0, 0, kWrite)},
             Pop::chain);
}

TEST(SplitQueue, Pop_ReusedChain_StartsEmpty) {
  Ring ring(8);
  Chain chain;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(ring.driver.add({{ring.text("abc")}}, {{ring.buffer(2)}}, 0));
    ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
    EXPECT_EQ(chain.readable.size(), 1u);
    EXPECT_EQ(chain.readable_size, 3u);
    EXPECT_EQ(chain.writable_size, 2u);
  }
}

TEST(SplitQueue, Pop_BufferAcrossRegions_IsOneRangeEach) {
  Ring ring(4);
  const auto next =
      guestmem::SharedMemory::create(guestmem::GuestAddress(kGuestBase.get() + ring.memory.size()), 4096);
  const auto map = map_of({&ring.memory, &*next});
  std::memcpy(ring.memory.host(guestmem::GuestAddress(kGuestBase.get() + ring.memory.size() - 2)), "ab", 2);
  std::memcpy(next->host(next->description().guest), "cd", 2);
  ring.driver.split().write_descriptor(0, descriptor(kGuestBase.get() + ring.memory.size() - 2, 4));
  ring.driver.split().offer_raw(0, 1);

  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *map), Pop::chain);

  EXPECT_EQ(chain.readable.size(), 2u);
  EXPECT_EQ(gather(chain.readable), "abcd");
}

TEST(SplitQueue, Pop_IndirectTableAcrossRegions_IsRead) {
  Ring ring(4, {.indirect_entries = 2});
  const auto next =
      guestmem::SharedMemory::create(guestmem::GuestAddress(kGuestBase.get() + ring.memory.size()), 4096);
  const auto map = map_of({&ring.memory, &*next});
  const GuestBuffer text = ring.text("split table");
  // Three descriptors, the second of which lies in both regions.
  const std::uint64_t address = kGuestBase.get() + ring.memory.size() - 24;
  const vring_desc table[3] = {descriptor(text.address.get(), 3, kNext, 1),
                               descriptor(text.address.get() + 3, 3, kNext, 2),
                               descriptor(text.address.get() + 6, 5)};
  std::memcpy(ring.memory.host(guestmem::GuestAddress(address)), table, 24);
  std::memcpy(next->host(next->description().guest), reinterpret_cast<const char*>(table) + 24, 24);
  ring.driver.split().write_descriptor(0, descriptor(address, sizeof(table), kIndirect));
  ring.driver.split().offer_raw(0, 1);

  Chain chain;
  ASSERT_EQ(ring.device.pop(chain, *map), Pop::chain);
  EXPECT_EQ(gather(chain.readable), "split table");

  ring.driver.split().offer_raw(0, 1);
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::malformed) << "without the second region";
}

TEST(SplitQueue, Pop_AddressOutsideMemory_IsMalformed) {
  Ring ring(4);
  const std::uint64_t end = kGuestBase.get() + ring.memory.size();
  expect_pop(ring, {descriptor(0, 1)}, Pop::malformed);
  expect_pop(ring, {descriptor(kGuestBase.get() - 1, 2)}, Pop::malformed);
  expect_pop(ring, {descriptor(end - 1, 2)}, Pop::malformed);
  expect_pop(ring, {descriptor(end, 1, kWrite)}, Pop::malformed);
  expect_pop(ring, {descriptor(~std::uint64_t{0}, 1)}, Pop::malformed);
  expect_pop(ring, {descriptor(~std::uint64_t{0} - 1, 0xffffffff)}, Pop::malformed);
  expect_pop(ring, {descriptor(kGuestBase.get(), 0xffffffff)}, Pop::malformed);
  expect_pop(ring, {descriptor(end - 1, 1)}, Pop::chain);
}

TEST(SplitQueue, Pop_ReadableBehindWritable_IsMalformed) {
  Ring ring(4);
  const std::uint64_t at = kGuestBase.get();
  expect_pop(ring, {descriptor(at, 1, kWrite | kNext, 1), descriptor(at, 1)}, Pop::malformed);
  expect_pop(ring, {descriptor(at, 0, kWrite | kNext, 1), descriptor(at, 1)}, Pop::malformed);
}

TEST(SplitQueue, Pop_Loop_IsMalformed) {
  Ring ring(4);
  const std::uint64_t at = kGuestBase.get();
  expect_pop(ring, {descriptor(at, 1, kNext, 0)}, Pop::malformed);
  expect_pop(ring, {descriptor(at, 0, kNext, 1), descriptor(at, 0, kNext, 0)}, Pop::malformed);
  expect_pop(ring,
             {descriptor(at, 1, kNext, 1), descriptor(at, 1, kNext, 2), descriptor(at, 1, kNext, 3),
              descriptor(at, 1, kNext, 1)},
             Pop::malformed);
}

TEST(SplitQueue, Pop_NextOutsideTheTable_IsMalformed) {
  Ring ring(4);
  expect_pop(ring, {descriptor(kGuestBase.get(), 1, kNext, 4)}, Pop::malformed);
  expect_pop(ring, {descriptor(kGuestBase.get(), 1, kNext, 0xffff)}, Pop::malformed);
}

TEST(SplitQueue, Pop_IndirectNotNegotiated_IsMalformed) {
  Ring ring(4);
  expect_pop(ring, {table_of(ring, {descriptor(kGuestBase.get(), 1)})}, Pop::malformed);
}

TEST(SplitQueue, Pop_IndirectWithNext_IsMalformed) {
  Ring ring(4, {.indirect_entries = 4});
  auto table = table_of(ring, {descriptor(kGuestBase.get(), 1)});
  table.flags |= kNext;
  table.next = 1;
  expect_pop(ring, {table, descriptor(kGuestBase.get(), 1)}, Pop::malformed);
}

TEST(SplitQueue, Pop_IndirectInsideIndirect_IsMalformed) {
  Ring ring(4, {.indirect_entries = 4});
  const auto inner = table_of(ring, {descriptor(kGuestBase.get(), 1)});
  expect_pop(ring, {table_of(ring, {inner})}, Pop::malformed);
  expect_pop(ring, {table_of(ring, {descriptor(kGuestBase.get(), 1, kNext, 1), inner})}, Pop::malformed);
}

TEST(SplitQueue, Pop_IndirectTableSize_IsChecked) {
  Ring ring(4, {.indirect_entries = 4});
  const auto table = table_of(ring, {descriptor(kGuestBase.get(), 1), descriptor(kGuestBase.get(), 1)});
  for (std::uint32_t length : {0u, 1u, 15u, 17u, 24u, 31u, 33u, 0xffffffffu}) {
    auto odd = table;
    odd.len = length;
    expect_pop(ring, {odd}, Pop::malformed);
  }
}

TEST(SplitQueue, Pop_IndirectTableOutsideMemory_IsMalformed) {
  Ring ring(4, {.indirect_entries = 4});
  const std::uint64_t end = kGuestBase.get() + ring.memory.size();
  expect_pop(ring, {descriptor(end, 16, kIndirect)}, Pop::malformed);
  expect_pop(ring, {descriptor(end - 8, 16, kIndirect)}, Pop::malformed);
  expect_pop(ring, {descriptor(~std::uint64_t{0} - 7, 16, kIndirect)}, Pop::malformed);
  expect_pop(ring, {descriptor(~std::uint64_t{0} - 7, 0xfffffff0, kIndirect)}, Pop::malformed);
}

TEST(SplitQueue, Pop_IndirectLoopOrNextOutside_IsMalformed) {
  Ring ring(4, {.indirect_entries = 4});
  const std::uint64_t at = kGuestBase.get();
  expect_pop(ring, {table_of(ring, {descriptor(at, 1, kNext, 0)})}, Pop::malformed);
  expect_pop(ring, {table_of(ring, {descriptor(at, 1, kNext, 1), descriptor(at, 1, kNext, 0)})},
             Pop::malformed);
  expect_pop(ring, {table_of(ring, {descriptor(at, 1, kNext, 1)})}, Pop::malformed);
}

TEST(SplitQueue, Pop_IndirectTableLongerThanTheRing_IsTaken) {
  Ring ring(4, {.indirect_entries = 4});
  std::vector<vring_desc> table;
  table.reserve(1000);
  for (unsigned i = 0; i < 1000; ++i)
    table.push_back(descriptor(kGuestBase.get() + i, 1, i == 999 ? 0 : kNext, i + 1));
  expect_pop(ring, {table_of(ring, table)}, Pop::chain);
}

TEST(SplitQueue, Pop_MoreThan32768Descriptors_IsMalformed) {
  Ring ring(4, {.indirect_entries = 4});
  std::vector<vring_desc> table;
  table.reserve(32769);
  for (unsigned i = 0; i < 32768; ++i) table.push_back(descriptor(kGuestBase.get(), 1, kNext, i + 1));
  table.back().flags = 0;
  expect_pop(ring, {table_of(ring, table)}, Pop::chain);
  table.back().flags = kNext;
  table.push_back(descriptor(kGuestBase.get(), 1));
  expect_pop(ring, {table_of(ring, table)}, Pop::malformed);
}

TEST(SplitQueue, Pop_MoreThan32768Ranges_IsMalformed) {
  // Two descriptors' worth of tiny adjacent regions would do, but a map has at most 509 of them: 65
  // descriptors that each cross all regions.
  Ring ring(128);
  guestmem::MemoryMap::Regions regions;
  UniqueFd page(memfd_create("page", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(page.get(), 4096), 0);
  for (std::uint64_t i = 0; i < 508; ++i)
    regions.push_back(*guestmem::MemoryRegion::map({guestmem::GuestAddress(0x10000000 + i), 1, 0, 0}, page));
  regions.push_back(*guestmem::MemoryRegion::map(ring.memory.description(), ring.memory.fd()));
  const auto map = *guestmem::MemoryMap::create(std::move(regions));
  const auto offer = [&](unsigned count) {
    for (unsigned i = 0; i < count; ++i)
      ring.driver.split().write_descriptor(static_cast<std::uint16_t>(i),
                                           descriptor(0x10000000, 508, i + 1 == count ? 0 : kNext, i + 1));
    ring.driver.split().offer_raw(0, 1);
    Chain chain;
    return ring.device.pop(chain, *map);
  };
  EXPECT_EQ(offer(64), Pop::chain);  // 32,512 ranges.
  EXPECT_EQ(offer(65), Pop::malformed);
}

TEST(SplitQueue, Pop_TotalLengthOf4GiB_IsMalformed) {
  Ring ring(4);
  const auto big =
      guestmem::SharedMemory::create(guestmem::GuestAddress(std::uint64_t{1} << 40), std::size_t{1} << 31);
  ASSERT_TRUE(big);
  const auto map = map_of({&ring.memory, &*big});
  const std::uint64_t at = std::uint64_t{1} << 40;
  Chain chain;
  ring.driver.split().write_descriptor(0, descriptor(at, 0x80000000, kNext, 1));
  ring.driver.split().write_descriptor(1, descriptor(at, 0x7fffffff, kWrite));
  ring.driver.split().offer_raw(0, 1);
  EXPECT_EQ(ring.device.pop(chain, *map), Pop::chain);
  EXPECT_EQ(chain.readable_size + chain.writable_size, 0xffffffffu);
  ring.driver.split().write_descriptor(1, descriptor(at, 0x80000000, kWrite));
  ring.driver.split().offer_raw(0, 1);
  EXPECT_EQ(ring.device.pop(chain, *map), Pop::malformed);
}

TEST(SplitQueue, Pop_AfterAMalformedChain_GoesOn) {
  Ring ring(4);
  expect_pop(ring, {descriptor(0, 1)}, Pop::malformed);
  EXPECT_FALSE(ring.device.broken());
  const GuestBuffer text = ring.text("fine");
  expect_pop(ring, {descriptor(text.address.get(), text.length)}, Pop::chain);
}

TEST(SplitQueue, Pop_HeadOutsideTheRing_IsBrokenForGood) {
  Ring ring(4);
  Chain chain;
  ring.driver.split().offer_raw(4, 1);
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::broken);
  ring.driver.split().offer_raw(0, 1);
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::broken);
  EXPECT_TRUE(ring.device.broken());
  EXPECT_FALSE(ring.device.has_available());
}

TEST(SplitQueue, Pop_IndexFurtherThanTheRing_IsBroken) {
  for (std::uint16_t index : {std::uint16_t{5}, std::uint16_t{0x8000}, std::uint16_t{0xffff}}) {
    Ring ring(4);
    Chain chain;
    ring.driver.split().set_available_index(index);
    EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::broken);
  }
}

TEST(SplitQueue, Pop_MoreChainsInFlightThanTheRingHas_IsBroken) {
  Ring ring(4);
  Chain chain;
  ring.driver.split().write_descriptor(0, descriptor(kGuestBase.get(), 1));
  for (int i = 0; i < 4; ++i) {
    ring.driver.split().offer_raw(0, 1);
    ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
  }
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::nothing);
  ring.driver.split().offer_raw(0, 1);
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::broken);
}

TEST(SplitQueue, Publish_ShowsABatchAtOnce) {
  Ring ring(8);
  Chain chain;
  for (std::uint64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(ring.driver.add({{ring.text("x")}}, {}, i));
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

TEST(SplitQueueDeathTest, PushUsed_WithoutAPoppedChain_IsOurBug) {
  Ring ring(4);
  EXPECT_DEATH(ring.device.push_used({}, 0), "staged_ < outstanding_");
}

TEST(SplitQueue, Create_BadSize_IsRefused) {
  Ring ring(4);
  for (unsigned size : {0u, 1u, 3u, 5u, 32767u, 65536u, 0x80000000u}) {
    RingSetup setup = ring.driver.setup();
    setup.size = size;
    EXPECT_FALSE(SplitQueue::create(setup, ring.map, {})) << size;
  }
}

TEST(SplitQueue, Create_RingOutsideMemoryOrMisaligned_IsRefused) {
  Ring ring(4);
  const std::uint64_t end = ring.memory.description().user + ring.memory.size();
  const auto refused = [&](auto change) {
    RingSetup setup = ring.driver.setup();
    change(setup);
    return !SplitQueue::create(setup, ring.map, {});
  };
  EXPECT_FALSE(refused([](RingSetup&) {}));
  EXPECT_TRUE(refused([](RingSetup& s) { s.desc_user_addr = 0; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.avail_user_addr = 0; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.used_user_addr = 0; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.used_user_addr = ~std::uint64_t{0}; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.desc_user_addr += 8; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.avail_user_addr += 1; }));
  EXPECT_TRUE(refused([](RingSetup& s) { s.used_user_addr += 2; }));
  EXPECT_FALSE(refused([&](RingSetup& s) { s.desc_user_addr = end - 64; }));
  EXPECT_TRUE(refused([&](RingSetup& s) { s.desc_user_addr = end - 48; }));
  EXPECT_FALSE(refused([&](RingSetup& s) { s.avail_user_addr = end - 14; }));
  EXPECT_TRUE(refused([&](RingSetup& s) { s.avail_user_addr = end - 12; }));
  EXPECT_FALSE(refused([&](RingSetup& s) { s.used_user_addr = end - 40; }));
  EXPECT_TRUE(refused([&](RingSetup& s) { s.used_user_addr = end - 36; }));
}

TEST(SplitQueue, Rebind_FollowsTheRingToANewMapping) {
  Ring ring(4);
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

TEST(SplitQueue, Rebind_RingNotInTheNewMap_Breaks) {
  Ring ring(4);
  Chain chain;
  EXPECT_FALSE(ring.device.rebind(guestmem::MemoryMap::empty()));
  EXPECT_TRUE(ring.device.broken());
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::broken);
}

TEST(SplitQueue, Publish_WithLogging_MarksTheUsedRing) {
  Ring ring(32768, {.initial_index = 32766});
  UniqueFd fd(memfd_create("log", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(fd.get(), 4096), 0);
  const auto log = *guestmem::DirtyLog::map(fd, 4096, 0);
  const auto pages = [&] {
    std::vector<std::uint8_t> bits(4096);
    EXPECT_EQ(pread(fd.get(), bits.data(), bits.size(), 0), 4096);
    EXPECT_EQ(pwrite(fd.get(), std::vector<char>(4096).data(), 4096, 0), 4096);
    std::vector<unsigned> set;
    for (unsigned page = 0; page < 4096 * 8; ++page)
      if (bits[page / 8] >> (page % 8) & 1) set.push_back(page);
    return set;
  };
  // Pretend that the used ring begins at page 100: 4 + 8 * 32768 bytes end 4 bytes into page 164.
  RingSetup setup = ring.driver.setup();
  setup.log_used = true;
  setup.log_guest_addr = guestmem::GuestAddress(409600);
  const auto turn = [&](int count) {
    Chain chain;
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(ring.driver.add({{ring.text("x")}}, {}, 0));
      ASSERT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
      ring.device.push_used(chain.id, 0);
    }
    ring.device.publish();
  };
  ring.device.set_dirty_log(log);
  turn(1);
  EXPECT_THAT(pages(), testing::IsEmpty()) << "the ring does not ask for it yet";
  ring.device.set_logging(setup);
  turn(2);  // Slots 32767 and 0: the end, in pages 163 and 164, and the beginning.
  EXPECT_THAT(pages(), testing::ElementsAre(100, 163, 164));
  ring.device.disable_kicks();
  EXPECT_THAT(pages(), testing::ElementsAre(100));
  (void)ring.device.enable_kicks();
  EXPECT_THAT(pages(), testing::ElementsAre(100));
  ring.device.set_dirty_log(nullptr);
  turn(1);
  EXPECT_THAT(pages(), testing::IsEmpty());
}

TEST(SplitQueue, EnableKicks_WithEventIndex_LogsTheEventWord) {
  Ring ring(512, {.event_idx = true});
  UniqueFd fd(memfd_create("log", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(fd.get(), 8), 0);
  ring.device.set_dirty_log(*guestmem::DirtyLog::map(fd, 8, 0));
  RingSetup setup = ring.driver.setup();
  setup.log_used = true;
  setup.log_guest_addr = guestmem::GuestAddress(0);
  ring.device.set_logging(setup);
  (void)ring.device.enable_kicks();
  std::uint8_t bits = 0;
  ASSERT_EQ(pread(fd.get(), &bits, 1, 0), 1);
  EXPECT_EQ(bits, 0b10);  // 4 + 8 * 512 = 4100: the second page.
}

}  // namespace
}  // namespace fusewire::virtio
