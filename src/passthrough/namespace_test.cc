// READLINK, SYMLINK, UNLINK, RMDIR, RENAME and LINK through the protocol.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <limits.h>
#include <stdio.h>

#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::Answer;
using testing::Request;
using testing::Share;

TEST(Readlink, RepliesTheTargetWithoutNul) {
  Share share;
  const Answer made = share.symlink("s", "/no/such ../place");
  ASSERT_EQ(made.error, 0);
  const NodeId node{made.as<fuse_entry_out>().nodeid};
  const Answer answer = share.send(Request(FUSE_READLINK, node));
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.text(), "/no/such ../place");
}

TEST(Readlink, LongestTarget_IsWhole) {
  Share share;
  const std::string target(PATH_MAX - 1, 't');
  const NodeId node{share.symlink("s", target).as<fuse_entry_out>().nodeid};
  EXPECT_EQ(share.send(Request(FUSE_READLINK, node)).text(), target);
}

TEST(Readlink, OfAFile_IsEinval) {
  Share share;
  share.write_host("a", "");
  EXPECT_EQ(share.send(Request(FUSE_READLINK, share.node("a"))).error, EINVAL);
}

TEST(Symlink, TakenNameOrLongTarget_IsRefused) {
  Share share;
  share.write_host("a", "");
  EXPECT_EQ(share.symlink("a", "x").error, EEXIST);
  EXPECT_EQ(share.symlink("s", std::string(PATH_MAX, 't')).error, ENAMETOOLONG);
}

// CVE-2026-47243: an absolute name must not be taken as a path of the host.
TEST(Symlink, NameWithSlash_IsMalformed) {
  Share share;
  const testing::TemporaryDirectory outside;
  EXPECT_EQ(share.symlink((outside.path() / "s").string(), "x").error, EINVAL);
  EXPECT_FALSE(std::filesystem::exists(std::filesystem::symlink_status(outside.path() / "s")));
}

TEST(Unlink, FileAndLinkGo_DirectoryAndMissingDoNot) {
  Share share;
  share.write_host("a", "");
  share.symlink("s", "a");
  share.mkdir("d", 0755);
  EXPECT_EQ(share.unlink("s").error, 0);
  EXPECT_TRUE(std::filesystem::exists(share.host("a")));
  EXPECT_EQ(share.unlink("a").error, 0);
  EXPECT_FALSE(std::filesystem::exists(share.host("a")));
  EXPECT_EQ(share.unlink("a").error, ENOENT);
  EXPECT_EQ(share.unlink("d").error, EISDIR);
}

TEST(Rmdir, EmptyDirectoryGoes_OthersDoNot) {
  Share share;
  std::filesystem::create_directories(share.host("d/e"));
  share.write_host("a", "");
  EXPECT_EQ(share.rmdir("d").error, ENOTEMPTY);
  EXPECT_EQ(share.rmdir("a").error, ENOTDIR);
  EXPECT_EQ(share.rmdir("e", share.node("d")).error, 0);
  EXPECT_EQ(share.rmdir("d").error, 0);
  EXPECT_FALSE(std::filesystem::exists(share.host("d")));
}

TEST(Rename, ReplacesTheOldTarget_AndKeepsTheNode) {
  Share share;
  share.write_host("a", "new");
  share.write_host("b", "old");
  const NodeId node = share.node("a");
  const Answer answer =
      share.send(Request(FUSE_RENAME).arg(fuse_rename_in{.newdir = FUSE_ROOT_ID}).name("a").name("b"));
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(share.read_host("b"), "new");
  EXPECT_EQ(share.node("b"), node);
  EXPECT_EQ(share.lookup("a").error, ENOENT);
}

TEST(Rename, IntoAnotherDirectory_MovesTheFile) {
  Share share;
  share.mkdir("d", 0755);
  share.write_host("a", "text");
  EXPECT_EQ(share.rename2("a", "b", 0, kRootNode, share.node("d")).error, 0);
  EXPECT_EQ(share.read_host("d/b"), "text");
}

TEST(Rename, UnknownParentOrAFileAsParent_IsRefused) {
  Share share;
  share.write_host("a", "");
  EXPECT_EQ(share.rename2("a", "b", 0, kRootNode, NodeId{99}).error, ESTALE);
  EXPECT_EQ(share.rename2("a", "b", 0, kRootNode, share.node("a")).error, ENOTDIR);
}

TEST(Rename2, NoReplace_KeepsTheTarget) {
  Share share;
  share.write_host("a", "new");
  share.write_host("b", "old");
  EXPECT_EQ(share.rename2("a", "b", RENAME_NOREPLACE).error, EEXIST);
  EXPECT_EQ(share.read_host("b"), "old");
  EXPECT_EQ(share.rename2("a", "c", RENAME_NOREPLACE).error, 0);
  EXPECT_EQ(share.read_host("c"), "new");
}

TEST(Rename2, Exchange_SwapsBoth) {
  Share share;
  share.write_host("a", "first");
  share.mkdir("d", 0755);
  EXPECT_EQ(share.rename2("a", "d", RENAME_EXCHANGE).error, 0);
  EXPECT_EQ(share.read_host("d"), "first");
  EXPECT_TRUE(std::filesystem::is_directory(share.host("a")));
  EXPECT_EQ(share.rename2("a", "missing", RENAME_EXCHANGE).error, ENOENT);
}

TEST(Rename2, Whiteout_LeavesTheCharacterDeviceThatOverlayfsWants) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  share.write_host("a", "text");
  EXPECT_EQ(share.rename2("a", "b", RENAME_WHITEOUT).error, 0);
  EXPECT_EQ(share.read_host("b"), "text");
  EXPECT_TRUE(S_ISCHR(share.stat_host("a").st_mode));
  EXPECT_EQ(share.stat_host("a").st_rdev, 0u);
}

TEST(Rename2, UnknownOrContradictingFlags_AreEinval) {
  Share share;
  share.write_host("a", "");
  EXPECT_EQ(share.rename2("a", "b", 8).error, EINVAL);
  EXPECT_EQ(share.rename2("a", "b", UINT32_MAX).error, EINVAL);
  EXPECT_EQ(share.rename2("a", "b", RENAME_NOREPLACE | RENAME_EXCHANGE).error, EINVAL);
  EXPECT_TRUE(std::filesystem::exists(share.host("a")));
}

TEST(Link, NewName_IsTheSameNodeWithOneLookupMore) {
  Share share;
  share.write_host("a", "text");
  const NodeId node = share.node("a");
  const Answer answer = share.link(node, "b");
  ASSERT_EQ(answer.error, 0);
  EXPECT_EQ(answer.as<fuse_entry_out>().nodeid, node.get());
  EXPECT_EQ(answer.as<fuse_entry_out>().attr.nlink, 2u);
  EXPECT_EQ(share.stat_host("b").st_ino, share.stat_host("a").st_ino);
  share.forget(node);
  EXPECT_EQ(share.getattr(node).error, 0);
  share.forget(node);
  EXPECT_EQ(share.getattr(node).error, ESTALE);
}

TEST(Link, SymbolicLink_IsLinkedItself) {
  Share share;
  share.symlink("s", "/etc/passwd");
  EXPECT_EQ(share.link(share.node("s"), "t").error, 0);
  EXPECT_EQ(std::filesystem::read_symlink(share.host("t")), "/etc/passwd");
  EXPECT_EQ(share.stat_host("t").st_nlink, 2u);
}

TEST(Link, DirectoryTakenNameOrUnknownTarget_IsRefused) {
  Share share;
  share.mkdir("d", 0755);
  share.write_host("a", "");
  EXPECT_EQ(share.link(share.node("d"), "e").error, EPERM);
  EXPECT_EQ(share.link(share.node("a"), "d").error, EEXIST);
  EXPECT_EQ(share.link(NodeId{99}, "e").error, ESTALE);
}

TEST(Readonly, EveryChange_IsErofs) {
  FUSEWIRE_NEEDS_ROOT();
  Share share([](Config& config) { config.readonly = true; });
  share.write_host("a", "text");
  std::filesystem::create_directory(share.host("d"));
  const NodeId a = share.node("a");
  EXPECT_EQ(share.mkdir("x", 0755).error, EROFS);
  EXPECT_EQ(share.mknod("x", S_IFREG | 0644).error, EROFS);
  EXPECT_EQ(share.symlink("x", "y").error, EROFS);
  EXPECT_EQ(share.create("x", O_RDWR, 0644).error, EROFS);
  EXPECT_EQ(share.create("x", O_RDONLY, 0644).error, EROFS);
  EXPECT_EQ(share.unlink("a").error, EROFS);
  EXPECT_EQ(share.rmdir("d").error, EROFS);
  EXPECT_EQ(share.rename2("a", "b", 0).error, EROFS);
  EXPECT_EQ(share.link(a, "b").error, EROFS);
  EXPECT_EQ(
      share
          .send(Request(FUSE_TMPFILE)
                    .arg(fuse_create_in{.flags = O_RDWR, .mode = S_IFREG | 0600, .umask = 0, .open_flags = 0})
                    .name("#"))
          .error,
      EROFS);
  fuse_setattr_in in{};
  in.valid = FATTR_MODE;
  EXPECT_EQ(share.setattr(a, in).error, EROFS);
  for (const std::uint32_t flags : {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, 3})
    EXPECT_EQ(share.open(a, flags).error, EROFS) << flags;
  const auto access = [&](std::uint32_t mask) {
    return share.send(Request(FUSE_ACCESS, a).arg(fuse_access_in{.mask = mask, .padding = 0})).error;
  };
  EXPECT_EQ(access(W_OK), EROFS);
  EXPECT_EQ(access(R_OK), 0);
  EXPECT_EQ(share.open(a, O_RDONLY).error, 0);
  EXPECT_EQ(share.read_host("a"), "text");
}

}  // namespace
}  // namespace fusewire::passthrough
