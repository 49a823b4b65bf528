// GETATTR, SETATTR, STATX, ACCESS and STATFS through the protocol.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <filesystem>

#include "passthrough/device_number.h"
#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::Answer;
using testing::Harness;
using testing::Request;
using testing::Share;

fuse_setattr_in set(std::uint32_t valid) {
  fuse_setattr_in in{};
  in.valid = valid;
  return in;
}
fuse_setattr_in set_mode(std::uint32_t mode) {
  fuse_setattr_in in = set(FATTR_MODE);
  in.mode = mode;
  return in;
}
fuse_setattr_in set_size(std::uint64_t size, std::uint32_t more = 0) {
  fuse_setattr_in in = set(FATTR_SIZE | more);
  in.size = size;
  return in;
}

TEST(DeviceNumber, Encoded_IsDecodedToTheSame) {
  EXPECT_EQ(encode_device(1, 3), 0x103u);
  EXPECT_EQ(encode_device(259, 0x12345), 0x12310345u);
  EXPECT_EQ(decode_device(0x12310345), makedev(259, 0x12345));
}

TEST(Getattr, ByNodeAndByHandle_AreTheSame) {
  Share share;
  share.write_host("a", "hello");
  const NodeId node = share.node("a");
  const auto handle = share.open(node, O_RDONLY).as<fuse_open_out>().fh;
  const Answer by_node = share.getattr(node);
  EXPECT_EQ(by_node.error, 0);
  EXPECT_EQ(by_node.body, share.getattr(node, handle).body);
  EXPECT_EQ(by_node.as<fuse_attr_out>().attr.size, 5u);
  EXPECT_EQ(by_node.as<fuse_attr_out>().attr_valid, 1u);
  EXPECT_EQ(share.getattr(node, handle + 1).error, EBADF);
}

TEST(Setattr, TimesOfARemovedFile_AreWrittenBackInVain) {
  Share share([](Config& config) {
    config.file_handles = FileHandleMode::prefer;
    config.writeback = true;
  });
  share.write_host("a", "hello");
  const NodeId node = share.node("a");
  std::filesystem::remove(share.host("a"));
  if (share.getattr(node).error != ESTALE) GTEST_SKIP() << "file handles need root";
  fuse_setattr_in in = set(FATTR_MTIME | FATTR_CTIME);
  in.mtime = 12345;
  const Answer written = share.setattr(node, in);
  EXPECT_EQ(written.error, 0);
  EXPECT_EQ(written.as<fuse_attr_out>().attr.mode & S_IFMT, std::uint32_t{S_IFREG});
  EXPECT_EQ(written.as<fuse_attr_out>().attr.mtime, 12345u);
  EXPECT_EQ(share.setattr(node, set_mode(0600)).error, ESTALE);
  EXPECT_EQ(share.setattr(NodeId{4711}, in).error, ESTALE);
}

TEST(Statx, AsksForBirthTime_RepliesTheHosts) {
  Share share;
  share.write_host("a", "hello");
  const NodeId node = share.node("a");
  struct statx host{};
  ASSERT_EQ(::statx(AT_FDCWD, share.host("a").c_str(), 0, STATX_BASIC_STATS | STATX_BTIME, &host), 0);
  const Answer answer = share.send(Request(FUSE_STATX, node)
                                       .arg(StatxIn{.getattr_flags = 0,
                                                    .reserved = 0,
                                                    .fh = 0,
                                                    .sx_flags = AT_STATX_FORCE_SYNC,
                                                    .sx_mask = STATX_BTIME}));
  ASSERT_EQ(answer.error, 0);
  const auto out = answer.as<StatxOut>();
  EXPECT_EQ(out.attr_valid, 1u);
  EXPECT_EQ(out.stat.mask, host.stx_mask & (STATX_BASIC_STATS | STATX_BTIME));
  EXPECT_EQ(out.stat.size, 5u);
  EXPECT_EQ(out.stat.ino, host.stx_ino);
  EXPECT_EQ(out.stat.mode, host.stx_mode);
  EXPECT_EQ(out.stat.nlink, 1u);
  EXPECT_EQ(out.stat.blocks, host.stx_blocks);
  EXPECT_EQ(out.stat.btime.tv_sec, host.stx_btime.tv_sec);
  EXPECT_EQ(out.stat.btime.tv_nsec, host.stx_btime.tv_nsec);
  EXPECT_EQ(out.stat.mtime.tv_nsec, host.stx_mtime.tv_nsec);
  EXPECT_EQ(out.stat.dev_major, host.stx_dev_major);
  EXPECT_EQ(out.stat.dev_minor, host.stx_dev_minor);
}

TEST(Setattr, Mode_IsChangedAndReplied) {
  Share share;
  share.write_host("a", "");
  const Answer answer = share.setattr(share.node("a"), set_mode(S_IFREG | 04711));
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.as<fuse_attr_out>().attr.mode, S_IFREG | 04711u);
  EXPECT_EQ(share.stat_host("a").st_mode, S_IFREG | 04711u);
}

TEST(Setattr, ModeOfASymbolicLink_IsRefusedAndTargetStays) {
  Share share;
  share.write_host("a", "");
  ASSERT_EQ(::chmod(share.host("a").c_str(), 0644), 0);
  share.symlink("s", "a");
  EXPECT_EQ(share.setattr(share.node("s"), set_mode(0777)).error, EOPNOTSUPP);
  EXPECT_EQ(share.stat_host("a").st_mode & 07777, 0644u);
}

TEST(Setattr, OwnerOfASymbolicLink_IsTheLinksOwn) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  share.write_host("a", "");
  share.symlink("s", "a");
  fuse_setattr_in in = set(FATTR_UID | FATTR_GID);
  in.uid = 4711;
  in.gid = 4712;
  EXPECT_EQ(share.setattr(share.node("s"), in).error, 0);
  EXPECT_EQ(share.stat_host("s").st_uid, 4711u);
  EXPECT_EQ(share.stat_host("s").st_gid, 4712u);
  EXPECT_EQ(share.stat_host("a").st_uid, 0u);
}

TEST(Setattr, OnlyGroup_LeavesTheOwner) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  share.write_host("a", "");
  ASSERT_EQ(::chown(share.host("a").c_str(), 11, 12), 0);
  fuse_setattr_in in = set(FATTR_GID);
  in.uid = 99;
  in.gid = 13;
  EXPECT_EQ(share.setattr(share.node("a"), in).error, 0);
  EXPECT_EQ(share.stat_host("a").st_uid, 11u);
  EXPECT_EQ(share.stat_host("a").st_gid, 13u);
}

TEST(Setattr, Owner_ClearsSetUserIdAndSetGroupId) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  share.write_host("a", "");
  ASSERT_EQ(::chmod(share.host("a").c_str(), 06755), 0);
  fuse_setattr_in in = set(FATTR_UID | FATTR_KILL_SUIDGID);
  in.uid = 4711;
  EXPECT_EQ(share.setattr(share.node("a"), in).as<fuse_attr_out>().attr.mode & 07777, 0755u);
}

TEST(Setattr, Times_GivenNowAndOmitted) {
  Share share;
  share.write_host("a", "");
  const NodeId node = share.node("a");
  fuse_setattr_in in = set(FATTR_ATIME | FATTR_MTIME);
  in.atime = 1000;
  in.atimensec = 1;
  in.mtime = static_cast<std::uint64_t>(-5);  // before 1970
  in.mtimensec = 2;
  ASSERT_EQ(share.setattr(node, in).error, 0);
  EXPECT_EQ(share.stat_host("a").st_atim.tv_sec, 1000);
  EXPECT_EQ(share.stat_host("a").st_atim.tv_nsec, 1);
  EXPECT_EQ(share.stat_host("a").st_mtim.tv_sec, -5);
  EXPECT_EQ(share.stat_host("a").st_mtim.tv_nsec, 2);
  const Answer answer = share.setattr(node, set(FATTR_ATIME | FATTR_ATIME_NOW));
  EXPECT_GT(answer.as<fuse_attr_out>().attr.atime, 1'000'000'000u);
  EXPECT_EQ(share.stat_host("a").st_mtim.tv_sec, -5);
}

TEST(Setattr, TimesOfASymbolicLink_AreTheLinksOwn) {
  Share share;
  share.write_host("a", "");
  share.symlink("s", "a");
  fuse_setattr_in in = set(FATTR_MTIME);
  in.mtime = 1000;
  EXPECT_EQ(share.setattr(share.node("s"), in).error, 0);
  EXPECT_EQ(share.stat_host("s").st_mtim.tv_sec, 1000);
  EXPECT_GT(share.stat_host("a").st_mtim.tv_sec, 1000);
}

TEST(Setattr, Size_ByNodeAndByHandle) {
  Share share;
  share.write_host("a", "hello");
  const NodeId node = share.node("a");
  EXPECT_EQ(share.setattr(node, set_size(2)).as<fuse_attr_out>().attr.size, 2u);
  EXPECT_EQ(share.read_host("a"), "he");
  fuse_setattr_in in = set_size(4, FATTR_FH | FATTR_LOCKOWNER);
  in.fh = share.open(node, O_WRONLY).as<fuse_open_out>().fh;
  EXPECT_EQ(share.setattr(node, in).as<fuse_attr_out>().attr.size, 4u);
  in.fh = share.open(node, O_RDONLY).as<fuse_open_out>().fh;
  in.size = 1;
  EXPECT_EQ(share.setattr(node, in).as<fuse_attr_out>().attr.size, 1u);
  in.fh += 100;
  EXPECT_EQ(share.setattr(node, in).error, EBADF);
}

TEST(Setattr, SizeOfWhatHasNone_IsRefused) {
  Share share;
  share.mkdir("d", 0755);
  ASSERT_EQ(::mkfifo(share.host("f").c_str(), 0666), 0);
  share.symlink("s", "/etc/passwd");
  EXPECT_EQ(share.setattr(share.node("d"), set_size(0)).error, EISDIR);
  EXPECT_EQ(share.setattr(share.node("f"), set_size(0)).error, EINVAL);
  EXPECT_EQ(share.setattr(share.node("s"), set_size(0)).error, EINVAL);
}

TEST(Setattr, SizeBeyondWhatAFileCanHave_IsEfbig) {
  Share share;
  share.write_host("a", "");
  EXPECT_EQ(share.setattr(share.node("a"), set_size(UINT64_MAX)).error, EFBIG);
  EXPECT_EQ(share.setattr(share.node("a"), set_size(INT64_MAX)).error, EFBIG);
}

TEST(Setattr, SizeWithKillSuidgid_ClearsBitsOnlyWhenNegotiated) {
  FUSEWIRE_NEEDS_ROOT();
  for (const bool negotiated : {true, false}) {
    Share share([&](Config& config) { config.killpriv_v2 = negotiated; });
    share.write_host("a", "hello");
    const NodeId node = share.node("a");
    ASSERT_EQ(::chmod(share.host("a").c_str(), 06755), 0);
    EXPECT_EQ(share.setattr(node, set_size(1)).as<fuse_attr_out>().attr.mode & 07777, 06755u);
    const auto after = share.setattr(node, set_size(2, FATTR_KILL_SUIDGID)).as<fuse_attr_out>();
    EXPECT_EQ(after.attr.mode & 07777, negotiated ? 0755u : 06755u);
  }
}

TEST(Setattr, SizeWithKillSuidgid_KeepsSetGroupIdWithoutGroupExecute) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  share.write_host("a", "hello");
  ASSERT_EQ(::chmod(share.host("a").c_str(), 02745), 0);
  const auto after = share.setattr(share.node("a"), set_size(2, FATTR_KILL_SUIDGID)).as<fuse_attr_out>();
  EXPECT_EQ(after.attr.mode & 07777, 02745u);
}

TEST(Access, DecidesByModeBits) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  share.write_host("a", "");
  ASSERT_EQ(::chown(share.host("a").c_str(), 11, 12), 0);
  ASSERT_EQ(::chmod(share.host("a").c_str(), 0640), 0);
  const NodeId node = share.node("a");
  const auto access = [&](std::uint32_t uid, std::uint32_t gid, std::uint32_t mask) {
    return share
        .send(Request(FUSE_ACCESS, node).uid(uid).gid(gid).arg(fuse_access_in{.mask = mask, .padding = 0}))
        .error;
  };
  EXPECT_EQ(access(11, 99, R_OK | W_OK), 0);
  EXPECT_EQ(access(11, 12, X_OK), EACCES);
  EXPECT_EQ(access(99, 12, R_OK), 0);
  EXPECT_EQ(access(99, 12, W_OK), EACCES);
  EXPECT_EQ(access(99, 99, R_OK), EACCES);
  EXPECT_EQ(access(99, 99, F_OK), 0);
  EXPECT_EQ(access(0, 0, R_OK | W_OK), 0);
  EXPECT_EQ(access(0, 0, X_OK), EACCES);
  ASSERT_EQ(::chmod(share.host("a").c_str(), 0001), 0);
  EXPECT_EQ(access(0, 0, X_OK), 0);
}

TEST(Statfs, RepliesTheHosts) {
  Share share;
  struct statvfs host{};
  ASSERT_EQ(::statvfs(share.host("").c_str(), &host), 0);
  const auto out = share.send(Request(FUSE_STATFS)).as<fuse_statfs_out>();
  EXPECT_EQ(out.st.blocks, host.f_blocks);
  EXPECT_EQ(out.st.bsize, host.f_bsize);
  EXPECT_EQ(out.st.frsize, host.f_frsize);
  EXPECT_EQ(out.st.files, host.f_files);
  EXPECT_EQ(out.st.namelen, host.f_namemax);
}

}  // namespace
}  // namespace fusewire::passthrough
