// OPEN, RELEASE and SYNCFS through the protocol, INIT by configuration, file handle modes, and the descriptor
// limit.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "passthrough/open_flags.h"
#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::Answer;
using testing::Harness;
using testing::Request;
using testing::Share;

constexpr std::uint64_t bit(Cap cap) { return static_cast<std::uint64_t>(cap); }

std::uint64_t enabled(const Share& share) {
  const auto out = share.init().as<fuse_init_out>();
  return std::uint64_t{out.flags2} << 32 | out.flags;
}

TEST(HostOpenFlags, OnlyWhatRegularFilesTakePasses) {
  const Config config;
  EXPECT_EQ(host_open_flags(UINT32_MAX & ~O_ACCMODE, config, false), O_TRUNC | O_SYNC);
  EXPECT_EQ(host_open_flags(O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_DIRECTORY, config, false), O_RDWR);
}

TEST(HostOpenFlags, DirectIoAndNoatime_OnlyWhenConfigured) {
  Config config;
  EXPECT_EQ(host_open_flags(O_DIRECT | O_NOATIME, config, false), 0);
  config.allow_direct_io = true;
  EXPECT_EQ(host_open_flags(O_DIRECT | O_NOATIME, config, false), O_DIRECT);
  config.preserve_noatime = true;
  EXPECT_EQ(host_open_flags(O_DIRECT | O_NOATIME, config, false), O_DIRECT | O_NOATIME);
}

TEST(HostOpenFlags, Append_NeverReachesTheDescriptor) {
  EXPECT_EQ(host_open_flags(O_WRONLY | O_APPEND, Config(), false), O_WRONLY);
  EXPECT_EQ(host_open_flags(O_WRONLY | O_APPEND, Config(), true), O_RDWR);
}

TEST(HostOpenFlags, Writeback_MakesWhatIsWrittenReadable) {
  EXPECT_EQ(host_open_flags(O_WRONLY, Config(), true), O_RDWR);
  EXPECT_EQ(host_open_flags(O_WRONLY, Config(), false), O_WRONLY);
  EXPECT_EQ(host_open_flags(O_RDONLY, Config(), true), O_RDONLY);
}

TEST(Open, FileThenRelease_HandleIsGone) {
  Share share;
  share.write_host("a", "");
  const NodeId node = share.node("a");
  const auto first = share.open(node, O_RDONLY).as<fuse_open_out>().fh;
  const auto second = share.open(node, O_RDONLY).as<fuse_open_out>().fh;
  EXPECT_NE(first, second);
  EXPECT_EQ(share.release(node, first).error, 0);
  EXPECT_EQ(share.release(node, first).error, EBADF);
  EXPECT_EQ(share.getattr(node, first).error, EBADF);
  EXPECT_EQ(share.getattr(node, second).error, 0);
  EXPECT_EQ(share.fs().open_files(), 1u);
}

TEST(Open, DirectoryOrSymbolicLink_IsRefused) {
  Share share;
  share.mkdir("d", 0755);
  share.symlink("s", "/etc/passwd");
  EXPECT_EQ(share.open(share.node("d"), O_RDONLY).error, EISDIR);
  EXPECT_EQ(share.open(share.node("s"), O_RDONLY).error, ELOOP);
  EXPECT_EQ(share.open(NodeId{99}, O_RDONLY).error, ESTALE);
}

TEST(Open, Truncate_EmptiesTheFile_AndKillsBitsWhenAsked) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  share.write_host("a", "hello");
  const NodeId node = share.node("a");
  ASSERT_EQ(::chmod(share.host("a").c_str(), 06755), 0);
  EXPECT_EQ(share.open(node, O_WRONLY | O_TRUNC).error, 0);
  EXPECT_EQ(share.stat_host("a").st_size, 0);
  EXPECT_EQ(share.stat_host("a").st_mode & 07777, 06755u);
  EXPECT_EQ(share.open(node, O_WRONLY | O_TRUNC, FUSE_OPEN_KILL_SUIDGID).error, 0);
  EXPECT_EQ(share.stat_host("a").st_mode & 07777, 0755u);
}

// chattr +a: the host takes O_APPEND and nothing else, though descriptors of ours have none otherwise.
TEST(Open, AppendOnlyInode_OpensForAppending) {
  Share share;
  share.write_host("log", "one ");
  const UniqueFd host(::open(share.host("log").c_str(), O_RDONLY | O_CLOEXEC));
  int attributes = 0;
  if (::ioctl(host.get(), FS_IOC_GETFLAGS, &attributes) != 0) GTEST_SKIP() << "no chattr on this file system";
  attributes |= FS_APPEND_FL;
  if (::ioctl(host.get(), FS_IOC_SETFLAGS, &attributes) != 0) GTEST_SKIP() << "not permitted to chattr +a";
  const NodeId node = share.node("log");
  EXPECT_EQ(share.open(node, O_WRONLY).error, EPERM);
  const Answer opened = share.open(node, O_WRONLY | O_APPEND);
  EXPECT_EQ(opened.error, 0);
  fuse_write_in in{};
  in.fh = opened.as<fuse_open_out>().fh;
  in.size = 3;
  in.flags = O_WRONLY | O_APPEND;
  EXPECT_EQ(share.send(Request(FUSE_WRITE, node).arg(in).bytes(as_bytes("two"))).error, 0);
  EXPECT_EQ(share.read_host("log"), "one two");
  attributes &= ~FS_APPEND_FL;
  EXPECT_EQ(::ioctl(host.get(), FS_IOC_SETFLAGS, &attributes), 0);
}

TEST(Open, ReplyFlags_FollowCachePolicy) {
  const auto flags = [](CachePolicy policy) {
    Share share([&](Config& config) { config.cache = policy; });
    share.write_host("a", "");
    return share.open(share.node("a"), O_RDONLY).as<fuse_open_out>().open_flags;
  };
  EXPECT_NE(flags(CachePolicy::never) & FOPEN_DIRECT_IO, 0u);
  EXPECT_NE(flags(CachePolicy::metadata) & FOPEN_DIRECT_IO, 0u);
  EXPECT_EQ(flags(CachePolicy::automatic), 0u);
  EXPECT_EQ(flags(CachePolicy::always), static_cast<std::uint32_t>(FOPEN_KEEP_CACHE));
}

TEST(Syncfs, OfTheRoot_Succeeds) {
  Share share;
  EXPECT_EQ(share.send(Request(FUSE_SYNCFS).arg(fuse_syncfs_in{.padding = 0})).error, 0);
}

TEST(Init, Defaults_AskForWhatADirectoryCanServe) {
  Share share;
  const std::uint64_t caps = enabled(share);
  for (const Cap cap : {Cap::async_read, Cap::big_writes, Cap::max_pages, Cap::init_ext, Cap::atomic_o_trunc,
                        Cap::parallel_dirops, Cap::async_dio, Cap::export_support, Cap::create_supp_group,
                        Cap::auto_inval_data, Cap::cache_symlinks, Cap::do_readdirplus, Cap::readdirplus_auto,
                        Cap::submounts, Cap::handle_killpriv_v2})
    EXPECT_NE(caps & bit(cap), 0u) << name_of(cap);
  for (const Cap cap :
       {Cap::posix_locks, Cap::flock_locks, Cap::writeback_cache, Cap::posix_acl, Cap::dont_mask,
        Cap::security_ctx, Cap::direct_io_allow_mmap, Cap::no_open_support, Cap::splice_read,
        Cap::handle_killpriv, Cap::passthrough, Cap::over_io_uring, Cap::allow_idmap})
    EXPECT_EQ(caps & bit(cap), 0u) << name_of(cap);
}

TEST(Init, EachOption_AsksForItsCapability) {
  Share share([](Config& config) {
    config.posix_lock = config.flock = config.writeback = config.allow_mmap = true;
    config.xattr = config.posix_acl = config.security_label = true;
    config.killpriv_v2 = config.announce_submounts = config.readdirplus = false;
    config.cache = CachePolicy::always;
  });
  const std::uint64_t caps = enabled(share);
  for (const Cap cap : {Cap::posix_locks, Cap::flock_locks, Cap::writeback_cache, Cap::posix_acl,
                        Cap::dont_mask, Cap::setxattr_ext, Cap::security_ctx, Cap::direct_io_allow_mmap})
    EXPECT_NE(caps & bit(cap), 0u) << name_of(cap);
  for (const Cap cap : {Cap::handle_killpriv_v2, Cap::submounts, Cap::do_readdirplus, Cap::readdirplus_auto,
                        Cap::auto_inval_data})
    EXPECT_EQ(caps & bit(cap), 0u) << name_of(cap);
}

TEST(Init, CacheNever_AsksForNoReaddirplus) {
  Share share([](Config& config) { config.cache = CachePolicy::never; });
  EXPECT_EQ(enabled(share) & (bit(Cap::do_readdirplus) | bit(Cap::cache_symlinks)), 0u);
}

TEST(Init, KernelWithoutWhatTheUserAskedFor_IsRefused) {
  const auto init_error = [](const Share::Adjust& adjust, Cap lacking) {
    return Share(adjust, Harness::kAllCaps & ~bit(lacking)).init().error;
  };
  const auto acl = [](Config& config) { config.xattr = config.posix_acl = true; };
  EXPECT_EQ(init_error(acl, Cap::posix_acl), EOPNOTSUPP);
  EXPECT_EQ(init_error(acl, Cap::dont_mask), EOPNOTSUPP);
  EXPECT_EQ(init_error([](Config& config) { config.security_label = true; }, Cap::security_ctx), EOPNOTSUPP);
  EXPECT_EQ(init_error([](Config& config) { config.writeback = true; }, Cap::writeback_cache), 0);
}

TEST(PassthroughFsCreate, BadDirectoryOrOptions_AreExplained) {
  const auto error = [](const Config& config) {
    const auto created = PassthroughFs::create(config);
    return created ? std::string() : created.error();
  };
  Config config;
  config.shared_directory = "/no/such/place";
  EXPECT_EQ(error(config), "cannot open the shared directory '/no/such/place': No such file or directory");
  config.shared_directory = "/proc/self/status";
  EXPECT_EQ(error(config), "cannot open the shared directory '/proc/self/status': Not a directory");
  const testing::TemporaryDirectory directory;
  config.shared_directory = directory.path();
  config.posix_acl = true;
  EXPECT_EQ(error(config), "POSIX ACLs need extended attributes: turn on xattr too");
}

struct Reach {
  FileHandleMode mode;
  const char* below;
};
class ReachTest : public ::testing::TestWithParam<Reach> {
 protected:
  // Null, and the test skipped, where the host cannot do it.
  std::unique_ptr<Share> share() const {
    const Reach& reach = GetParam();
    if (reach.mode != FileHandleMode::never && ::geteuid() != 0) return nullptr;
    return std::make_unique<Share>([&](Config& config) { config.file_handles = reach.mode; },
                                   Harness::kAllCaps, reach.below);
  }
};

TEST_P(ReachTest, NodesStayReachableUnderTheirNumber) {
  const auto share = this->share();
  if (!share) GTEST_SKIP() << "needs root";
  std::filesystem::create_directories(share->host("d"));
  share->write_host("d/a", "text");
  share->symlink("s", "target");
  const NodeId d = share->node("d");
  const NodeId a = share->node("a", d);
  EXPECT_EQ(share->node("a", d), a);
  EXPECT_EQ(share->getattr(a).as<fuse_attr_out>().attr.size, 4u);
  EXPECT_EQ(share->send(Request(FUSE_READLINK, share->node("s"))).text(), "target");
  EXPECT_EQ(share->open(a, O_RDWR).error, 0);
  EXPECT_EQ(share->link(a, "b", d).as<fuse_entry_out>().nodeid, a.get());
  EXPECT_EQ(share->rename2("a", "c", 0, d, d).error, 0);
  EXPECT_EQ(share->node("c", d), a);
  EXPECT_EQ(share->node("..", d), kRootNode);
  fuse_setattr_in in{};
  in.valid = FATTR_MODE | FATTR_SIZE | FATTR_MTIME_NOW | FATTR_MTIME;
  in.mode = 0600;
  EXPECT_EQ(share->setattr(a, in).as<fuse_attr_out>().attr.mode, S_IFREG | 0600u);
}

TEST_P(ReachTest, UnlinkedOpenFile_KeepsWorking) {
  const auto share = this->share();
  if (!share) GTEST_SKIP() << "needs root";
  const auto made = share->create("a", O_RDWR | O_CREAT, 0600).as<CreateOut>();
  const NodeId node{made.entry.nodeid};
  ASSERT_EQ(share->unlink("a").error, 0);
  EXPECT_EQ(share->getattr(node, made.open.fh).as<fuse_attr_out>().attr.nlink, 0u);
  EXPECT_EQ(share->getattr(node).error, 0);
  fuse_setattr_in in{};
  in.valid = FATTR_SIZE | FATTR_FH;
  in.size = 3;
  in.fh = made.open.fh;
  EXPECT_EQ(share->setattr(node, in).as<fuse_attr_out>().attr.size, 3u);
  in.valid = FATTR_MODE;
  in.mode = 0640;
  EXPECT_EQ(share->setattr(node, in).as<fuse_attr_out>().attr.mode & 07777, 0640u);
  EXPECT_EQ(share->release(node, made.open.fh).error, 0);
}

TEST_P(ReachTest, UnlinkedClosedFile_IsEstaleOrStillThere) {
  const auto share = this->share();
  if (!share) GTEST_SKIP() << "needs root";
  share->write_host("a", "text");
  const NodeId node = share->node("a");
  std::filesystem::remove(share->host("a"));
  // A descriptor keeps the inode alive; a file handle does not.
  EXPECT_EQ(share->getattr(node).error, GetParam().mode < FileHandleMode::prefer ? 0 : ESTALE);
  share->write_host("a", "another");
  EXPECT_NE(share->node("a"), node);
}

INSTANTIATE_TEST_SUITE_P(Modes, ReachTest,
                         ::testing::Values(Reach{FileHandleMode::automatic, "/tmp"},
                                           Reach{FileHandleMode::never, "/tmp"},
                                           Reach{FileHandleMode::prefer, "/tmp"},
                                           Reach{FileHandleMode::mandatory, "/tmp"},
                                           Reach{FileHandleMode::mandatory, "/dev/shm"}));

TEST(FileHandles, ManyInodes_TakeNoDescriptors) {
  FUSEWIRE_NEEDS_ROOT();
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                         std::filesystem::directory_iterator());
  };
  Share share([](Config& config) { config.file_handles = FileHandleMode::mandatory; });
  const auto before = descriptors();
  for (int i = 0; i < 100; ++i) {
    share.write_host(std::to_string(i), "");
    share.node(std::to_string(i));
  }
  EXPECT_EQ(descriptors(), before);
  EXPECT_EQ(share.fs().known_inodes(), 101u);
}

// CVE-2020-10717: the guest opens all it can. It gets ENFILE, the daemon keeps descriptors for itself, and
// what the guest gives back it can have again.
TEST(DescriptorLimit, Reached_IsEnfileAndRecovers) {
  const testing::ScopedNofileLimit limit(200);
  {
    Share share([](Config& config) { config.file_handles = FileHandleMode::never; });
    share.write_host("a", "");
    const NodeId node = share.node("a");
    std::vector<std::uint64_t> handles;
    Answer answer;
    for (int i = 0; i < 300; ++i) {
      answer = share.open(node, O_RDONLY);
      if (answer.error != 0) break;
      handles.push_back(answer.as<fuse_open_out>().fh);
    }
    EXPECT_EQ(answer.error, ENFILE);
    EXPECT_GT(handles.size(), 50u);
    // A name that would need a descriptor, one that has one, and new files.
    share.write_host("b", "");
    EXPECT_EQ(share.lookup("b").error, ENFILE);
    EXPECT_EQ(share.lookup("a").error, 0);
    EXPECT_EQ(share.create("c", O_RDWR | O_CREAT, 0600).error, ENFILE);
    EXPECT_EQ(share.mkdir("d", 0700).error, ENFILE);
    EXPECT_FALSE(std::filesystem::exists(share.host("c")));
    EXPECT_FALSE(std::filesystem::exists(share.host("d")));
    fuse_setattr_in in{};
    in.valid = FATTR_SIZE;
    EXPECT_EQ(share.setattr(node, in).error, 0);  // opens for a moment
    std::vector<UniqueFd> own;
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(own.emplace_back(::open("/", O_PATH | O_CLOEXEC)));
    own.clear();
    for (int i = 0; i < 4; ++i) EXPECT_EQ(share.release(node, handles[static_cast<std::size_t>(i)]).error, 0);
    EXPECT_EQ(share.lookup("b").error, 0);
    EXPECT_EQ(share.create("c", O_RDWR | O_CREAT, 0600).error, 0);
  }
}

}  // namespace
}  // namespace fusewire::passthrough
