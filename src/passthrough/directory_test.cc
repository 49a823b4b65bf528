// OPENDIR, READDIR, READDIRPLUS, RELEASEDIR and FSYNCDIR through the session.
#include <dirent.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::Answer;
using testing::Request;
using testing::Share;

struct Entry {
  std::string name;
  std::uint64_t ino = 0;
  std::uint64_t next = 0;
  std::uint32_t type = 0;
  fuse_entry_out plus{};
};

// What is cut short comes out as zeros, which no test expects.
std::vector<Entry> parse(const Answer& answer, bool plus) {
  constexpr std::span<const std::byte> kNone;
  std::vector<Entry> entries;
  ByteReader reader(answer.body);
  while (reader.remaining() != 0) {
    Entry entry;
    if (plus) entry.plus = reader.read<fuse_entry_out>().value_or(fuse_entry_out{});
    const auto ino = reader.read<std::uint64_t>().value_or(0);
    const auto next = reader.read<std::uint64_t>().value_or(0);
    const auto name_size = reader.read<std::uint32_t>().value_or(0);
    const auto type = reader.read<std::uint32_t>().value_or(0);
    entry.ino = ino;
    entry.next = next;
    entry.type = type;
    entry.name = as_text(reader.take(name_size).value_or(kNone));
    const auto padding = reader.take((8 - name_size % 8) % 8).value_or(kNone);
    EXPECT_TRUE(std::ranges::all_of(padding, [](std::byte b) { return b == std::byte{0}; }));
    entries.push_back(entry);
  }
  return entries;
}

class DirectoryTest : public ::testing::Test {
 protected:
  explicit DirectoryTest(const std::string& below = "/tmp") : share_({}, testing::Harness::kAllCaps, below) {}
  std::uint64_t open(NodeId node = kRootNode) {
    const Answer answer = share_.send(Request(FUSE_OPENDIR, node).arg(fuse_open_in{}));
    EXPECT_EQ(answer.error, 0);
    return answer.as<fuse_open_out>().fh;
  }
  static Request request(std::uint32_t opcode, std::uint64_t handle, std::uint64_t offset, std::uint32_t size,
                         NodeId node = kRootNode) {
    fuse_read_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = size;
    return Request(opcode, node).arg(in);
  }
  Answer release(std::uint64_t handle) {
    return share_.send(
        Request(FUSE_RELEASEDIR)
            .arg(fuse_release_in{.fh = handle, .flags = 0, .release_flags = 0, .lock_owner = 0}));
  }
  // The whole directory, read in requests of `size` bytes.
  std::vector<Entry> read_all(std::uint32_t opcode, std::uint64_t handle, std::uint32_t size,
                              NodeId node = kRootNode) {
    std::vector<Entry> all;
    std::uint64_t offset = 0;
    for (;;) {
      const Answer answer = share_.send(request(opcode, handle, offset, size, node));
      EXPECT_EQ(answer.error, 0);
      EXPECT_LE(answer.body.size(), size);
      auto some = parse(answer, opcode == FUSE_READDIRPLUS);
      if (some.empty()) return all;
      offset = some.back().next;
      all.insert(all.end(), some.begin(), some.end());
    }
  }

  Share share_;
};

// On a file system in memory: making so many files takes long on a disk.
class BigDirectoryTest : public DirectoryTest {
 protected:
  BigDirectoryTest() : DirectoryTest("/dev/shm") {}
};

TEST_F(DirectoryTest, Readdir_ShowsNamesTypesAndNumbers) {
  share_.write_host("file", "x");
  ASSERT_EQ(::mkdir(share_.host("dir").c_str(), 0755), 0);
  ASSERT_EQ(::symlink("nowhere", share_.host("link").c_str()), 0);
  auto entries = read_all(FUSE_READDIR, open(), 4096);
  std::ranges::sort(entries, {}, &Entry::name);
  ASSERT_EQ(entries.size(), 5U);
  EXPECT_EQ(entries[0].name, ".");
  EXPECT_EQ(entries[1].name, "..");
  EXPECT_EQ(entries[2].name, "dir");
  EXPECT_EQ(entries[2].type, DT_DIR);
  EXPECT_EQ(entries[3].name, "file");
  EXPECT_EQ(entries[3].type, DT_REG);
  EXPECT_EQ(entries[3].ino, share_.stat_host("file").st_ino);
  EXPECT_EQ(entries[4].type, DT_LNK);
}

TEST_F(DirectoryTest, RootsParent_IsTheRoot_OthersParentsAreTheirs) {
  ASSERT_EQ(::mkdir(share_.host("dir").c_str(), 0755), 0);
  const auto root = share_.stat_host(".").st_ino;
  for (const std::uint32_t opcode : {FUSE_READDIR, FUSE_READDIRPLUS}) {
    for (const Entry& entry : read_all(opcode, open(), 4096)) {
      if (entry.name == "." || entry.name == "..") {
        EXPECT_EQ(entry.ino, root) << entry.name;
      }
    }
    const NodeId dir = share_.node("dir");
    for (const Entry& entry : read_all(opcode, open(dir), 4096, dir)) {
      EXPECT_EQ(entry.ino, entry.name == ".." ? root : share_.stat_host("dir").st_ino);
    }
  }
}

TEST_F(BigDirectoryTest, TwentyThousandEntries_AllComeOnce_InSmallAndLargeReplies) {
  const NodeId node = [this] {
    std::filesystem::create_directory(share_.host("big"));
    return share_.node("big");
  }();
  for (int i = 0; i < 20000; ++i) share_.write_host("big/" + std::to_string(i), "");
  const std::uint64_t handle = open(node);
  for (const std::uint32_t size : {1000U, 4096U, 65536U}) {
    const auto entries = read_all(FUSE_READDIR, handle, size, node);
    std::set<std::string> names;
    for (const Entry& entry : entries) names.insert(entry.name);
    EXPECT_EQ(entries.size(), 20002U);
    EXPECT_EQ(names.size(), 20002U);
  }
}

TEST_F(DirectoryTest, TinyReplies_HoldOneEntryEach_OneTooSmallIsEinvalAndLosesNothing) {
  share_.write_host("a-name-of-20-letters", "");
  const std::uint64_t handle = open();
  const Answer refused = share_.send(request(FUSE_READDIR, handle, 0, 24));
  EXPECT_EQ(refused.error, EINVAL);
  EXPECT_EQ(read_all(FUSE_READDIR, handle, 48).size(), 3U);
  EXPECT_EQ(share_.send(request(FUSE_READDIRPLUS, handle, 0, 152)).error, EINVAL);
  EXPECT_EQ(read_all(FUSE_READDIRPLUS, handle, 176).size(), 3U);
}

TEST_F(DirectoryTest, RoomCutInOddPieces_HoldsTheSameBytes) {
  for (int i = 0; i < 50; ++i) share_.write_host("name" + std::to_string(i), "");
  const std::uint64_t handle = open();
  const Answer whole = share_.send(request(FUSE_READDIR, handle, 0, 4096));
  const Answer pieces = share_.send(request(FUSE_READDIR, handle, 0, 4096).pieces(7));
  EXPECT_EQ(whole.body, pieces.body);
  EXPECT_FALSE(whole.body.empty());
}

TEST_F(DirectoryTest, OldOffset_ReadsOnFromThere) {
  for (int i = 0; i < 300; ++i) share_.write_host("name" + std::to_string(i), "");
  const std::uint64_t handle = open();
  const auto all = read_all(FUSE_READDIR, handle, 4096);
  for (const std::size_t at : {0U, 17U, 250U, 100U}) {
    const auto on = parse(share_.send(request(FUSE_READDIR, handle, all[at].next, 4096)), false);
    ASSERT_FALSE(on.empty());
    EXPECT_EQ(on[0].name, all[at + 1].name);
  }
}

TEST_F(DirectoryTest, EntriesRemovedByTheReader_TheOthersAllCome) {
  for (int i = 0; i < 1000; ++i) share_.write_host("name" + std::to_string(i), "");
  const std::uint64_t handle = open();
  std::set<std::string> seen;
  std::uint64_t offset = 0;
  for (;;) {
    const auto some = parse(share_.send(request(FUSE_READDIR, handle, offset, 200)), false);
    if (some.empty()) break;
    offset = some.back().next;
    for (const Entry& entry : some) {
      EXPECT_TRUE(seen.insert(entry.name).second);
      if (entry.name.starts_with("name")) {
        EXPECT_EQ(share_.unlink(entry.name).error, 0);
      }
    }
  }
  EXPECT_EQ(seen.size(), 1002U);
}

TEST_F(DirectoryTest, Readdirplus_CountsALookupForEachEntryButTheDots) {
  for (int i = 0; i < 10; ++i)
    share_.write_host("name" + std::to_string(i), std::string(static_cast<std::size_t>(i), 'x'));
  const std::size_t before = share_.fs().known_inodes();
  const auto entries = read_all(FUSE_READDIRPLUS, open(), 4096);
  ASSERT_EQ(entries.size(), 12U);
  EXPECT_EQ(share_.fs().known_inodes(), before + 10);
  for (const Entry& entry : entries) {
    if (entry.name == "." || entry.name == "..") {
      EXPECT_EQ(entry.plus.nodeid, 0U);
      continue;
    }
    EXPECT_EQ(entry.plus.attr.ino, entry.ino);
    EXPECT_EQ(entry.plus.attr.size, std::stoul(entry.name.substr(4)));
    EXPECT_EQ(share_.getattr(NodeId{entry.plus.nodeid}).error, 0);
    share_.forget(NodeId{entry.plus.nodeid});
  }
  EXPECT_EQ(share_.fs().known_inodes(), before);
}

TEST_F(DirectoryTest, Readdirplus_EntriesThatDoNotFit_AreNotLookedUp) {
  for (int i = 0; i < 100; ++i) share_.write_host("name" + std::to_string(i), "");
  const std::size_t before = share_.fs().known_inodes();
  const auto entries = parse(share_.send(request(FUSE_READDIRPLUS, open(), 0, 1000)), true);
  std::size_t looked_up = 0;
  for (const Entry& entry : entries) looked_up += entry.plus.nodeid != 0 ? 1 : 0;
  EXPECT_GT(looked_up, 0U);
  EXPECT_EQ(share_.fs().known_inodes(), before + looked_up);
}

TEST_F(DirectoryTest, Readdirplus_EntriesRemovedSinceTheyWereRead_AreSkipped) {
  for (int i = 0; i < 100; ++i) share_.write_host("name" + std::to_string(i), "");
  const std::uint64_t handle = open();
  const auto first = parse(share_.send(request(FUSE_READDIRPLUS, handle, 0, 400)), true);
  ASSERT_FALSE(first.empty());
  for (int i = 0; i < 100; ++i) ::unlink(share_.host("name" + std::to_string(i)).c_str());
  const Answer rest = share_.send(request(FUSE_READDIRPLUS, handle, first.back().next, 4096));
  EXPECT_EQ(rest.error, 0);
  for (const Entry& entry : parse(rest, true))
    EXPECT_TRUE(entry.name == "." || entry.name == "..") << entry.name;
}

TEST_F(DirectoryTest, Opendir_OfAnythingElse_IsEnotdir) {
  share_.write_host("file", "");
  ASSERT_EQ(::symlink(".", share_.host("link").c_str()), 0);
  ASSERT_EQ(::mkfifo(share_.host("fifo").c_str(), 0600), 0);
  for (const char* const name : {"file", "link", "fifo"}) {
    const Answer answer = share_.send(Request(FUSE_OPENDIR, share_.node(name)).arg(fuse_open_in{}));
    EXPECT_EQ(answer.error, ENOTDIR) << name;
  }
  EXPECT_EQ(share_.send(Request(FUSE_OPENDIR, NodeId{12345}).arg(fuse_open_in{})).error, ESTALE);
}

TEST_F(DirectoryTest, UnknownAndReleasedHandles_AreEbadf) {
  const std::uint64_t handle = open();
  EXPECT_EQ(
      share_.send(Request(FUSE_FSYNCDIR).arg(fuse_fsync_in{.fh = handle, .fsync_flags = 0, .padding = 0}))
          .error,
      0);
  EXPECT_EQ(release(handle).error, 0);
  EXPECT_EQ(release(handle).error, EBADF);
  for (const std::uint32_t opcode : {FUSE_READDIR, FUSE_READDIRPLUS}) {
    EXPECT_EQ(share_.send(request(opcode, handle, 0, 4096)).error, EBADF);
    EXPECT_EQ(share_.send(request(opcode, ~std::uint64_t{0}, 0, 4096)).error, EBADF);
  }
  EXPECT_EQ(
      share_.send(Request(FUSE_FSYNCDIR).arg(fuse_fsync_in{.fh = handle, .fsync_flags = 0, .padding = 0}))
          .error,
      EBADF);
}

TEST_F(DirectoryTest, OffsetsOfAHostileGuest_AreErrorsOrNothing) {
  share_.write_host("a", "");
  const std::uint64_t handle = open();
  for (const std::uint64_t offset : {std::uint64_t{1} << 63, ~std::uint64_t{0}, std::uint64_t{12345678901}}) {
    const Answer answer = share_.send(request(FUSE_READDIR, handle, offset, 4096));
    EXPECT_TRUE(answer.error == 0 || answer.error == EINVAL) << answer.error;
  }
  EXPECT_EQ(read_all(FUSE_READDIR, handle, 4096).size(), 3U);
}

TEST_F(DirectoryTest, RequestForGigabytes_IsAnsweredFromABoundedBuffer) {
  for (int i = 0; i < 3000; ++i) share_.write_host("a-longer-name-for-more-bytes-" + std::to_string(i), "");
  const Answer answer = share_.send(request(FUSE_READDIR, open(), 0, 0xffffffff).room(1 << 20));
  EXPECT_EQ(answer.error, 0);
  EXPECT_LE(answer.body.size(), 64U * 1024);
  EXPECT_GT(parse(answer, false).size(), 100U);
}

}  // namespace
}  // namespace fusewire::passthrough
