// A packed ring's used descriptors, its start, stop and move, and the dirty log.
#include <sys/mman.h>

#include "virtio/packed_queue.h"
#include "virtio/queue_fixture_test.h"

namespace fusewire::virtio {
namespace {

constexpr std::uint16_t kNext = VRING_DESC_F_NEXT;
constexpr std::uint16_t kWrite = VRING_DESC_F_WRITE;

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
