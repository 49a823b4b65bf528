#include "fusewire/backing_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "fuse/testing/harness.h"
#include "fusewire/answers.h"

namespace fusewire {
namespace {

using testing::Answer;
using testing::Harness;
using testing::Request;

// A kernel's side: numbers from 1 on, for descriptors other than 13.
class FakeChannel final : public BackingChannel {
 public:
  Result<std::uint32_t> open(int fd) override {
    if (fd == 13) return fail(ELOOP);
    open_ids.insert(++last_);
    return last_;
  }
  Result<void> close(std::uint32_t id) override {
    if (open_ids.erase(id) == 0) return fail(ENOENT);
    return {};
  }
  std::set<std::uint32_t> open_ids;

 private:
  std::uint32_t last_ = 0;
};

class BackedFs final : public FileSystem {
 public:
  Result<void> init(Negotiation& negotiation) override {
    if (writeback_first) negotiation.want(Cap::writeback_cache);
    auto offered = negotiation.want_backing_files();
    error = offered ? 0 : offered.error().value;
    if (offered) files = *std::move(offered);
    writeback = negotiation.want(Cap::writeback_cache);
    return {};
  }
  bool writeback_first = false;
  bool writeback = false;
  int error = 0;
  std::shared_ptr<BackingFiles> files;
};

class BackingFileTest : public ::testing::Test {
 protected:
  ~BackingFileTest() override { engine_.set_backing_channel(nullptr); }
  // Whether the answer to INIT turns FUSE_PASSTHROUGH on.
  bool init() {
    const auto out = kernel_.init().as<fuse_init_out>();
    const bool on = (out.flags2 & (static_cast<std::uint64_t>(Cap::passthrough) >> 32)) != 0;
    EXPECT_EQ(out.unused[0], on ? 1u : 0u) << "max_stack_depth";
    return on;
  }

  FakeChannel channel_;
  BackedFs fs_;
  Harness kernel_{fs_};
  Engine& engine_ = kernel_.engine();
};

TEST_F(BackingFileTest, TransportWithout_DoesNotOfferThem) {
  EXPECT_FALSE(init());
  EXPECT_EQ(fs_.error, EOPNOTSUPP);
  EXPECT_EQ(fs_.files, nullptr);
  EXPECT_TRUE(fs_.writeback);
}

TEST_F(BackingFileTest, TransportWith_TurnsThemOn_AndWritebackCacheOff) {
  engine_.set_backing_channel(&channel_);
  EXPECT_TRUE(init());
  EXPECT_NE(fs_.files, nullptr);
  EXPECT_FALSE(fs_.writeback);
}

TEST_F(BackingFileTest, WritebackCacheFirst_ExcludesThem) {
  engine_.set_backing_channel(&channel_);
  fs_.writeback_first = true;
  EXPECT_FALSE(init());
  EXPECT_EQ(fs_.error, EOPNOTSUPP);
  EXPECT_TRUE(fs_.writeback);
}

TEST_F(BackingFileTest, OneNode_HasOneFile_WhichGoesWithItsLastHolder) {
  engine_.set_backing_channel(&channel_);
  ASSERT_TRUE(init());
  auto first = *fs_.files->open(NodeId{7}, 3);
  auto second = *fs_.files->open(NodeId{7}, 13);  // not looked at
  const auto other = *fs_.files->open(NodeId{8}, 3);
  EXPECT_EQ(first, second);
  EXPECT_NE(first->id(), other->id());
  EXPECT_EQ(fs_.files->find(NodeId{7}), first);
  first.reset();
  EXPECT_EQ(channel_.open_ids, (std::set<std::uint32_t>{second->id(), other->id()}));
  second.reset();
  EXPECT_EQ(channel_.open_ids, (std::set<std::uint32_t>{other->id()}));
  EXPECT_EQ(fs_.files->find(NodeId{7}), nullptr);
  EXPECT_EQ((*fs_.files->open(NodeId{7}, 3))->id(), 3u);
}

TEST_F(BackingFileTest, RefusedFile_LeavesNothingBehind) {
  engine_.set_backing_channel(&channel_);
  ASSERT_TRUE(init());
  EXPECT_EQ(fs_.files->open(NodeId{7}, 13).error(), Errno{ELOOP});
  EXPECT_EQ(fs_.files->find(NodeId{7}), nullptr);
  EXPECT_TRUE(fs_.files->open(NodeId{7}, 3));
  EXPECT_TRUE(channel_.open_ids.empty());
}

TEST_F(BackingFileTest, AfterTheKernelHasGone_NothingIsClosedOrOpened) {
  engine_.set_backing_channel(&channel_);
  ASSERT_TRUE(init());
  auto file = *fs_.files->open(NodeId{7}, 3);
  const auto files = fs_.files;
  EXPECT_EQ(kernel_.send(Request(FUSE_DESTROY)).error, 0);
  file.reset();
  EXPECT_EQ(channel_.open_ids.size(), 1u) << "the number may be the next mount's by now";
  EXPECT_EQ(files->open(NodeId{7}, 3).error(), Errno{ENOTCONN});
}

TEST_F(BackingFileTest, AfterTheChannelWasTaken_NothingIsClosedOrOpened) {
  engine_.set_backing_channel(&channel_);
  ASSERT_TRUE(init());
  auto file = *fs_.files->open(NodeId{7}, 3);
  engine_.set_backing_channel(nullptr);
  file.reset();
  EXPECT_EQ(channel_.open_ids.size(), 1u);
  EXPECT_EQ(fs_.files->open(NodeId{7}, 3).error(), Errno{ENOTCONN});
}

TEST_F(BackingFileTest, Answers_CarryTheNumber) {
  engine_.set_backing_channel(&channel_);
  ASSERT_TRUE(init());
  const auto file = *fs_.files->open(NodeId{7}, 3);
  const fuse_open_out open = BackedOpenAnswer{.handle = FileHandle{5}, .file = *file, .no_flush = true};
  EXPECT_EQ(open.fh, 5u);
  EXPECT_EQ(open.open_flags, kOpenPassthrough | FOPEN_NOFLUSH);
  std::uint32_t id = 0;
  std::memcpy(&id, reinterpret_cast<const char*>(&open) + 12, sizeof id);
  EXPECT_EQ(id, file->id());
  const CreateOut created =
      BackedCreateAnswer{.entry = {.node = NodeId{7}}, .open = {.handle = FileHandle{6}, .file = *file}};
  EXPECT_EQ(created.entry.nodeid, 7u);
  EXPECT_EQ(created.open.fh, 6u);
  EXPECT_EQ(created.open.open_flags, kOpenPassthrough);
}

}  // namespace
}  // namespace fusewire
