// Automatic mode: more known inodes than descriptors, through the protocol. The limit of descriptors is made
// small, so that a few hundred inodes do what a million does.
#include "passthrough/path_descriptors.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "passthrough/storage_kind.h"
#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::Answer;
using testing::Harness;
using testing::on_own_thread;
using testing::Request;
using testing::ScopedNofileLimit;
using testing::Share;

constexpr rlim_t kLimit = 160;  // 120 of them for the guest, and 60 for inodes
constexpr int kMany = 400;

std::size_t descriptors() {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    count += entry.exists() ? 1 : 0;
  return count;
}

std::string name_of(int i) { return "file" + std::to_string(i); }

void drop_capability_to_open_handles() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  ASSERT_EQ(::syscall(SYS_capget, &header, data), 0);
  data[0].effective &= ~(1u << CAP_DAC_READ_SEARCH);
  ASSERT_EQ(::syscall(SYS_capset, &header, data), 0);
}

class PathDescriptorsTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    FUSEWIRE_NEEDS_ROOT();
    const UniqueFd below(::open(GetParam(), O_PATH | O_CLOEXEC));
    if (!has_lasting_file_handles(below.get())) GTEST_SKIP() << "no lasting file handles in " << GetParam();
    limit = std::make_unique<ScopedNofileLimit>(kLimit);
    share = std::make_unique<Share>(Share::Adjust(), Harness::kAllCaps, GetParam());
  }
  void make_files(int count) const {
    for (int i = 0; i < count; ++i) share->write_host(name_of(i), name_of(i));
  }
  std::vector<NodeId> look_up_all(int count) const {
    std::vector<NodeId> nodes;
    for (int i = 0; i < count; ++i) nodes.push_back(share->node(name_of(i)));
    return nodes;
  }
  // What is known and not used loses its descriptor.
  void look_up_others() const {
    for (int i = 0; i < 200; ++i) {
      share->write_host("other" + std::to_string(i), "");
      share->node("other" + std::to_string(i));
    }
  }

  std::unique_ptr<ScopedNofileLimit> limit;
  std::unique_ptr<Share> share;
};

TEST_P(PathDescriptorsTest, MoreInodesThanDescriptors_AreAllThere) {
  make_files(kMany);
  const std::vector<NodeId> nodes = look_up_all(kMany);
  EXPECT_EQ(share->fs().known_inodes(), kMany + 1u);
  EXPECT_LE(descriptors(), 100u);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < kMany; ++i) {
      const NodeId node = nodes[static_cast<std::size_t>(i)];
      ASSERT_EQ(share->node(name_of(i)), node);
      const auto attr = share->getattr(node).as<fuse_attr_out>().attr;
      EXPECT_EQ(attr.ino, share->stat_host(name_of(i)).st_ino);
      const auto opened = share->open(node, O_RDWR);
      ASSERT_EQ(opened.error, 0);
      const auto handle = opened.as<fuse_open_out>().fh;
      EXPECT_EQ(share->read(node, handle, 0, 100).text(), name_of(i));
      EXPECT_EQ(share->release(node, handle).error, 0);
    }
  }
  EXPECT_LE(descriptors(), 100u);
}

TEST_P(PathDescriptorsTest, DirectoriesWithoutDescriptors_CanBeWorkedIn) {
  std::vector<NodeId> nodes;
  for (int i = 0; i < kMany; ++i) {
    const Answer made = share->mkdir("d" + std::to_string(i), 0755);
    ASSERT_EQ(made.error, 0);
    nodes.emplace_back(made.as<fuse_entry_out>().nodeid);
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Answer made = share->create("a", O_RDWR | O_CREAT, 0644, {}, 0, nodes[i]);
    ASSERT_EQ(made.error, 0);
    const auto created = made.as<CreateOut>();
    ASSERT_EQ(share->release(NodeId{created.entry.nodeid}, created.open.fh).error, 0);
    ASSERT_EQ(share->symlink("s", "target", nodes[i]).error, 0);
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const NodeId next = nodes[(i + 1) % nodes.size()];
    ASSERT_EQ(share->rename2("a", "b", 0, nodes[i], next).error, 0);
    const NodeId moved = share->node("b", next);
    ASSERT_EQ(share->link(moved, "c", next).as<fuse_entry_out>().nodeid, moved.get());
    EXPECT_EQ(share->node("..", next), kRootNode);
    EXPECT_EQ(share->node("c", next), moved);
    EXPECT_EQ(share->send(Request(FUSE_READLINK, share->node("s", next))).text(), "target");
    ASSERT_EQ(share->unlink("b", next).error, 0);
  }
  EXPECT_LE(descriptors(), 100u);
}

TEST_P(PathDescriptorsTest, ReusedNumber_IsAnotherNode) {
  share->write_host("a", "old");
  const NodeId old = share->node("a");
  const ino_t number = share->stat_host("a").st_ino;
  look_up_others();
  // The host gives the number away again, if it is a file system that does.
  std::filesystem::remove(share->host("a"));
  for (int i = 0; i < 50 && !std::filesystem::exists(share->host("a")); ++i) {
    const std::string name = "try" + std::to_string(i);
    share->write_host(name, "young");
    if (share->stat_host(name).st_ino == number) std::filesystem::rename(share->host(name), share->host("a"));
  }
  EXPECT_EQ(share->getattr(old).error, ESTALE);
  EXPECT_EQ(share->open(old, O_RDONLY).error, ESTALE);
  if (!std::filesystem::exists(share->host("a"))) GTEST_SKIP() << "numbers are not reused at once";
  const NodeId young = share->node("a");
  EXPECT_NE(young, old);
  EXPECT_EQ(share->node("a"), young);
  EXPECT_EQ(share->getattr(young).as<fuse_attr_out>().attr.size, 5u);
  EXPECT_EQ(share->getattr(old).error, ESTALE);
  share->forget(old);
  EXPECT_EQ(share->getattr(young).error, 0);
  EXPECT_EQ(share->node("a"), young);
}

TEST_P(PathDescriptorsTest, FileWithoutANameLeft_KeepsItsDescriptor) {
  share->write_host("a", "text");
  const NodeId node = share->node("a");
  std::filesystem::remove(share->host("a"));
  look_up_others();
  EXPECT_EQ(share->getattr(node).as<fuse_attr_out>().attr.nlink, 0u);
  EXPECT_EQ(share->open(node, O_RDONLY).error, 0);
}

TEST_P(PathDescriptorsTest, OpenFileWithoutANameLeft_KeepsWorking) {
  const auto made = share->create("a", O_RDWR | O_CREAT, 0600).as<CreateOut>();
  const NodeId node{made.entry.nodeid};
  look_up_others();
  ASSERT_EQ(share->unlink("a").error, 0);
  EXPECT_EQ(share->getattr(node).as<fuse_attr_out>().attr.nlink, 0u);
  fuse_setattr_in in{};
  in.valid = FATTR_SIZE;
  in.size = 7;
  EXPECT_EQ(share->setattr(node, in).as<fuse_attr_out>().attr.size, 7u);
}

TEST_P(PathDescriptorsTest, TmpfileWithoutAName_CanBeGivenOne) {
  const Answer answer = share->send(
      Request(FUSE_TMPFILE)
          .arg(fuse_create_in{.flags = O_RDWR, .mode = S_IFREG | 0600, .umask = 0, .open_flags = 0})
          .name("x"));
  if (answer.error == EOPNOTSUPP) GTEST_SKIP() << "no O_TMPFILE";
  const auto made = answer.as<CreateOut>();
  look_up_others();
  EXPECT_EQ(share->link(NodeId{made.entry.nodeid}, "named").error, 0);
  EXPECT_EQ(share->node("named"), NodeId{made.entry.nodeid});
}

TEST_P(PathDescriptorsTest, OpenFiles_TakeAllThatIsLeft_AndNamesGoOn) {
  make_files(kMany);
  const NodeId node = share->node(name_of(0));
  std::vector<std::uint64_t> handles;
  Answer answer;
  for (int i = 0; i < kMany; ++i) {
    answer = share->open(node, O_RDONLY);
    if (answer.error != 0) break;
    handles.push_back(answer.as<fuse_open_out>().fh);
  }
  EXPECT_EQ(answer.error, ENFILE);
  EXPECT_GE(handles.size(), 50u);
  // Nothing is left for inodes now, but they do not need any.
  const std::vector<NodeId> nodes = look_up_all(kMany);
  for (const NodeId each : nodes) EXPECT_EQ(share->getattr(each).error, 0);
  EXPECT_EQ(share->mkdir("d", 0700).error, 0);
  EXPECT_EQ(share->create("c", O_RDWR | O_CREAT, 0600).error, ENFILE);
  EXPECT_FALSE(std::filesystem::exists(share->host("c")));
  for (const std::uint64_t handle : handles) EXPECT_EQ(share->release(node, handle).error, 0);
  EXPECT_EQ(share->create("c", O_RDWR | O_CREAT, 0600).error, 0);
}

TEST_P(PathDescriptorsTest, CreatedFile_GetsItsDescriptorWithTheNextLookup) {
  const auto before = descriptors();
  const auto made = share->create("a", O_RDWR | O_CREAT, 0600).as<CreateOut>();
  EXPECT_EQ(descriptors(), before + 1);
  const NodeId node{made.entry.nodeid};
  EXPECT_EQ(share->release(node, made.open.fh).error, 0);
  EXPECT_EQ(descriptors(), before);
  for (int round = 0; round < 3; ++round) EXPECT_EQ(share->node("a"), node);
  EXPECT_EQ(descriptors(), before + 1);
}

TEST_P(PathDescriptorsTest, Forgotten_GivesDescriptorsBack) {
  make_files(kMany);
  const auto before = descriptors();
  for (const NodeId node : look_up_all(kMany)) share->forget(node);
  EXPECT_EQ(descriptors(), before);
  EXPECT_EQ(share->fs().known_inodes(), 1u);
}

// Descriptors are closed and opened again while requests use them: each answer has to be about the right
// inode, and none may fail.
TEST_P(PathDescriptorsTest, UnderLoad_EveryAnswerIsRight) {
  make_files(kMany);
  const std::vector<NodeId> nodes = look_up_all(kMany);
  std::vector<std::uint64_t> numbers;
  for (int i = 0; i < kMany; ++i) numbers.push_back(share->stat_host(name_of(i)).st_ino);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned round = 0; round < 4000; ++round) {
        const auto i = static_cast<std::size_t>((round * (7 + 2 * t)) % kMany);
        if (share->getattr(nodes[i]).as<fuse_attr_out>().attr.ino != numbers[i]) ++wrong;
        if (round % 4 != 0) continue;
        const auto entry = share->lookup(name_of(static_cast<int>(i))).as<fuse_entry_out>();
        if (entry.nodeid != nodes[i].get() || entry.attr.ino != numbers[i]) ++wrong;
        share->forget(nodes[i]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(share->fs().known_inodes(), kMany + 1u);
  EXPECT_LE(descriptors(), 110u);
}

// The host replaces files under the names that the guest looks up, so that numbers are used again all the
// time. Each inode has a size of its own before it gets its name: a node must never come with two sizes, nor
// a size that is there come with two nodes at once.
TEST_P(PathDescriptorsTest, HostReplacesFiles_OneNodeIsOneInode) {
  constexpr int kNames = 4;
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::map<std::uint64_t, std::uint64_t> size_of_node;
  int contradictions = 0;
  look_up_others();
  std::thread host([&] {
    for (int size = 1; size <= 2000; ++size) {
      const std::string name = share->host("n" + std::to_string(size % kNames));
      const UniqueFd made(::open((name + ".new").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
      ASSERT_EQ(::ftruncate(made.get(), size), 0);
      ::unlink(name.c_str());
      std::filesystem::rename(name + ".new", name);
    }
    stop = true;
  });
  std::vector<std::thread> guests;
  guests.reserve(2);
  for (int t = 0; t < 2; ++t) {
    guests.emplace_back([&, t] {
      for (int round = t; !stop; ++round) {
        const Answer answer = share->lookup("n" + std::to_string(round % kNames));
        if (answer.error != 0) {
          EXPECT_EQ(answer.error, ENOENT);
          continue;
        }
        const auto entry = answer.as<fuse_entry_out>();
        const Answer again = share->getattr(NodeId{entry.nodeid});
        // ENOMEM: see HostHandle::open().
        EXPECT_TRUE(again.error == 0 || again.error == ESTALE || again.error == ENOMEM) << again.error;
        const std::lock_guard lock(mutex);
        if (size_of_node.emplace(entry.nodeid, entry.attr.size).first->second != entry.attr.size)
          ++contradictions;
        if (again.error == 0 && again.as<fuse_attr_out>().attr.size != entry.attr.size) ++contradictions;
      }
    });
  }
  host.join();
  for (std::thread& guest : guests) guest.join();
  EXPECT_EQ(contradictions, 0);
  EXPECT_GT(size_of_node.size(), 10u);
}

INSTANTIATE_TEST_SUITE_P(FileSystems, PathDescriptorsTest, ::testing::Values("/tmp", "/dev/shm"));

// As in a user namespace: handles can be had, but not opened.
TEST(PathDescriptors, WithoutTheCapability_DescriptorsAreAllThereIs) {
  FUSEWIRE_NEEDS_ROOT();
  const ScopedNofileLimit limit(kLimit);
  on_own_thread([] {
    drop_capability_to_open_handles();
    Share share;
    std::vector<NodeId> nodes;
    Answer answer;
    for (int i = 0; i < kMany; ++i) {
      share.write_host(name_of(i), name_of(i));
      answer = share.lookup(name_of(i));
      if (answer.error != 0) break;
      nodes.emplace_back(answer.as<fuse_entry_out>().nodeid);
    }
    EXPECT_EQ(answer.error, ENFILE);
    EXPECT_GT(nodes.size(), 60u);
    for (std::size_t i = 0; i < nodes.size(); ++i)
      EXPECT_EQ(share.getattr(nodes[i]).as<fuse_attr_out>().attr.size, name_of(static_cast<int>(i)).size());
    EXPECT_EQ(share.mkdir("d", 0700).error, ENFILE);
    EXPECT_FALSE(std::filesystem::exists(share.host("d")));
    for (const NodeId node : nodes) share.forget(node);
    EXPECT_EQ(share.lookup(name_of(0)).error, 0);
  });
}

}  // namespace
}  // namespace fusewire::passthrough
