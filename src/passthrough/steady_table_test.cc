#include "passthrough/steady_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <set>

namespace fusewire::passthrough {
namespace {

// Has no memory but what make_room() has put aside.
template <class T>
struct OnlySpare : SpareAllocator<T> {
  using value_type = T;
  OnlySpare() = default;
  template <class U>
  OnlySpare(const OnlySpare<U>&) {}  // NOLINT(google-explicit-constructor): as allocators have it

  T* allocate(std::size_t count) {
    if (void* const spare = SpareMemory::take(count * sizeof(T))) return static_cast<T*>(spare);
    throw std::bad_alloc();
  }
};

template <class Table>
class SteadyTableTest : public ::testing::Test {};
using Set = absl::flat_hash_set<std::uint64_t, absl::flat_hash_set<std::uint64_t>::hasher,
                                absl::flat_hash_set<std::uint64_t>::key_equal, OnlySpare<std::uint64_t>>;
using SmallSet = absl::flat_hash_set<std::uint32_t, absl::flat_hash_set<std::uint32_t>::hasher,
                                     absl::flat_hash_set<std::uint32_t>::key_equal, OnlySpare<std::uint32_t>>;
using Tables = ::testing::Types<Set, SmallSet>;
TYPED_TEST_SUITE(SteadyTableTest, Tables);

TYPED_TEST(SteadyTableTest, InsertionAfterMakeRoom_NeedsNoMemory) {
  TypeParam table;
  for (std::uint32_t i = 0; i < 200'000; ++i) {
    make_room(table);
    ASSERT_TRUE(table.insert(i).second) << i;
  }
  EXPECT_EQ(table.size(), 200'000U);
}

TYPED_TEST(SteadyTableTest, InsertionsBetweenRemovals_NeedNoMemory) {
  TypeParam table;
  std::set<std::uint32_t> expected;
  std::mt19937 random(7);
  for (int i = 0; i < 300'000; ++i) {
    // Around each of the smaller capacities for a while, so that removed entries fill the table.
    const auto value = static_cast<std::uint32_t>(random() % (30U << (i / 30'000)));
    if (random() % 2 == 0) {
      EXPECT_EQ(table.erase(value), expected.erase(value));
      continue;
    }
    make_room(table);
    ASSERT_EQ(table.insert(value).second, expected.insert(value).second) << i;
  }
  EXPECT_EQ(table.size(), expected.size());
  for (const std::uint32_t value : expected) EXPECT_TRUE(table.contains(value));
}

TEST(SteadyTable, EmptyTable_GetsRoomForSeveral) {
  SteadyMap<std::uint64_t, std::unique_ptr<int>> table;
  make_room(table);
  const std::size_t capacity = table.capacity();
  for (std::uint64_t i = 0; i < 20; ++i) {
    make_room(table);
    table[i] = std::make_unique<int>(static_cast<int>(i));
  }
  EXPECT_EQ(table.capacity(), capacity);
  EXPECT_EQ(*table[19], 19);
}

TEST(SpareMemory, Take_GivesItOnceAndWhileItLasts) {
  EXPECT_EQ(SpareMemory::take(1), nullptr);
  {
    const SpareMemory spare(100);
    EXPECT_EQ(SpareMemory::take(101), nullptr);
    void* const taken = SpareMemory::take(100);
    EXPECT_NE(taken, nullptr);
    EXPECT_EQ(SpareMemory::take(1), nullptr);
    ::operator delete(taken);
  }
  EXPECT_EQ(SpareMemory::take(0), nullptr);
}

}  // namespace
}  // namespace fusewire::passthrough
