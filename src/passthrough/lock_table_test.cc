#include "passthrough/lock_table.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

namespace {

// How many allocations of this thread come before the one that fails; negative: none fails.
thread_local int allocations_left = -1;

}  // namespace

// For the whole test program, in which memory is short here only.
void* operator new(std::size_t size) {
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) --allocations_left;
  if (void* const memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace fusewire::passthrough {
namespace {

Result<UniqueFd> nothing() { return UniqueFd(); }

// A lease that is given back at once, with `allocations` before memory runs out. Whether they were enough.
bool lease_with(LockTable& table, NodeId node, LockOwner owner, int allocations) {
  const std::function<Result<UniqueFd>()> open = nothing;
  bool enough = true;
  allocations_left = allocations;
  try {
    EXPECT_TRUE(table.lease(node, owner, FileHandle{1}, open).has_value());
  } catch (const std::bad_alloc&) {
    enough = false;
  }
  allocations_left = -1;
  return enough;
}

TEST(LockTableTest, OwnersBeyondTheCap_AreEnolck) {
  LockTable table;
  for (std::size_t i = 0; i < LockTable::kMaxOwners; ++i) {
    ASSERT_TRUE(table.lease(NodeId{i % 512}, LockOwner{i}, FileHandle{1}, nothing).has_value());
  }
  EXPECT_EQ(table.size(), LockTable::kMaxOwners);
  const auto refused = table.lease(NodeId{1}, LockOwner{~0ULL}, FileHandle{1}, nothing);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error(), Errno{ENOLCK});
  table.clear();
  EXPECT_EQ(table.size(), 0U);
  EXPECT_TRUE(table.lease(NodeId{1}, LockOwner{1}, FileHandle{1}, nothing).has_value());
}

TEST(LockTableTest, DescriptorThatCannotBeOpened_LeavesNoOwner) {
  LockTable table;
  const auto refused =
      table.lease(NodeId{1}, LockOwner{1}, FileHandle{1}, []() -> Result<UniqueFd> { return fail(ENFILE); });
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error(), Errno{ENFILE});
  EXPECT_EQ(table.size(), 0U);
}

// The owner, its list, the table's own memory: whichever is wanting.
TEST(LockTableTest, WantOfMemory_LeavesNothingBehind) {
  LockTable table;
  int allocations = 0;
  for (; !lease_with(table, NodeId{1}, LockOwner{1}, allocations); ++allocations) {
    ASSERT_LT(allocations, 10);
    EXPECT_EQ(table.size(), 0U);
    EXPECT_EQ(table.node_count(), 0U);
  }
  EXPECT_GE(allocations, 3);
  EXPECT_EQ(table.size(), 1U);
  EXPECT_EQ(table.node_count(), 1U);
  table.release(NodeId{1}, FileHandle{1});
  EXPECT_EQ(table.node_count(), 0U);
}

TEST(LockTableTest, WantOfMemoryForASecondOwner_LeavesTheFirst) {
  LockTable table;
  ASSERT_TRUE(lease_with(table, NodeId{1}, LockOwner{1}, -1));
  int allocations = 0;
  for (; !lease_with(table, NodeId{1}, LockOwner{2}, allocations); ++allocations) {
    ASSERT_LT(allocations, 10);
    EXPECT_EQ(table.size(), 1U);
    EXPECT_EQ(table.node_count(), 1U);
  }
  EXPECT_GE(allocations, 2);
  EXPECT_EQ(table.size(), 2U);
  EXPECT_EQ(table.node_count(), 1U);
}

}  // namespace
}  // namespace fusewire::passthrough
