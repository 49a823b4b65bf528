// What a guest may name, and what becomes of what it names wrongly.

#include "libfuse/known_ids.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "libfuse/c_file_system_test.h"

namespace fusewire::libfuse::testing {
namespace {

class KnownIdsTest : public ::testing::Test {
 protected:
  int pin(std::uint64_t node, const Uses& uses = {}) {
    Pins pins;
    return ids_.pin(node, uses, pins);
  }
  std::string forgotten_;
  KnownIds ids_{[this](std::uint64_t node, std::uint64_t lookups) {
    forgotten_ += std::to_string(node) + "-" + std::to_string(lookups) + " ";
  }};
};

TEST_F(KnownIdsTest, OnlyTheRootIsKnownAtFirst) {
  EXPECT_EQ(pin(FUSE_ROOT_ID), 0);
  EXPECT_EQ(pin(0), ESTALE);
  EXPECT_EQ(pin(77), ESTALE);
  EXPECT_EQ(pin(FUSE_ROOT_ID, Uses::node(77)), ESTALE);
}

TEST_F(KnownIdsTest, Forget_GivesTheFileSystemNoMoreThanWasOwed) {
  ids_.add_lookup(77);
  ids_.add_lookup(77);
  EXPECT_EQ(pin(77), 0);
  ids_.forget(77, 1);
  EXPECT_EQ(pin(77), 0);
  ids_.forget(77, 1'000'000);
  ids_.forget(77, 1);
  EXPECT_EQ(forgotten_, "77-1 77-1 ");
  EXPECT_EQ(pin(77), ESTALE);
}

TEST_F(KnownIdsTest, Forget_OfAPinnedNode_ComesWhenItIsUnpinned) {
  ids_.add_lookup(77);
  {
    Pins pins;
    ASSERT_EQ(ids_.pin(77, {}, pins), 0);
    ids_.forget(77, 1);
    EXPECT_EQ(forgotten_, "");
    EXPECT_EQ(pin(77), ESTALE);
  }
  EXPECT_EQ(forgotten_, "77-1 ");
}

TEST_F(KnownIdsTest, Handles_BelongToTheirNodeAndKind) {
  ids_.add_handle({FUSE_ROOT_ID, 5});
  EXPECT_EQ(pin(FUSE_ROOT_ID, Uses::handle({FUSE_ROOT_ID, 5})), 0);
  EXPECT_EQ(pin(FUSE_ROOT_ID, Uses::handle({FUSE_ROOT_ID, 5, true})), EBADF);
  EXPECT_EQ(pin(FUSE_ROOT_ID, Uses::handle({FUSE_ROOT_ID, 6})), EBADF);
  EXPECT_EQ(pin(FUSE_ROOT_ID, Uses::handle({77, 5})), EBADF);
}

TEST_F(KnownIdsTest, Release_WaitsForThoseWhoUseTheHandle) {
  int released = 0;
  ids_.add_handle({FUSE_ROOT_ID, 5});
  {
    Pins pins;
    ASSERT_EQ(ids_.pin(FUSE_ROOT_ID, Uses::handle({FUSE_ROOT_ID, 5}), pins), 0);
    EXPECT_TRUE(ids_.release({FUSE_ROOT_ID, 5}, [&] { ++released; }));
    EXPECT_EQ(released, 0);
    EXPECT_FALSE(ids_.release({FUSE_ROOT_ID, 5}, [&] { ++released; }));
  }
  EXPECT_EQ(released, 1);
  EXPECT_EQ(pin(FUSE_ROOT_ID, Uses::handle({FUSE_ROOT_ID, 5})), EBADF);
}

// A whole file system that serves a guest.
std::string calls;

Operations recording_operations() {
  Operations ops{};
  ops.lookup = [](fuse_req_t req, fuse_ino_t parent, const char*) {
    calls += "lookup" + std::to_string(parent) + " ";
    fuse_entry_param made{};
    made.ino = 42;
    fuse_reply_entry(req, &made);
  };
  ops.forget = [](fuse_req_t req, fuse_ino_t node, uint64_t lookups) {
    calls += "forget" + std::to_string(node) + "x" + std::to_string(lookups) + " ";
    fuse_reply_none(req);
  };
  ops.open = [](fuse_req_t req, fuse_ino_t, fuse_file_info* file) {
    file->fh = 1000;
    fuse_reply_open(req, file);
  };
  ops.read = [](fuse_req_t req, fuse_ino_t, size_t, off_t, fuse_file_info*) { fuse_reply_buf(req, "r", 1); };
  ops.release = [](fuse_req_t req, fuse_ino_t node, fuse_file_info* file) {
    calls += "release" + std::to_string(node) + ":" + std::to_string(file->fh) + " ";
    fuse_reply_err(req, 0);
  };
  ops.readdirplus = [](fuse_req_t req, fuse_ino_t, size_t size, off_t, fuse_file_info*) {
    std::string room(size, '\0');
    fuse_entry_param dot{}, made{};
    dot.ino = 50;
    made.ino = 51;
    size_t used = fuse_add_direntry_plus(req, room.data(), size, ".", &dot, 1);
    used += fuse_add_direntry_plus(req, room.data() + used, size - used, "entry", &made, 2);
    fuse_reply_buf(req, room.data(), used);
  };
  return ops;
}

class Guest : public ::testing::Test {
 protected:
  Guest() { calls.clear(); }
  int read_of(std::uint64_t node, std::uint64_t handle) {
    fuse_read_in in{};
    in.fh = handle;
    in.size = 100;
    return fs_.send(Request(FUSE_READ, NodeId{node}).arg(in)).error;
  }
  CFileSystem fs_{recording_operations(), {"--socket-path=/nowhere"}};
};

TEST_F(Guest, ForgedNode_NeverReachesTheFileSystem) {
  ASSERT_EQ(fs_.init().error, 0);
  EXPECT_EQ(fs_.send(Request(FUSE_LOOKUP, NodeId{42}).name("x")).error, ESTALE);
  fs_.send(Request(FUSE_FORGET, NodeId{42}).arg(fuse_forget_in{.nlookup = 1}));
  EXPECT_EQ(calls, "");

  EXPECT_EQ(fs_.send(Request(FUSE_LOOKUP).name("x")).error, 0);
  EXPECT_EQ(fs_.send(Request(FUSE_LOOKUP, NodeId{42}).name("x")).error, 0);
  fs_.send(Request(FUSE_FORGET, NodeId{42}).arg(fuse_forget_in{.nlookup = 9}));
  EXPECT_EQ(fs_.send(Request(FUSE_LOOKUP, NodeId{42}).name("x")).error, ESTALE);
  EXPECT_EQ(calls, "lookup1 lookup42 forget42x2 ");
}

TEST_F(Guest, ForgedHandle_IsEBADF) {
  ASSERT_EQ(fs_.init().error, 0);
  fuse_release_in in{};
  in.fh = 1000;
  const Request release = Request(FUSE_RELEASE).arg(in);
  EXPECT_EQ(read_of(FUSE_ROOT_ID, 1000), EBADF);
  EXPECT_EQ(fs_.send(release).error, EBADF);
  EXPECT_EQ(fs_.send(Request(FUSE_OPEN).arg(fuse_open_in{})).error, 0);
  EXPECT_EQ(read_of(FUSE_ROOT_ID, 1000), 0);
  EXPECT_EQ(fs_.send(release).error, 0);
  EXPECT_EQ(read_of(FUSE_ROOT_ID, 1000), EBADF);
  EXPECT_EQ(calls, "release1:1000 ");
}

TEST_F(Guest, Readdirplus_HandsOutItsNodesButTheDots) {
  ASSERT_EQ(fs_.init().error, 0);
  ASSERT_EQ(fs_.send(Request(FUSE_OPENDIR).arg(fuse_open_in{})).error, 0);
  fuse_read_in in{};
  in.size = 4096;
  ASSERT_EQ(fs_.send(Request(FUSE_READDIRPLUS).arg(in)).error, 0);
  EXPECT_EQ(fs_.send(Request(FUSE_LOOKUP, NodeId{51}).name("x")).error, 0);
  EXPECT_EQ(fs_.send(Request(FUSE_LOOKUP, NodeId{50}).name("x")).error, ESTALE);
}

TEST_F(Guest, ThatVanishes_LeavesNothingOpenInTheFileSystem) {
  ASSERT_EQ(fs_.init().error, 0);
  ASSERT_EQ(fs_.send(Request(FUSE_LOOKUP).name("x")).error, 0);
  ASSERT_EQ(fs_.send(Request(FUSE_OPEN, NodeId{42}).arg(fuse_open_in{})).error, 0);
  calls.clear();
  fs_.harness().engine().reset();
  EXPECT_EQ(calls, "release42:1000 forget42x1 ");
}

}  // namespace
}  // namespace fusewire::libfuse::testing
