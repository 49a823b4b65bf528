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
  InodeTableTest() { insert_root(); }

  void insert_root() {
    UniqueFd root = path_fd("");
    const auto stat = *stat_of(root.get());
    EXPECT_TRUE(table.insert_root(stat, reach(stat, std::move(root))));
  }
  UniqueFd path_fd(const std::string& name) const {
    UniqueFd fd(::open((directory.path() / name).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    EXPECT_TRUE(fd) << name;
    return fd;
  }
  void make_file(const std::string& name) const { std::ofstream(directory.path() / name) << name; }
  struct statx stat(const std::string& name) const { return *stat_of(path_fd(name).get()); }
  HostHandle handle(const std::string& name) const { return *HostHandle::of(path_fd(name).get()); }

  InodeTable::Reach reach(const struct statx& stat, UniqueFd fd) {
    return {.mount = mounts.of(stat.stx_mnt_id), .path_fd = std::move(fd), .handle = {}};
  }
  InodeTable::Reach reach(const struct statx& stat, const HostHandle& handle) {
    return {.mount = mounts.of(stat.stx_mnt_id), .path_fd = {}, .handle = handle};
  }
  InodePtr acquire(const struct statx& stat, InodeTable::Reach reach) {
    auto acquired = table.acquire(stat, reach);
    EXPECT_TRUE(acquired);
    return acquired ? std::move(acquired->inode) : InodePtr();
  }
  InodePtr acquire(const std::string& name) {
    UniqueFd fd = path_fd(name);
    const auto stat = *stat_of(fd.get());
    return acquire(stat, reach(stat, std::move(fd)));
  }
  InodePtr acquire_by_handle(const std::string& name) {
    return acquire(stat(name), reach(stat(name), handle(name)));
  }

  testing::TemporaryDirectory directory;
  MountTable mounts;
  InodeTable table;
};

TEST_F(InodeTableTest, Acquire_SameInodeTwice_IsOneNodeWithTwoLookups) {
  make_file("a");
  const NodeId node = acquire("a")->node();
  EXPECT_EQ(node, NodeId{2});
  EXPECT_EQ(acquire("a")->node(), node);
  EXPECT_EQ(table.size(), 2u);
  table.forget(node, 1);
  EXPECT_TRUE(table.find(node));
  table.forget(node, 1);
  EXPECT_FALSE(table.find(node));
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(InodeTableTest, Acquire_HardLink_IsTheSameNode) {
  make_file("a");
  std::filesystem::create_hard_link(directory.path() / "a", directory.path() / "b");
  EXPECT_EQ(acquire("a"), acquire("b"));
  EXPECT_EQ(acquire_by_handle("b"), acquire("a"));
}

TEST_F(InodeTableTest, Acquire_AfterForget_GivesANewNumber) {
  make_file("a");
  std::vector<NodeId> nodes;
  for (int round = 0; round < 100; ++round) {
    const NodeId node = acquire("a")->node();
    EXPECT_EQ(std::ranges::count(nodes, node), 0);
    for (const NodeId before : nodes) EXPECT_FALSE(table.find(before));
    nodes.push_back(node);
    table.forget(node, 1);
  }
}

TEST_F(InodeTableTest, Forget_MoreThanThereAre_ForgetsAll) {
  make_file("a");
  const NodeId node = acquire("a")->node();
  table.forget(node, UINT64_MAX);
  EXPECT_FALSE(table.find(node));
  table.forget(node, UINT64_MAX);
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(InodeTableTest, Forget_Nothing_ChangesNothing) {
  make_file("a");
  const NodeId node = acquire("a")->node();
  table.forget(node, 0);
  EXPECT_TRUE(table.find(node));
}

TEST_F(InodeTableTest, Forget_ClosesTheDescriptorWithTheLastHolder) {
  make_file("a");
  InodePtr inode = acquire("a");
  const int fd = inode->held_fd();
  table.forget(inode->node(), 1);
  EXPECT_GE(::fcntl(fd, F_GETFD), 0);
  inode = nullptr;
  EXPECT_LT(::fcntl(fd, F_GETFD), 0);
}

TEST_F(InodeTableTest, Find_NumbersThatNeverWere_FindNothing) {
  make_file("a");
  const std::uint64_t node = acquire("a")->node().get();
  for (const std::uint64_t wrong :
       {std::uint64_t{0}, node + 1, node + (std::uint64_t{1} << 32), std::uint64_t{InodeSlab::kPlaces},
        ~std::uint64_t{0}, ~std::uint64_t{0} >> 32}) {
    EXPECT_FALSE(table.find(NodeId{wrong})) << wrong;
    table.forget(NodeId{wrong}, 1);
  }
  table.forget(kRootNode, UINT64_MAX);
  EXPECT_TRUE(table.find(kRootNode));
  EXPECT_EQ(table.size(), 2u);
}

TEST_F(InodeTableTest, FindKnown_UnknownInode_ChangesNothing) {
  make_file("a");
  EXPECT_FALSE(table.find_known(identity_of(stat("a")), table.now()).inode);
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(InodeTableTest, FindKnown_OnlyInodesEnteredBefore) {
  make_file("a");
  const auto before = table.now();
  const NodeId node = acquire("a")->node();
  // Entered after the mark: the number may have belonged to another inode when the mark was taken.
  EXPECT_FALSE(table.find_known(identity_of(stat("a")), before).inode);
  const auto known = table.find_known(identity_of(stat("a")), table.now());
  ASSERT_TRUE(known.inode);
  EXPECT_TRUE(known.counted);
  EXPECT_EQ(known.inode->node(), node);
  table.forget(node, 1);
  EXPECT_TRUE(table.find(node));
}

TEST_F(InodeTableTest, FindKnown_HeldByHandle_LeavesTheCountToWhoHasComparedIt) {
  make_file("a");
  const NodeId node = acquire_by_handle("a")->node();
  const auto known = table.find_known(identity_of(stat("a")), table.now());
  ASSERT_TRUE(known.inode);
  EXPECT_FALSE(known.counted);
  EXPECT_EQ(known.inode->handle(), handle("a"));
  EXPECT_TRUE(table.acquire_again(known.inode));
  table.forget(node, 1);
  EXPECT_TRUE(table.find(node));
  table.forget(node, 1);
  EXPECT_FALSE(table.find(node));
}

TEST_F(InodeTableTest, AcquireAgain_OfForgottenInode_IsRefused) {
  make_file("a");
  const InodePtr inode = acquire("a");
  EXPECT_TRUE(table.acquire_again(inode));
  table.forget(inode->node(), 2);
  EXPECT_FALSE(table.acquire_again(inode));
  EXPECT_FALSE(table.find(inode->node()));
}

TEST_F(InodeTableTest, Clear_TakesOutEverything_AndNumbersAreNotUsedAgain) {
  make_file("a");
  make_file("b");
  const InodePtr held = acquire("a");
  const NodeId b = acquire_by_handle("b")->node();
  table.clear();
  EXPECT_EQ(table.size(), 0u);
  EXPECT_FALSE(table.find(kRootNode));
  EXPECT_FALSE(table.find(held->node()));
  EXPECT_FALSE(table.acquire_again(held));
  insert_root();
  EXPECT_EQ(table.find(kRootNode)->node(), kRootNode);
  const NodeId again = acquire("a")->node();
  EXPECT_NE(again, held->node());
  EXPECT_NE(again, b);
}

TEST_F(InodeTableTest, Clear_WithTheRootInUse_RefusesTheNextRoot) {
  const InodePtr root = table.find(kRootNode);
  table.clear();
  UniqueFd fd = path_fd("");
  const auto stat = *stat_of(fd.get());
  const auto inserted = table.insert_root(stat, reach(stat, std::move(fd)));
  EXPECT_EQ(inserted, std::unexpected(Errno{EBUSY}));
}

TEST_F(InodeTableTest, Acquire_HeldByHandle_AsksForTheHandle) {
  make_file("a");
  const InodePtr first = acquire_by_handle("a");
  EXPECT_FALSE(acquire("a"));
  EXPECT_EQ(acquire_by_handle("a"), first);
}

// What the host does when it gives a's inode number to b: the handle alone tells them apart.
TEST_F(InodeTableTest, Acquire_SameNumberOtherHandle_TakesThePlaceOfTheOld) {
  make_file("a");
  make_file("b");
  const auto stat_a = stat("a");
  const InodePtr old = acquire_by_handle("a");
  const InodePtr young = acquire(stat_a, reach(stat_a, handle("b")));
  EXPECT_NE(young->node(), old->node());
  EXPECT_EQ(table.size(), 3u);
  // The old one keeps its node until the guest forgets it; the identity means the young one.
  EXPECT_EQ(table.find(old->node()), old);
  EXPECT_EQ(table.find_known(identity_of(stat_a), table.now()).inode, young);
  EXPECT_EQ(acquire(stat_a, reach(stat_a, handle("b"))), young);
  table.forget(old->node(), 1);
  EXPECT_FALSE(table.find(old->node()));
  EXPECT_EQ(table.find_known(identity_of(stat_a), table.now()).inode, young);
  table.forget(young->node(), 2);
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(InodeTableTest, Clear_TakesOutWhatHasLostItsNumberToo) {
  make_file("a");
  make_file("b");
  const auto stat_a = stat("a");
  const NodeId old = acquire_by_handle("a")->node();
  acquire(stat_a, reach(stat_a, handle("b")));
  table.clear();
  EXPECT_FALSE(table.find(old));
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(InodeTableTest, StoredHandle_KeepsShortAndLongOnes) {
  for (std::size_t size = 1; size <= MAX_HANDLE_SZ; ++size) {
    std::vector<std::byte> bytes(size, std::byte{7});
    const HostHandle handle(0x81, bytes);
    bytes.back() = std::byte{8};
    StoredHandle stored;
    EXPECT_TRUE(stored.empty());
    ASSERT_TRUE(stored.store(handle));
    EXPECT_FALSE(stored.empty());
    EXPECT_EQ(stored.load(), handle);
    EXPECT_TRUE(stored.holds(handle));
    EXPECT_FALSE(stored.holds(HostHandle(0x81, bytes)));
    EXPECT_FALSE(stored.holds(HostHandle(1, handle.bytes())));
    stored.clear();
    EXPECT_TRUE(stored.empty());
  }
}

// More inodes than a chunk has places for, so that memory goes back and is used again.
TEST_F(InodeTableTest, ManyInodes_ComeAndGo_WithoutANumberTwice) {
  make_file("a");
  const HostHandle any = handle("a");
  struct statx stat = this->stat("a");
  constexpr std::uint64_t kMany = 3 * InodeSlab::kPlaces;
  std::vector<NodeId> last;
  for (int round = 0; round < 3; ++round) {
    std::vector<NodeId> nodes;
    for (std::uint64_t i = 0; i < kMany; ++i) {
      stat.stx_ino = i + 100;
      nodes.push_back(acquire(stat, reach(stat, any))->node());
    }
    EXPECT_EQ(table.size(), kMany + 1);
    for (const NodeId node : last) ASSERT_FALSE(table.find(node));
    for (std::uint64_t i = 0; i < kMany; ++i) {
      const InodePtr inode = table.find(nodes[i]);
      ASSERT_TRUE(inode);
      ASSERT_EQ(inode->identity().ino, i + 100);
    }
    for (const NodeId node : nodes) table.forget(node, 1);
    EXPECT_EQ(table.size(), 1u);
    last = std::move(nodes);
  }
}

// Lookups against forgets of the same few inodes: each thread must find every node that it has a lookup of,
// under the number it was given, and nothing may be left in the end.
TEST_F(InodeTableTest, Race_OfLookupAndForget_LosesNoNodeAndLeavesNone) {
  constexpr int kFiles = 3;
  constexpr int kThreads = 4;
  constexpr int kRounds = 20000;
  std::vector<struct statx> stats;
  std::vector<HostHandle> handles;
  for (int i = 0; i < kFiles; ++i) {
    make_file(std::to_string(i));
    stats.push_back(stat(std::to_string(i)));
    handles.push_back(handle(std::to_string(i)));
  }
  std::atomic<int> lost{0};
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < kRounds; ++round) {
        const auto which = static_cast<std::size_t>(round + t) % kFiles;
        const auto& file = stats[which];
        InodePtr inode = table.find_known(identity_of(file), table.now()).inode;
        if (!inode || !table.acquire_again(inode)) inode = acquire(file, reach(file, handles[which]));
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
