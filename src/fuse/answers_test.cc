#include "fusewire/answers.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

namespace fusewire {
namespace {

using namespace std::chrono_literals;

TEST(AnswersTest, Validity_IsSecondsAndNanoseconds) {
  const fuse_entry_out entry = EntryAnswer{
      .node = NodeId{7}, .generation = 9, .attr = {}, .entry_valid = 1500ms, .attr_valid = 2s + 3ns};
  EXPECT_EQ(entry.nodeid, 7u);
  EXPECT_EQ(entry.generation, 9u);
  EXPECT_EQ(entry.entry_valid, 1u);
  EXPECT_EQ(entry.entry_valid_nsec, 500'000'000u);
  EXPECT_EQ(entry.attr_valid, 2u);
  EXPECT_EQ(entry.attr_valid_nsec, 3u);
  const fuse_attr_out attributes = AttrAnswer{.attr = {}, .attr_valid = kForever};
  EXPECT_EQ(attributes.attr_valid, 3'153'600'000u);
}

TEST(AnswersTest, OpenFlags_AreTheProtocolsBits) {
  const fuse_open_out none = OpenAnswer{.handle = FileHandle{5}};
  EXPECT_EQ(none.fh, 5u);
  EXPECT_EQ(none.open_flags, 0u);
  const auto bits = [](const fuse_open_out& out) { return out.open_flags; };
  EXPECT_EQ(bits(OpenAnswer{.direct_io = true}), unsigned{FOPEN_DIRECT_IO});
  EXPECT_EQ(bits(OpenAnswer{.keep_cache = true}), unsigned{FOPEN_KEEP_CACHE});
  EXPECT_EQ(bits(OpenAnswer{.nonseekable = true}), unsigned{FOPEN_NONSEEKABLE});
  EXPECT_EQ(bits(OpenAnswer{.cache_directory = true}), unsigned{FOPEN_CACHE_DIR});
  EXPECT_EQ(bits(OpenAnswer{.stream = true}), unsigned{FOPEN_STREAM});
  EXPECT_EQ(bits(OpenAnswer{.no_flush = true}), unsigned{FOPEN_NOFLUSH});
  EXPECT_EQ(bits(OpenAnswer{.parallel_direct_writes = true}), unsigned{FOPEN_PARALLEL_DIRECT_WRITES});
}

TEST(AnswersTest, AttrOf_KeepsWhatStatSays) {
  struct stat stat{};
  stat.st_ino = 42;
  stat.st_mode = S_IFCHR | 0640;
  stat.st_nlink = 3;
  stat.st_uid = 1000;
  stat.st_gid = 2000;
  stat.st_rdev = makedev(0x123, 0x45678);
  stat.st_size = 1LL << 40;
  stat.st_blocks = 17;
  stat.st_blksize = 4096;
  stat.st_atim = {.tv_sec = -1, .tv_nsec = 1};
  stat.st_mtim = {.tv_sec = 2, .tv_nsec = 3};
  stat.st_ctim = {.tv_sec = 4, .tv_nsec = 5};
  const fuse_attr attr = attr_of(stat);
  EXPECT_EQ(attr.ino, 42u);
  EXPECT_EQ(attr.mode, unsigned{S_IFCHR | 0640});
  EXPECT_EQ(attr.nlink, 3u);
  EXPECT_EQ(attr.uid, 1000u);
  EXPECT_EQ(attr.gid, 2000u);
  // Minor's low byte, major, minor's other bits.
  EXPECT_EQ(attr.rdev, 0x45612378u);
  EXPECT_EQ(attr.size, 1ULL << 40);
  EXPECT_EQ(attr.blocks, 17u);
  EXPECT_EQ(attr.blksize, 4096u);
  EXPECT_EQ(attr.atime, ~std::uint64_t{0});
  EXPECT_EQ(attr.atimensec, 1u);
  EXPECT_EQ(attr.mtime, 2u);
  EXPECT_EQ(attr.mtimensec, 3u);
  EXPECT_EQ(attr.ctime, 4u);
  EXPECT_EQ(attr.ctimensec, 5u);
}

TEST(AnswersTest, StatfsOf_KeepsWhatStatvfsSays) {
  struct statvfs stat{};
  stat.f_bsize = 1 << 20;
  stat.f_frsize = 4096;
  stat.f_blocks = 1ULL << 40;
  stat.f_bfree = 7;
  stat.f_bavail = 6;
  stat.f_files = 1ULL << 33;
  stat.f_ffree = 5;
  stat.f_namemax = 255;
  const fuse_kstatfs out = statfs_of(stat);
  EXPECT_EQ(out.bsize, 1U << 20);
  EXPECT_EQ(out.frsize, 4096U);
  EXPECT_EQ(out.blocks, 1ULL << 40);
  EXPECT_EQ(out.bfree, 7U);
  EXPECT_EQ(out.bavail, 6U);
  EXPECT_EQ(out.files, 1ULL << 33);
  EXPECT_EQ(out.ffree, 5U);
  EXPECT_EQ(out.namelen, 255U);
}

}  // namespace
}  // namespace fusewire
