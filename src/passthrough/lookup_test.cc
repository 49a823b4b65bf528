// LOOKUP and FORGET through the protocol: nodes, their counts, and that no name leads out of the share.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <atomic>
#include <thread>

#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::Answer;
using testing::Harness;
using testing::on_own_thread;
using testing::Request;
using testing::Share;
using testing::TemporaryDirectory;

constexpr std::uint64_t bit(Cap cap) { return static_cast<std::uint64_t>(cap); }

TEST(Lookup, ExistingFile_RepliesEntryWithHostsAttributes) {
  Share share;
  share.write_host("a", "hello");
  ASSERT_EQ(::chmod(share.host("a").c_str(), 0640), 0);
  const Answer answer = share.lookup("a");
  ASSERT_EQ(answer.error, 0);
  const auto entry = answer.as<fuse_entry_out>();
  const struct stat stat = share.stat_host("a");
  EXPECT_EQ(entry.nodeid, 2u);
  EXPECT_NE(entry.generation, 0u);
  EXPECT_EQ(entry.entry_valid, 1u);
  EXPECT_EQ(entry.attr_valid, 1u);
  EXPECT_EQ(entry.attr.ino, stat.st_ino);
  EXPECT_EQ(entry.attr.size, 5u);
  EXPECT_EQ(entry.attr.mode, S_IFREG | 0640u);
  EXPECT_EQ(entry.attr.nlink, 1u);
  EXPECT_EQ(entry.attr.uid, stat.st_uid);
  EXPECT_EQ(entry.attr.gid, stat.st_gid);
  EXPECT_EQ(entry.attr.mtime, static_cast<std::uint64_t>(stat.st_mtim.tv_sec));
  EXPECT_EQ(entry.attr.mtimensec, static_cast<std::uint32_t>(stat.st_mtim.tv_nsec));
  EXPECT_EQ(entry.attr.blksize, static_cast<std::uint32_t>(stat.st_blksize));
  EXPECT_EQ(entry.attr.flags, 0u);
}

TEST(Lookup, MissingName_IsEnoent) {
  Share share;
  EXPECT_EQ(share.lookup("a").error, ENOENT);
  EXPECT_EQ(share.fs().known_inodes(), 1u);
}

TEST(Lookup, OverlongName_IsEnametoolong) {
  Share share;
  EXPECT_EQ(share.lookup(std::string(256, 'a')).error, ENAMETOOLONG);
}

TEST(Lookup, BelowAFile_IsEnotdir) {
  Share share;
  share.write_host("a", "");
  EXPECT_EQ(share.lookup("b", share.node("a")).error, ENOTDIR);
}

TEST(Lookup, BelowANodeThatNeverWas_IsEstale) {
  Share share;
  EXPECT_EQ(share.lookup("a", NodeId{99}).error, ESTALE);
  EXPECT_EQ(share.lookup("a", NodeId{0}).error, ESTALE);
  EXPECT_EQ(share.getattr(NodeId{UINT64_MAX}).error, ESTALE);
}

TEST(Lookup, HardLinks_AreOneNode) {
  Share share;
  share.write_host("a", "");
  std::filesystem::create_hard_link(share.host("a"), share.host("b"));
  EXPECT_EQ(share.node("a"), share.node("b"));
  EXPECT_EQ(share.fs().known_inodes(), 2u);
}

TEST(Lookup, EachLookup_NeedsItsForget) {
  Share share;
  share.write_host("a", "");
  const NodeId node = share.node("a");
  EXPECT_EQ(share.node("a"), node);
  share.forget(node);
  EXPECT_EQ(share.getattr(node).error, 0);
  share.forget(node);
  EXPECT_EQ(share.getattr(node).error, ESTALE);
  EXPECT_EQ(share.fs().known_inodes(), 1u);
}

// Files that are all unknown are opened before they are asked about; what is known must be found all the
// same.
TEST(Lookup, AfterManyUnknownFiles_KnownOnesKeepTheirNodesAndCounts) {
  Share share;
  std::vector<NodeId> nodes;
  for (int i = 0; i < 20; ++i) {
    const std::string name = "file" + std::to_string(i);
    share.write_host(name, "");
    nodes.push_back(share.node(name));
  }
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(share.node("file" + std::to_string(i)), nodes[static_cast<std::size_t>(i)]);
  for (const NodeId node : nodes) {
    share.forget(node);
    EXPECT_EQ(share.getattr(node).error, 0);
    share.forget(node);
    EXPECT_EQ(share.getattr(node).error, ESTALE);
  }
}

TEST(Lookup, AfterManyUnknownFiles_MissingNameIsEnoent) {
  Share share;
  for (int i = 0; i < 20; ++i) {
    const std::string name = "file" + std::to_string(i);
    share.write_host(name, "");
    (void)share.node(name);
  }
  EXPECT_EQ(share.lookup("missing").error, ENOENT);
}

TEST(Lookup, BatchForget_ForgetsEachItem) {
  Share share;
  share.write_host("a", "");
  share.write_host("b", "");
  const NodeId a = share.node("a");
  const NodeId b = share.node("b");
  share.send(Request(FUSE_BATCH_FORGET, NodeId{0})
                 .arg(fuse_batch_forget_in{.count = 3, .dummy = 0})
                 .arg(fuse_forget_one{.nodeid = a.get(), .nlookup = 1})
                 .arg(fuse_forget_one{.nodeid = 77, .nlookup = 1})
                 .arg(fuse_forget_one{.nodeid = b.get(), .nlookup = 9}));
  EXPECT_EQ(share.fs().known_inodes(), 1u);
}

TEST(Lookup, NameThatMeansAnotherFileNow_IsAnotherNode) {
  Share share;
  share.write_host("a", "old");
  const NodeId old = share.node("a");
  share.write_host("b", "new");
  std::filesystem::rename(share.host("b"), share.host("a"));
  EXPECT_NE(share.node("a"), old);
  EXPECT_EQ(share.getattr(old).as<fuse_attr_out>().attr.nlink, 0u);
}

TEST(Lookup, Dot_IsTheNodeItself) {
  Share share;
  share.mkdir("d", 0755);
  share.write_host("a", "");
  const NodeId d = share.node("d");
  const NodeId a = share.node("a");
  EXPECT_EQ(share.node(".", d), d);
  EXPECT_EQ(share.node(".", a), a);
  EXPECT_EQ(share.node("."), kRootNode);
  EXPECT_EQ(share.lookup(".").as<fuse_entry_out>().generation, 0u);
}

TEST(Lookup, DotDot_GoesUpToTheRootAndNoFurther) {
  Share share;
  std::filesystem::create_directories(share.host("d/e"));
  const NodeId d = share.node("d");
  const NodeId e = share.node("e", d);
  EXPECT_EQ(share.node("..", e), d);
  EXPECT_EQ(share.node("..", d), kRootNode);
  EXPECT_EQ(share.node("..", kRootNode), kRootNode);
}

TEST(Lookup, DotDotOfADirectoryMovedOut_IsEstale) {
  Share share;
  const TemporaryDirectory outside;
  std::filesystem::create_directories(share.host("d/e"));
  const NodeId e = share.node("e", share.node("d"));
  std::filesystem::rename(share.host("d"), outside.path() / "d");
  EXPECT_EQ(share.lookup("..", e).error, ESTALE);
}

TEST(Lookup, SymbolicLink_IsNotFollowed) {
  Share share;
  share.symlink("s", "/etc");
  const Answer answer = share.lookup("s");
  EXPECT_EQ(answer.as<fuse_entry_out>().attr.mode & S_IFMT, static_cast<std::uint32_t>(S_IFLNK));
  EXPECT_EQ(share.lookup("passwd", NodeId{answer.as<fuse_entry_out>().nodeid}).error, ENOTDIR);
}

// The host's user swaps a directory and a link that leads out while the guest walks through the name.
TEST(Lookup, SymlinkSwapRace_NeverLeadsOut) {
  const TemporaryDirectory outside;
  std::ofstream(outside.path() / "secret") << "outside";
  Share share;
  std::filesystem::create_directory(share.host("x"));
  share.write_host("x/secret", "inside");
  std::filesystem::create_directory_symlink(outside.path(), share.host("y"));
  const ino_t inside = share.stat_host("x/secret").st_ino;
  std::atomic<bool> stop{false};
  std::thread swapper([&] {
    while (!stop)
      ::renameat2(AT_FDCWD, share.host("x").c_str(), AT_FDCWD, share.host("y").c_str(), RENAME_EXCHANGE);
  });
  int found = 0;
  for (int round = 0; round < 3000; ++round) {
    const Answer x = share.lookup("x");
    if (x.error != 0) continue;
    const Answer secret = share.lookup("secret", NodeId{x.as<fuse_entry_out>().nodeid});
    if (secret.error != 0) {
      EXPECT_EQ(secret.error, ENOTDIR);
      continue;
    }
    ++found;
    EXPECT_EQ(secret.as<fuse_entry_out>().attr.ino, inside);
  }
  stop = true;
  swapper.join();
  EXPECT_GT(found, 0);
}

TEST(Lookup, ManyThreads_CountsStayRight) {
  Share share;
  for (const char* name : {"a", "b"}) share.write_host(name, name);
  std::vector<std::thread> threads;
  threads.reserve(4);
  std::atomic<int> stale{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 3000; ++round) {
        const NodeId node{share.lookup(round % 2 == 0 ? "a" : "b").as<fuse_entry_out>().nodeid};
        if (share.getattr(node).error != 0) ++stale;
        share.forget(node);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(stale, 0);
  EXPECT_EQ(share.fs().known_inodes(), 1u);
}

TEST(Lookup, Timeouts_FollowCachePolicy) {
  const auto timeouts = [](CachePolicy policy, std::optional<double> timeout) {
    Share share([&](Config& config) {
      config.cache = policy;
      if (timeout) config.timeout = std::chrono::duration<double>(*timeout);
    });
    share.write_host("a", "");
    const auto entry = share.lookup("a").as<fuse_entry_out>();
    EXPECT_EQ(entry.entry_valid, entry.attr_valid);
    EXPECT_EQ(entry.entry_valid_nsec, entry.attr_valid_nsec);
    return std::pair(entry.entry_valid, entry.entry_valid_nsec);
  };
  using Time = std::pair<std::uint64_t, std::uint32_t>;
  EXPECT_EQ(timeouts(CachePolicy::never, {}), Time(0, 0));
  EXPECT_EQ(timeouts(CachePolicy::automatic, {}), Time(1, 0));
  EXPECT_EQ(timeouts(CachePolicy::metadata, {}), Time(86400, 0));
  EXPECT_EQ(timeouts(CachePolicy::always, {}), Time(86400, 0));
  EXPECT_EQ(timeouts(CachePolicy::always, 2.5), Time(2, 500'000'000));
  EXPECT_EQ(timeouts(CachePolicy::always, -1), Time(0, 0));
}

TEST(Destroy, ForgetsEverything_AndTheNextKernelStartsAnew) {
  Share share;
  share.write_host("a", "");
  const NodeId node = share.node("a");
  share.open(node, O_RDONLY);
  EXPECT_EQ(share.fs().open_files(), 1u);
  EXPECT_EQ(share.kernel().init().error, 0);  // the guest has rebooted
  EXPECT_EQ(share.fs().open_files(), 0u);
  EXPECT_EQ(share.fs().known_inodes(), 1u);
  EXPECT_EQ(share.getattr(node).error, ESTALE);
  EXPECT_EQ(share.getattr(kRootNode).error, 0);
  EXPECT_NE(share.node("a"), node);
}

// What a share with another file system mounted at "sub" shows of it, in a mount namespace of this thread.
struct Submount {
  bool permitted = false;
  std::uint32_t flags = 0;
  std::uint64_t ino_below = 0;
  NodeId node, root_entry;
  std::uint64_t blocks = 0;
};
Submount look_at_submount(bool announce, std::uint64_t caps) {
  Submount seen;
  on_own_thread([&] {
    const TemporaryDirectory parent;
    std::filesystem::create_directory(parent.path() / "sub");
    const std::string at = parent.path() / "sub";
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", at.c_str(), "tmpfs", 0, "size=1m") != 0)
      return;
    seen.permitted = true;
    std::ofstream(parent.path() / "sub/file") << "x";
    Config config;
    config.shared_directory = parent.path();
    config.announce_submounts = announce;
    auto fs = PassthroughFs::create(config);
    ASSERT_TRUE(fs);
    {
      Harness kernel(**fs);
      ASSERT_EQ(kernel.init(caps).error, 0);
      const auto sub = kernel.send(Request(FUSE_LOOKUP).name("sub")).as<fuse_entry_out>();
      seen.flags = sub.attr.flags;
      seen.node = NodeId{sub.nodeid};
      const auto file = kernel.send(Request(FUSE_LOOKUP, seen.node).name("file")).as<fuse_entry_out>();
      EXPECT_EQ(file.attr.flags, 0u);
      seen.root_entry =
          NodeId{kernel.send(Request(FUSE_LOOKUP, seen.node).name("..")).as<fuse_entry_out>().nodeid};
      seen.blocks = kernel.send(Request(FUSE_STATFS, seen.node)).as<fuse_statfs_out>().st.blocks;
    }
    fs->reset();
    ::umount2(at.c_str(), MNT_DETACH);
  });
  return seen;
}

TEST(Submount, Announced_DirectoryCarriesTheFlag) {
  const Submount seen = look_at_submount(true, Harness::kAllCaps);
  if (!seen.permitted) GTEST_SKIP() << "may not mount here";
  EXPECT_EQ(seen.flags, static_cast<std::uint32_t>(FUSE_ATTR_SUBMOUNT));
  EXPECT_EQ(seen.root_entry, kRootNode);
  EXPECT_EQ(seen.blocks, 256u);
}

TEST(Submount, NotAnnouncedOrNotUnderstood_HasNoFlag) {
  const Submount off = look_at_submount(false, Harness::kAllCaps);
  if (!off.permitted) GTEST_SKIP() << "may not mount here";
  EXPECT_EQ(off.flags, 0u);
  EXPECT_EQ(look_at_submount(true, Harness::kAllCaps & ~bit(Cap::submounts)).flags, 0u);
}

// Two mounts of one directory: the same device and inode numbers, but a guest that renames from one into the
// other must be told what the host would say.
TEST(Submount, SameInodeThroughTwoMounts_IsTwoNodes) {
  bool permitted = false;
  on_own_thread([&] {
    const TemporaryDirectory parent;
    for (const char* name : {"a", "b"}) std::filesystem::create_directory(parent.path() / name);
    const std::string a = parent.path() / "a";
    const std::string b = parent.path() / "b";
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount(a.c_str(), b.c_str(), nullptr, MS_BIND, nullptr) != 0)
      return;
    permitted = true;
    Config config;
    config.shared_directory = parent.path();
    auto fs = PassthroughFs::create(config);
    ASSERT_TRUE(fs);
    {
      Harness kernel(**fs);
      ASSERT_EQ(kernel.init().error, 0);
      const auto first = kernel.send(Request(FUSE_LOOKUP).name("a")).as<fuse_entry_out>();
      const auto second = kernel.send(Request(FUSE_LOOKUP).name("b")).as<fuse_entry_out>();
      EXPECT_EQ(first.attr.ino, second.attr.ino);
      EXPECT_NE(first.nodeid, second.nodeid);
    }
    fs->reset();
    ::umount2(b.c_str(), MNT_DETACH);
  });
  if (!permitted) GTEST_SKIP() << "may not mount here";
}

}  // namespace
}  // namespace fusewire::passthrough
