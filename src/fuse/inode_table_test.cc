#include "fusewire/inode_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>

namespace fusewire {
namespace {

struct File {
  explicit File(std::string text) : name(std::move(text)) { ++alive; }
  File(const File&) = delete;
  ~File() { --alive; }
  std::string name;
  static std::atomic<int> alive;
};
std::atomic<int> File::alive{0};

using Table = InodeTable<std::string, File>;

class InodeTableTest : public ::testing::Test {
 protected:
  Table table{"/", std::make_shared<File>("root")};
  Table::Node enter(const std::string& key) { return table.acquire(key, std::make_shared<File>(key)); }
};

TEST_F(InodeTableTest, Root_IsNode1_AndIsNeverForgotten) {
  EXPECT_EQ(table.find(kRootNode)->name, "root");
  table.forget(kRootNode, 1000);
  table.forget_all();
  EXPECT_EQ(table.find(kRootNode)->name, "root");
  EXPECT_EQ(table.acquire("/").id, kRootNode);
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(InodeTableTest, NumbersThatTheKernelMakesUp_AreNotFound) {
  enter("a");
  for (const std::uint64_t number :
       {std::uint64_t{0}, std::uint64_t{3}, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    EXPECT_EQ(table.find(NodeId{number}), nullptr) << number;
    table.forget(NodeId{number}, 1);
  }
  EXPECT_EQ(table.size(), 2u);
}

TEST_F(InodeTableTest, Acquire_OneKey_IsOneNode) {
  const auto first = enter("a");
  const auto second = enter("a");
  EXPECT_EQ(first.id, second.id);
  EXPECT_EQ(first.inode, second.inode);
  EXPECT_NE(enter("b").id, first.id);
  EXPECT_FALSE(table.acquire("c"));
  EXPECT_EQ(table.size(), 3u);
}

TEST_F(InodeTableTest, Forget_TakesTheNodeOut_WhenItsLastLookupGoes) {
  auto node = enter("a");
  ASSERT_TRUE(table.acquire("a"));
  table.forget(node.id, 1);
  EXPECT_EQ(table.find(node.id), node.inode);
  table.forget(node.id, 1);
  EXPECT_EQ(table.find(node.id), nullptr);
  EXPECT_FALSE(table.acquire("a"));
  EXPECT_EQ(File::alive, 2);  // the root, and ours
  node.inode.reset();
  EXPECT_EQ(File::alive, 1);
}

TEST_F(InodeTableTest, Forget_MoreThanThereAre_CountsAsAll) {
  const auto node = enter("a");
  table.forget(node.id, ~std::uint64_t{0});
  table.forget(node.id, 1);
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(InodeTableTest, PlaceUsedAgain_HasANewGeneration) {
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen;
  for (int round = 0; round < 10; ++round) {
    const auto a = enter("a");
    const auto b = enter("b");
    EXPECT_TRUE(seen.emplace(a.id.get(), a.generation).second);
    EXPECT_TRUE(seen.emplace(b.id.get(), b.generation).second);
    EXPECT_LE(std::max(a.id.get(), b.id.get()), 3u);  // places are not used up
    if (round % 2 == 0) {
      table.forget(a.id, 1);
      table.forget(b.id, 1);
    } else {
      table.forget_all();
    }
  }
}

TEST_F(InodeTableTest, Detach_TheKeyGetsANewNode_AndTheOldOneStays) {
  const auto old = enter("a");
  table.detach("a");
  const auto now = enter("a");
  EXPECT_NE(now.id, old.id);
  EXPECT_EQ(table.find(old.id), old.inode);
  table.forget(old.id, 1);
  EXPECT_EQ(table.acquire("a").id, now.id);  // the old node took no other's key with it
  table.detach("/");
  EXPECT_EQ(table.acquire("/").id, kRootNode);
}

// Each thread keeps its own count of what it acquired, gives all of it back in the end, and looks at each
// step whether the node is what its key says.
TEST_F(InodeTableTest, ThreadsThatLookUpAndForget_LoseNothing) {
  std::atomic<int> wrong{0};
  const auto work = [&](unsigned seed) {
    std::map<std::uint64_t, std::uint64_t> held;
    for (unsigned step = 0; step < 4000; ++step) {
      seed = seed * 1664525 + 1013904223;
      const std::string key = std::to_string((seed >> 16) % 8);
      auto node = table.acquire(key);
      if (!node) node = enter(key);
      if (node.inode->name != key || table.find(node.id) != node.inode) ++wrong;
      ++held[node.id.get()];
      if (step % 3 == 0) {
        const auto [id, count] = *held.begin();
        table.forget(NodeId{id}, count);
        held.erase(held.begin());
      }
    }
    for (const auto& [id, count] : held) {
      if (table.find(NodeId{id}) == nullptr) ++wrong;
      table.forget(NodeId{id}, count);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 4; ++seed) threads.emplace_back(work, seed);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(File::alive, 1);
}

}  // namespace
}  // namespace fusewire
