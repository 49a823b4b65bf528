// INIT, DESTROY and a guest that boots again, over the socket.
#include "daemon/client.h"

namespace fusewire::tests {
namespace {

using Session = DaemonTest;

TEST_F(Session, RequestsBeforeInit_AreEio) {
  boot({}, {.initialize = false});
  EXPECT_EQ(error_of(client().getattr(kRootNode)), EIO);
  EXPECT_EQ(client().send(make_request(FUSE_DESTROY, NodeId{0}).room(0)).error, EIO);
  EXPECT_EQ(guest().initialize().error, 0);
  EXPECT_TRUE(client().getattr(kRootNode).has_value());
}

TEST_F(Session, Init_AnswersWithBothVersions) {
  boot({}, {.initialize = false});
  EXPECT_EQ(guest().initialize(kAllCaps, 45).error, 0);
  EXPECT_EQ(guest().init_reply().major, 7u);
  EXPECT_EQ(guest().init_reply().minor, 45u);
  EXPECT_EQ(guest().init_reply().max_write, 1u << 20);
  EXPECT_EQ(guest().init_reply().max_pages, (1u << 20) / static_cast<unsigned>(::sysconf(_SC_PAGESIZE)));
  EXPECT_NE(guest().init_reply().flags & FUSE_INIT_EXT, 0u);
  EXPECT_EQ(guest().initialize(kAllCaps, 31).error, 0);
  EXPECT_EQ(guest().init_reply().minor, 31u);
  EXPECT_EQ(guest().initialize(kAllCaps, 99).error, 0);
  EXPECT_EQ(guest().init_reply().minor, 45u);
}

TEST_F(Session, Init_OfOldKernels_IsEproto) {
  boot({}, {.initialize = false});
  EXPECT_EQ(guest().initialize(kAllCaps, 26).error, EPROTO);
  EXPECT_EQ(guest().initialize(kAllCaps, 45, 6).error, EPROTO);
  EXPECT_EQ(error_of(client().getattr(kRootNode)), EIO);
  EXPECT_EQ(guest().initialize(0, 27).error, 0);
  EXPECT_EQ(guest().init_reply().minor, 27u);
}

TEST_F(Session, Init_OfANewerMajor_IsAnsweredWithOursAndAwaited) {
  boot({}, {.initialize = false});
  EXPECT_EQ(guest().initialize(kAllCaps, 3, 8).error, 0);
  EXPECT_EQ(guest().init_reply().major, 7u);
  EXPECT_EQ(error_of(client().getattr(kRootNode)), EIO);
  EXPECT_EQ(guest().initialize().error, 0);
  expect_alive();
}

TEST_F(Session, Init_InTheShortFormOfOldKernels) {
  boot({}, {.initialize = false});
  fuse_init_in in{};
  in.major = 7;
  in.minor = 31;
  const auto first = bytes_of(in).first(offsetof(fuse_init_in, flags2));
  EXPECT_EQ(client().send(make_request(FUSE_INIT, NodeId{0}).bytes(first).room(sizeof(fuse_init_out))).error,
            0);
  expect_alive();
}

TEST_F(Session, WithoutMaxPages_WritesStayAt32Pages) {
  boot({}, {.caps = kAllCaps & ~std::uint64_t{FUSE_MAX_PAGES}});
  EXPECT_EQ(guest().init_reply().max_write, 32 * static_cast<unsigned>(::sysconf(_SC_PAGESIZE)));
}

TEST_F(Session, PosixAclThatTheKernelLacks_FailsTheMountWithAReason) {
  boot({"--posix-acl"}, {.initialize = false});
  EXPECT_EQ(guest().initialize(kAllCaps & ~std::uint64_t{FUSE_POSIX_ACL}).error, EOPNOTSUPP);
  EXPECT_THAT(daemon().log(), ::testing::HasSubstr("FUSE_POSIX_ACL"));
  EXPECT_EQ(guest().initialize().error, 0);
  expect_alive();
}

TEST_F(Session, SecondInit_IsARebootedGuest) {
  write_host("file", "content");
  boot();
  const auto descriptors = daemon().descriptors();
  const NodeId node = *client().walk("file");
  const auto opened = client().open(node);
  ASSERT_TRUE(opened.has_value());
  EXPECT_GT(daemon().descriptors(), descriptors);
  EXPECT_EQ(guest().initialize().error, 0);
  EXPECT_EQ(daemon().descriptors(), descriptors);
  EXPECT_EQ(error_of(client().getattr(node)), ESTALE);
  EXPECT_EQ(error_of(client().read(node, opened->fh, 0, 7)), EBADF);
  const NodeId again = *client().walk("file");
  EXPECT_EQ(client().read(again, client().open(again)->fh, 0, 7), "content");
}

TEST_F(Session, Destroy_ForgetsEverythingAndInitBeginsAnew) {
  write_host("file", "content");
  boot();
  const auto descriptors = daemon().descriptors();
  const NodeId node = *client().walk("file");
  ASSERT_TRUE(client().open(node).has_value());
  EXPECT_EQ(client().send(make_request(FUSE_DESTROY, NodeId{0}).room(0)).error, 0);
  EXPECT_LE(daemon().descriptors(), descriptors);
  EXPECT_EQ(error_of(client().getattr(kRootNode)), EIO);
  EXPECT_EQ(guest().initialize().error, 0);
  EXPECT_EQ(error_of(client().getattr(node)), ESTALE);
  expect_alive();
}

struct CacheMode {
  const char* name;
  unsigned open_flags;
};
class CacheModes : public DaemonTest, public ::testing::WithParamInterface<CacheMode> {};

TEST_P(CacheModes, AreWhatOpenAndLookupSay) {
  const auto& [name, open_flags] = GetParam();
  write_host("file", "");
  boot({std::string("--cache=") + name});
  const auto entry = client().lookup(kRootNode, "file");
  ASSERT_TRUE(entry.has_value());
  const auto opened = client().open(NodeId{entry->nodeid});
  ASSERT_TRUE(opened.has_value());
  EXPECT_EQ(opened->open_flags, open_flags);
  EXPECT_EQ(entry->entry_valid != 0, name != std::string("never"));
}

INSTANTIATE_TEST_SUITE_P(All, CacheModes,
                         ::testing::Values(CacheMode{"auto", 0}, CacheMode{"always", FOPEN_KEEP_CACHE},
                                           CacheMode{"never", FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES},
                                           CacheMode{"metadata",
                                                     FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES}),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace fusewire::tests
