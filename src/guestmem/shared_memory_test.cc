#include "guestmem/shared_memory.h"

#include <gtest/gtest.h>

#include <cstring>

#include "guestmem/taken_test.h"

namespace fusewire::guestmem {
namespace {

TEST(SharedMemory, Allocate_AlignsAndFillsUp) {
  auto memory = SharedMemory::create(GuestAddress(0x10000), 8192);
  ASSERT_TRUE(memory);
  const auto first = taken(memory->allocate(1));
  const auto second = taken(memory->allocate(16, 64));
  EXPECT_EQ(first.guest, GuestAddress(0x10000));
  EXPECT_EQ(second.guest, GuestAddress(0x10040));
  EXPECT_EQ(second.host, memory->host(second.guest));
  EXPECT_EQ(memory->guest(second.host), second.guest);
  EXPECT_FALSE(memory->allocate(8192));
  EXPECT_FALSE(memory->allocate(SIZE_MAX));
  EXPECT_TRUE(memory->allocate(8192 - 80, 1));
  EXPECT_FALSE(memory->allocate(1, 1));
  memory->clear();
  EXPECT_TRUE(memory->allocate(8192, 1));
}

TEST(SharedMemory, Create_BadArguments_AreRefused) {
  EXPECT_FALSE(SharedMemory::create(GuestAddress(0), 0));
  EXPECT_FALSE(SharedMemory::create(GuestAddress(1), 4096));
  EXPECT_FALSE(SharedMemory::create(GuestAddress(0), SIZE_MAX));
}

TEST(SharedMemory, Region_SeesTheSameBytes) {
  auto memory = SharedMemory::create(GuestAddress(0x10000), 4096);
  ASSERT_TRUE(memory);
  const auto region = MemoryRegion::map(memory->description(), memory->fd());
  ASSERT_TRUE(region);
  const auto map = *MemoryMap::create({*region});
  const auto piece = taken(memory->allocate(4));
  std::memcpy(piece.host, "word", 4);
  EXPECT_EQ(std::memcmp(map->contiguous(piece.guest, 4), "word", 4), 0);
  EXPECT_EQ(map->from_user(memory->description().user, 4096), (*region)->host());
}

TEST(SharedMemory, Move_TakesTheMappingAlong) {
  auto made = SharedMemory::create(GuestAddress(0x10000), 4096);
  ASSERT_TRUE(made);
  SharedMemory other = std::move(*made);
  std::memset(other.host(GuestAddress(0x10000)), 1, other.size());
  *made = std::move(other);
  std::memset(made->host(GuestAddress(0x10000)), 1, made->size());
}

}  // namespace
}  // namespace fusewire::guestmem
