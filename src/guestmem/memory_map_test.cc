#include "guestmem/memory_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "fusewire/bytes.h"

namespace fusewire::guestmem {
namespace {

constexpr std::uint64_t kMax = ~std::uint64_t{0};

UniqueFd memory_file(std::uint64_t size) {
  UniqueFd fd(memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

std::shared_ptr<const MemoryRegion> region(std::uint64_t guest, std::uint64_t size, std::uint64_t user = 0,
                                           std::uint64_t offset = 0) {
  auto mapped = MemoryRegion::map({GuestAddress(guest), size, user, offset}, memory_file(offset + size));
  EXPECT_TRUE(mapped) << mapped.error();
  return *mapped;
}

std::shared_ptr<const MemoryMap> map_of(MemoryMap::Regions regions) {
  auto map = MemoryMap::create(std::move(regions));
  EXPECT_TRUE(map) << map.error();
  return *map;
}

TEST(MemoryRegion, Map_EmptyRange_IsRefused) {
  EXPECT_FALSE(MemoryRegion::map({GuestAddress(0), 0, 0, 0}, memory_file(4096)));
}

TEST(MemoryRegion, Map_OverflowingRanges_AreRefused) {
  const UniqueFd fd = memory_file(8192);
  EXPECT_FALSE(MemoryRegion::map({GuestAddress(kMax - 4094), 4096, 0, 0}, fd));
  EXPECT_TRUE(MemoryRegion::map({GuestAddress(kMax - 4095), 4096, 0, 0}, fd));
  EXPECT_FALSE(MemoryRegion::map({GuestAddress(0), 4096, kMax - 4094, 0}, fd));
  EXPECT_TRUE(MemoryRegion::map({GuestAddress(0), 4096, kMax - 4095, 0}, fd));
  EXPECT_FALSE(MemoryRegion::map({GuestAddress(0), 4096, 0, kMax - 100}, fd));
  EXPECT_FALSE(MemoryRegion::map({GuestAddress(0), 4096, 0, std::uint64_t{1} << 63}, fd));
  EXPECT_FALSE(MemoryRegion::map({GuestAddress(0), kMax, 0, 0}, fd));
}

TEST(MemoryRegion, Map_FileSmallerThanTheRange_IsRefused) {
  const UniqueFd fd = memory_file(8192);
  EXPECT_TRUE(MemoryRegion::map({GuestAddress(0), 8192, 0, 0}, fd));
  EXPECT_FALSE(MemoryRegion::map({GuestAddress(0), 8193, 0, 0}, fd));
  EXPECT_TRUE(MemoryRegion::map({GuestAddress(0), 4096, 0, 4096}, fd));
  EXPECT_FALSE(MemoryRegion::map({GuestAddress(0), 4097, 0, 4096}, fd));
}

TEST(MemoryRegion, Map_WhatCannotBeMapped_IsRefused) {
  EXPECT_FALSE(MemoryRegion::map({GuestAddress(0), 4096, 0, 0}, UniqueFd()));
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  EXPECT_FALSE(MemoryRegion::map({GuestAddress(0), 4096, 0, 0}, reader));
}

TEST(MemoryRegion, Map_OffsetWithinAPage_ShowsTheRightBytes) {
  const UniqueFd fd = memory_file(12288);
  ASSERT_EQ(pwrite(fd.get(), "here", 4, 4096 + 123), 4);

  const auto mapped = MemoryRegion::map({GuestAddress(0x1000), 4096, 0, 4096 + 123}, fd);

  ASSERT_TRUE(mapped);
  EXPECT_EQ(std::memcmp((*mapped)->host(), "here", 4), 0);
}

TEST(MemoryRegion, Map_ClosedFile_StaysMapped) {
  auto mapped = region(0, 4096);
  std::memset(mapped->host(), 1, 4096);
}

TEST(MemoryMap, Create_OverlappingGuestRanges_AreRefused) {
  EXPECT_FALSE(MemoryMap::create({region(0x1000, 0x1000, 0), region(0x1fff, 0x1000, 0x10000)}));
  EXPECT_FALSE(MemoryMap::create({region(0x1000, 0x1000, 0), region(0x1000, 0x1000, 0x10000)}));
  EXPECT_FALSE(MemoryMap::create({region(0, 0x10000, 0), region(0x4000, 0x1000, 0x10000)}));
  EXPECT_FALSE(MemoryMap::create({region(kMax - 0xfff, 0x1000, 0), region(kMax - 0x7ff, 0x800, 0x10000)}));
  EXPECT_TRUE(MemoryMap::create({region(0x2000, 0x1000, 0), region(0x1000, 0x1000, 0x10000)}));
}

TEST(MemoryMap, Create_MoreRegionsThanSlots_AreRefused) {
  const UniqueFd fd = memory_file(4096);
  MemoryMap::Regions regions;
  for (std::size_t i = 0; i <= MemoryMap::kMaxRegions; ++i)
    regions.push_back(*MemoryRegion::map({GuestAddress(i * 4096), 4096, i * 4096, 0}, fd));
  EXPECT_FALSE(MemoryMap::create(regions));
  regions.pop_back();
  EXPECT_TRUE(MemoryMap::create(regions));
}

TEST(MemoryMap, Translate_WithinARegion_IsOneRange) {
  const auto low = region(0x1000, 0x2000);
  const auto map = map_of({low, region(0x10000, 0x1000, 0x100000)});
  std::vector<iovec> out;

  ASSERT_TRUE(map->translate(GuestAddress(0x1800), 0x1800, out));

  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].iov_base, low->host() + 0x800);
  EXPECT_EQ(out[0].iov_len, 0x1800u);
}

TEST(MemoryMap, Translate_AmongAnyNumberOfRegions_FindsTheRightOne) {
  MemoryMap::Regions regions;
  for (std::uint64_t count = 1; count <= 9; ++count) {
    regions.push_back(region(count * 0x10000, 0x1000, count * 0x100000));
    const auto map = map_of(regions);
    for (const auto& wanted : regions) {
      const std::uint64_t begin = wanted->description().guest.get();
      std::vector<iovec> out;
      ASSERT_TRUE(map->translate(GuestAddress(begin + 0xfff), 1, out));
      ASSERT_EQ(out.size(), 1U);
      EXPECT_EQ(out[0].iov_base, wanted->host() + 0xfff);
      EXPECT_FALSE(map->translate(GuestAddress(begin + 0x1000), 1, out));
      EXPECT_FALSE(map->translate(GuestAddress(begin - 1), 1, out));
    }
  }
}

TEST(MemoryMap, Translate_AcrossAdjacentRegions_IsOneRangeEach) {
  const auto first = region(0x1000, 0x1000);
  const auto second = region(0x2000, 0x1000, 0x100000);
  const auto third = region(0x3000, 0x1000, 0x200000);
  const auto map = map_of({third, first, second});
  std::vector<iovec> out;

  ASSERT_TRUE(map->translate(GuestAddress(0x1fff), 0x1002, out));

  ASSERT_EQ(out.size(), 3u);
  EXPECT_EQ(out[0].iov_base, first->host() + 0xfff);
  EXPECT_EQ(out[0].iov_len, 1u);
  EXPECT_EQ(out[1].iov_base, second->host());
  EXPECT_EQ(out[1].iov_len, 0x1000u);
  EXPECT_EQ(out[2].iov_base, third->host());
  EXPECT_EQ(out[2].iov_len, 1u);
}

TEST(MemoryMap, Translate_AnyByteOutside_FailsAndAppendsNothing) {
  const auto map =
      map_of({region(0x1000, 0x1000), region(0x2000, 0x1000, 0x100000), region(0x4000, 0x1000, 0x200000)});
  std::vector<iovec> out(1);
  for (const auto& [address, length] :
       std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, 1},
                                                            {0xfff, 1},
                                                            {0xfff, 2},
                                                            {0x1000, 0x2001},
                                                            {0x2fff, 2},
                                                            {0x3000, 1},
                                                            {0x1000, 0x4000},
                                                            {0x4fff, 2},
                                                            {0x5000, 1},
                                                            {0x1000, kMax},
                                                            {kMax, 1},
                                                            {kMax, 2},
                                                            {kMax, kMax},
                                                            {0x4000, kMax - 0x3fff}}) {
    EXPECT_FALSE(map->translate(GuestAddress(address), length, out)) << address << "+" << length;
    EXPECT_EQ(out.size(), 1u);
  }
}

TEST(MemoryMap, Translate_UpToTheLastAddress_DoesNotComeRoundToZero) {
  const auto map = map_of({region(kMax - 0xfff, 0x1000), region(0, 0x1000, 0x100000)});
  std::vector<iovec> out;
  EXPECT_TRUE(map->translate(GuestAddress(kMax - 0xf), 0x10, out));
  EXPECT_FALSE(map->translate(GuestAddress(kMax - 0xf), 0x11, out));
  std::array<std::byte, 0x11> copy;
  EXPECT_TRUE(map->copy_out(GuestAddress(kMax - 0xf), std::span(copy).first(0x10)));
  EXPECT_FALSE(map->copy_out(GuestAddress(kMax - 0xf), copy));
  EXPECT_EQ(map->contiguous(GuestAddress(kMax - 0xf), 0x11), nullptr);
}

TEST(MemoryMap, Translate_NoBytes_AppendsNothing) {
  const auto map = map_of({region(0x1000, 0x1000)});
  std::vector<iovec> out;
  EXPECT_TRUE(map->translate(GuestAddress(0x1000), 0, out));
  EXPECT_TRUE(map->translate(GuestAddress(kMax), 0, out));
  EXPECT_TRUE(out.empty());
}

TEST(MemoryMap, CopyOut_AcrossRegions_TakesFromBoth) {
  const auto first = region(0x1000, 0x1000);
  const auto second = region(0x2000, 0x1000, 0x100000);
  const auto map = map_of({first, second});
  std::memcpy(first->host() + 0xffe, "ab", 2);
  std::memcpy(second->host(), "cd", 2);
  std::array<std::byte, 4> out;

  ASSERT_TRUE(map->copy_out(GuestAddress(0x1ffe), out));

  EXPECT_EQ(as_text(out), "abcd");
  EXPECT_FALSE(map->copy_out(GuestAddress(0x2ffe), out));
}

TEST(MemoryMap, Contiguous_OnlyWithinOneRegion) {
  const auto first = region(0x1000, 0x1000);
  const auto map = map_of({first, region(0x2000, 0x1000, 0x100000)});
  EXPECT_EQ(map->contiguous(GuestAddress(0x1010), 0xff0), first->host() + 0x10);
  EXPECT_EQ(map->contiguous(GuestAddress(0x1010), 0xff1), nullptr);
  EXPECT_EQ(map->contiguous(GuestAddress(0x3000), 0), nullptr);
  EXPECT_EQ(map->contiguous(GuestAddress(0x1010), kMax), nullptr);
}

TEST(MemoryMap, FromUser_TranslatesFrontEndAddresses) {
  const auto first = region(0x1000, 0x1000, 0x7f0000001000);
  const auto last = region(0x2000, 0x1000, kMax - 0xfff);
  const auto map = map_of({first, last});
  EXPECT_EQ(map->from_user(0x7f0000001ff0, 16), first->host() + 0xff0);
  EXPECT_EQ(map->from_user(0x7f0000001ff0, 17), nullptr);
  EXPECT_EQ(map->from_user(0x7f0000001ff0, kMax), nullptr);
  EXPECT_EQ(map->from_user(0x7f0000000fff, 1), nullptr);
  EXPECT_EQ(map->from_user(kMax, 1), last->host() + 0xfff);
  EXPECT_EQ(map->from_user(kMax, 2), nullptr);
}

TEST(MemoryMap, FromUser_OverlappingUserRanges_FindsTheOneThatHasAll) {
  const auto part = region(0x1000, 0x1000, 0x10000);
  const auto whole = region(0x2000, 0x2000, 0x10000);
  const auto map = map_of({part, whole});
  EXPECT_EQ(map->from_user(0x10000, 0x2000), whole->host());
}

TEST(MemoryMap, GuestAddress_IsTheReverseOfTranslate) {
  const auto first = region(0x1000, 0x1000);
  const auto second = region(0x8000, 0x1000, 0x100000);
  const auto map = map_of({first, second});
  EXPECT_EQ(map->guest_address(first->host() + 5), GuestAddress(0x1005));
  EXPECT_EQ(map->guest_address(second->host() + 0xfff), GuestAddress(0x8fff));
  int elsewhere = 0;
  EXPECT_EQ(map->guest_address(&elsewhere), std::nullopt);
  EXPECT_EQ(map->guest_address(nullptr), std::nullopt);
}

TEST(MemoryMap, With_SharesTheOldRegions) {
  const auto old = map_of({region(0x1000, 0x1000)});
  const auto grown = old->with(region(0x2000, 0x1000, 0x100000));
  ASSERT_TRUE(grown);
  EXPECT_EQ(old->region_count(), 1u);
  EXPECT_EQ((*grown)->region_count(), 2u);
  EXPECT_EQ((*grown)->regions()[0], old->regions()[0]);
  EXPECT_EQ((*grown)->contiguous(GuestAddress(0x1000), 1), old->contiguous(GuestAddress(0x1000), 1));
  EXPECT_FALSE((*grown)->with(region(0x2800, 0x1000, 0x200000)));
}

TEST(MemoryMap, Without_IdentifiesByGuestUserAndSize) {
  const auto map = map_of({region(0x1000, 0x1000, 0x10000), region(0x2000, 0x1000, 0x20000)});
  EXPECT_FALSE(map->without({GuestAddress(0x1000), 0x1000, 0x20000, 0}));
  EXPECT_FALSE(map->without({GuestAddress(0x1000), 0x800, 0x10000, 0}));
  EXPECT_FALSE(map->without({GuestAddress(0x1800), 0x1000, 0x10000, 0}));
  const auto rest = map->without({GuestAddress(0x1000), 0x1000, 0x10000, 0x99});
  ASSERT_TRUE(rest);
  EXPECT_EQ((*rest)->region_count(), 1u);
  EXPECT_EQ((*rest)->contiguous(GuestAddress(0x1000), 1), nullptr);
}

TEST(MemoryMap, Without_OldSnapshotKeepsTheMappingAlive) {
  auto map = map_of({region(0x1000, 0x1000, 0x10000)});
  std::weak_ptr<const MemoryRegion> watched = map->regions()[0];
  const auto rest = map->without({GuestAddress(0x1000), 0x1000, 0x10000, 0});
  ASSERT_TRUE(rest);
  std::memset(map->contiguous(GuestAddress(0x1000), 0x1000), 7, 0x1000);
  EXPECT_FALSE(watched.expired());
  map.reset();
  EXPECT_TRUE(watched.expired());
}

TEST(MemoryMap, Empty_TranslatesNothing) {
  std::vector<iovec> out;
  EXPECT_FALSE(MemoryMap::empty()->translate(GuestAddress(0), 1, out));
  EXPECT_EQ(MemoryMap::empty()->from_user(0, 0), nullptr);
}

}  // namespace
}  // namespace fusewire::guestmem
