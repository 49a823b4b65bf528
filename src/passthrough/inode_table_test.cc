#include "passthrough/inode_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

class InodeTableTest : public ::testing::Test {
 protected:
  InodeTableTest() {
    UniqueFd root = path_fd("");
    const auto stat = *stat_of(root.get());
    table.insert_root(stat, std::move(root));
  }

  UniqueFd path_fd(const std::string& name) const {
    UniqueFd fd(::open((directory.path() / name).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    EXPECT_TRUE(fd) << name;
    return fd;
  }
  void make_file(const std::string& name) const { std::ofstream(directory.path() / name) << name; }
  InodePtr acquire(const std::string& name) {
    UniqueFd fd = path_fd(name);
    const auto stat = *stat_of(fd.get());
    return table.acquire(stat, std::move(fd));
  }
  struct statx stat(const std::string& name) const { return *stat_of(path_fd(name).get()); }

  testing::TemporaryDirectory directory;
  InodeTable table;
};

TEST_F(InodeTableTest, Acquire_SameInodeTwice_IsOneNodeWithTwoLookups) {
  make_file("a");
  const NodeId node = acquire("a")->node();
  EXPECT_EQ(node, NodeId{2});
  EXPECT_EQ(acquire("a")->node(), node);
  EXPECT_EQ(table.size(), 2u);
  table.forget(node, 1);
  EXPECT_NE(table.find(node), nullptr);
  table.forget(node, 1);
  EXPECT_EQ(table.find(node), nullptr);
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(InodeTableTest, Acquire_HardLink_IsTheSameNode) {
  make_file("a");
  std::filesystem::create_hard_link(directory.path() / "a", directory.path() / "b");
  EXPECT_EQ(acquire("a"), acquire("b"));
}

TEST_F(InodeTableTest, Acquire_AfterForget_GivesANewNumber) {
  make_file("a");
  const NodeId first = acquire("a")->node();
  table.forget(first, 1);
  EXPECT_GT(acquire("a")->node(), first);
}

TEST_F(InodeTableTest, Forget_MoreThanThereAre_ForgetsAll) {
  make_file("a");
  const NodeId node = acquire("a")->node();
  table.forget(node, UINT64_MAX);
  EXPECT_EQ(table.find(node), nullptr);
  table.forget(node, UINT64_MAX);
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(InodeTableTest, Forget_Nothing_ChangesNothing) {
  make_file("a");
  const NodeId node = acquire("a")->node();
  table.forget(node, 0);
  EXPECT_NE(table.find(node), nullptr);
}

TEST_F(InodeTableTest, Forget_RootOrUnknown_IsIgnored) {
  table.forget(kRootNode, UINT64_MAX);
  table.forget(NodeId{0}, 1);
  table.forget(NodeId{UINT64_MAX}, 1);
  EXPECT_NE(table.find(kRootNode), nullptr);
  EXPECT_EQ(table.find(NodeId{UINT64_MAX}), nullptr);
}

TEST_F(InodeTableTest, AcquireKnown_UnknownInode_ChangesNothing) {
  make_file("a");
  EXPECT_EQ(table.acquire_known(identity_of(stat("a")), table.next_node()), nullptr);
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(InodeTableTest, AcquireKnown_OnlyNodesBelowTheMark) {
  make_file("a");
  const NodeId before = table.next_node();
  const NodeId node = acquire("a")->node();
  // Entered after the mark: the number may have belonged to another inode when the mark was taken.
  EXPECT_EQ(table.acquire_known(identity_of(stat("a")), before), nullptr);
  const InodePtr known = table.acquire_known(identity_of(stat("a")), table.next_node());
  ASSERT_NE(known, nullptr);
  EXPECT_EQ(known->node(), node);
  table.forget(node, 1);
  EXPECT_NE(table.find(node), nullptr);
}

TEST_F(InodeTableTest, AcquireAgain_OfForgottenInode_IsRefused) {
  make_file("a");
  const InodePtr inode = acquire("a");
  EXPECT_TRUE(table.acquire_again(inode));
  table.forget(inode->node(), 2);
  EXPECT_FALSE(table.acquire_again(inode));
  EXPECT_EQ(table.find(inode->node()), nullptr);
}

TEST_F(InodeTableTest, Clear_TakesOutEverything_AndNumbersGoOn) {
  make_file("a");
  const InodePtr held = acquire("a");
  table.clear();
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(table.find(kRootNode), nullptr);
  EXPECT_EQ(table.find(held->node()), nullptr);
  EXPECT_FALSE(table.acquire_again(held));
  EXPECT_GT(acquire("a")->node(), held->node());
}

TEST_F(InodeTableTest, Acquire_SameNumberOtherHandle_IsAnotherInode) {
  make_file("a");
  make_file("b");
  auto first = HostHandle::of(path_fd("a").get());
  auto second = HostHandle::of(path_fd("b").get());
  auto again = HostHandle::of(path_fd("a").get());
  if (!first) GTEST_SKIP() << "no file handles on " << directory.path();
  // What the host does when it gives a's inode number to b: the handle alone tells them apart.
  const NodeId node = table.acquire(stat("a"), std::move(*first))->node();
  EXPECT_NE(table.acquire(stat("a"), std::move(*second))->node(), node);
  EXPECT_EQ(table.acquire(stat("a"), std::move(*again))->node(), node);
}

TEST_F(InodeTableTest, Inode_IsSmall) { EXPECT_LE(sizeof(Inode), 64u); }

// Lookups against forgets of the same few inodes: each thread must find every node that it has a lookup of,
// under the number it was given, and nothing may be left in the end.
TEST_F(InodeTableTest, Race_OfLookupAndForget_LosesNoNodeAndLeavesNone) {
  constexpr int kFiles = 3;
  constexpr int kThreads = 4;
  constexpr int kRounds = 20000;
  std::vector<struct statx> stats;
  for (int i = 0; i < kFiles; ++i) {
    make_file(std::to_string(i));
    stats.push_back(stat(std::to_string(i)));
  }
  std::atomic<int> lost{0};
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < kRounds; ++round) {
        const auto& file = stats[static_cast<std::size_t>(round + t) % kFiles];
        InodePtr inode = table.acquire_known(identity_of(file), table.next_node());
        // Without a descriptor: this is about the table.
        if (!inode) inode = table.acquire(file, UniqueFd());
        const NodeId node = inode->node();
        if (table.find(node) != inode || inode->identity() != identity_of(file)) ++lost;
        if (round % 3 == 0 && table.acquire_again(inode)) table.forget(node, 1);
        if (table.find(node) != inode) ++lost;
        table.forget(node, 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(lost, 0);
  EXPECT_EQ(table.size(), 1u);
}

}  // namespace
}  // namespace fusewire::passthrough
