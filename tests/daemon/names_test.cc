// LOOKUP, FORGET, and everything that makes, moves and removes names, over the socket; the effect is checked
// on the host's directory.
#include <sys/sysmacros.h>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

using Names = DaemonTest;

Request rename2_request(NodeId from, std::string_view old_name, NodeId to, std::string_view new_name,
                        std::uint32_t flags) {
  fuse_rename2_in in{};
  in.newdir = to.get();
  in.flags = flags;
  return make_request(FUSE_RENAME2, from, in).name(old_name).name(new_name).room(0);
}

TEST_F(Names, Lookup_TellsTheHostsAttributes) {
  write_host("file", "12345");
  boot();
  const auto entry = client().lookup(kRootNode, "file");
  ASSERT_TRUE(entry.has_value());
  const auto found = stat_host("file");
  EXPECT_EQ(entry->attr.ino, found.st_ino);
  EXPECT_EQ(entry->attr.size, 5u);
  EXPECT_EQ(entry->attr.mode, found.st_mode);
  EXPECT_EQ(entry->attr.nlink, 1u);
  EXPECT_EQ(entry->attr.mtimensec, static_cast<std::uint32_t>(found.st_mtim.tv_nsec));
  EXPECT_NE(entry->nodeid, 0u);
  EXPECT_NE(entry->nodeid, kRootNode.get());

  // The same inode is the same node, under another name too.
  std::filesystem::create_hard_link(this->host("file"), this->host("other"));
  EXPECT_EQ(client().lookup(kRootNode, "file")->nodeid, entry->nodeid);
  EXPECT_EQ(client().lookup(kRootNode, "other")->nodeid, entry->nodeid);
}

TEST_F(Names, Lookup_OfNothing_IsEnoent) {
  boot();
  EXPECT_EQ(error_of(client().lookup(kRootNode, "nothing")), ENOENT);
}

TEST_F(Names, Lookup_InAFile_IsEnotdir) {
  write_host("file", "");
  boot();
  EXPECT_EQ(error_of(client().lookup(*client().walk("file"), "x")), ENOTDIR);
}

TEST_F(Names, Forget_TakesTheLastLookupAndTheNode) {
  write_host("file", "");
  boot();
  const NodeId node{client().lookup(kRootNode, "file")->nodeid};
  EXPECT_EQ(client().lookup(kRootNode, "file")->nodeid, node.get());
  client().forget(node, 1);
  EXPECT_TRUE(client().getattr(node).has_value());
  client().forget(node, 1);
  EXPECT_EQ(error_of(client().getattr(node)), ESTALE);
}

TEST_F(Names, Forget_OnHiprio_Works) {
  write_host("file", "");
  boot();
  const NodeId node{client().lookup(kRootNode, "file")->nodeid};
  Client hiprio(guest(), 0);
  hiprio.forget(node, 1);
  EXPECT_EQ(error_of(client().getattr(node)), ESTALE);
}

TEST_F(Names, BatchForget_TakesAllOfThem) {
  boot();
  std::vector<std::byte> items;
  std::vector<NodeId> nodes;
  const auto before = daemon().descriptors();
  for (int i = 0; i < 100; ++i) {
    const std::string name = "file" + std::to_string(i);
    write_host(name, "");
    nodes.emplace_back(client().lookup(kRootNode, name)->nodeid);
    const fuse_forget_one item{.nodeid = nodes.back().get(), .nlookup = 1};
    items.insert(items.end(), bytes_of(item).begin(), bytes_of(item).end());
  }
  EXPECT_GE(daemon().descriptors(), before + 100);
  const Answer answer =
      client().send(make_request(FUSE_BATCH_FORGET, NodeId{0}, fuse_batch_forget_in{.count = 100, .dummy = 0})
                        .bytes(items)
                        .room(-1));
  EXPECT_FALSE(answer.replied);
  for (const NodeId node : nodes) EXPECT_EQ(error_of(client().getattr(node)), ESTALE);
  EXPECT_EQ(daemon().descriptors(), before);
}

TEST_F(Names, Forget_OfMoreThanWasLookedUp_IsTheEndOfTheNodeOnly) {
  write_host("file", "");
  boot();
  const NodeId node{client().lookup(kRootNode, "file")->nodeid};
  client().forget(node, ~std::uint64_t{0});
  client().forget(node, 1);
  client().forget(kRootNode, ~std::uint64_t{0});
  client().forget(NodeId{0xdead'beef}, 1);
  EXPECT_EQ(error_of(client().getattr(node)), ESTALE);
  expect_alive();
}

TEST_F(Names, Mkdir_MakesADirectory) {
  boot();
  const auto entry = client().mkdir(kRootNode, "dir", 0750);
  ASSERT_TRUE(entry.has_value());
  const auto found = stat_host("dir");
  EXPECT_TRUE(S_ISDIR(found.st_mode));
  EXPECT_EQ(found.st_mode & 07777, 0750u);
  EXPECT_EQ(found.st_uid, ::geteuid());
  EXPECT_EQ(entry->attr.ino, found.st_ino);
  EXPECT_EQ(error_of(client().mkdir(kRootNode, "dir")), EEXIST);
}

TEST_F(Names, Mknod_MakesAFileAndAFifo) {
  boot();
  fuse_mknod_in in{};
  for (const auto& [name, type] : {std::pair{"file", S_IFREG}, std::pair{"fifo", S_IFIFO}}) {
    in.mode = type | 0640u;
    const Answer answer = client().send(make_request(FUSE_MKNOD, kRootNode, in).name(name));
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(stat_host(name).st_mode, type | 0640u);
  }
}

TEST_F(Names, Mknod_MakesADeviceForRoot) {
  FUSEWIRE_NEEDS_ROOT();
  boot();
  fuse_mknod_in in{};
  in.mode = S_IFCHR | 0600;
  in.rdev = 1 << 8 | 3;  // as the kernel encodes 1:3
  const Answer answer = client().send(make_request(FUSE_MKNOD, kRootNode, in).name("null"));
  ASSERT_EQ(answer.error, 0);
  EXPECT_EQ(stat_host("null").st_rdev, makedev(1, 3));
  EXPECT_EQ(answer.as<fuse_entry_out>().attr.rdev, in.rdev);
}

TEST_F(Names, NewInodes_BelongToTheCaller) {
  FUSEWIRE_NEEDS_ROOT();
  boot();
  std::filesystem::permissions(share(), std::filesystem::perms::all);
  fuse_mkdir_in in{};
  in.mode = 0755;
  EXPECT_EQ(client().send(Request(FUSE_MKDIR).uid(1234).gid(5678).arg(in).name("theirs")).error, 0);
  EXPECT_EQ(stat_host("theirs").st_uid, 1234u);
  EXPECT_EQ(stat_host("theirs").st_gid, 5678u);
  EXPECT_EQ(client().send(Request(FUSE_SYMLINK).uid(1234).gid(5678).name("link").name("target")).error, 0);
  EXPECT_EQ(stat_host("link").st_uid, 1234u);
}

TEST_F(Names, SymlinkAndReadlink_KeepTheTarget) {
  boot();
  const std::string target = "/etc/../" + std::string(200, 't');
  const Answer answer = client().send(make_request(FUSE_SYMLINK, kRootNode).name("link").name(target));
  ASSERT_EQ(answer.error, 0);
  EXPECT_EQ(std::filesystem::read_symlink(host("link")), target);
  const NodeId node{answer.as<fuse_entry_out>().nodeid};
  EXPECT_EQ(client().send(make_request(FUSE_READLINK, node).room(4096)).text(), target);
  EXPECT_EQ(client().send(make_request(FUSE_READLINK, kRootNode).room(4096)).error, EINVAL);
}

TEST_F(Names, Unlink_RemovesFilesOnly) {
  write_host("file", "");
  boot();
  std::filesystem::create_directory(host("dir"));
  EXPECT_EQ(client().send(make_request(FUSE_UNLINK, kRootNode).name("file").room(0)).error, 0);
  EXPECT_FALSE(std::filesystem::exists(host("file")));
  EXPECT_EQ(client().send(make_request(FUSE_UNLINK, kRootNode).name("file").room(0)).error, ENOENT);
  EXPECT_EQ(client().send(make_request(FUSE_UNLINK, kRootNode).name("dir").room(0)).error, EISDIR);
}

TEST_F(Names, Rmdir_RemovesEmptyDirectoriesOnly) {
  boot();
  std::filesystem::create_directories(host("full/empty"));
  write_host("file", "");
  EXPECT_EQ(client().send(make_request(FUSE_RMDIR, kRootNode).name("full").room(0)).error, ENOTEMPTY);
  EXPECT_EQ(client().send(make_request(FUSE_RMDIR, kRootNode).name("file").room(0)).error, ENOTDIR);
  EXPECT_EQ(client().send(make_request(FUSE_RMDIR, *client().walk("full")).name("empty").room(0)).error, 0);
  EXPECT_EQ(client().send(make_request(FUSE_RMDIR, kRootNode).name("full").room(0)).error, 0);
  EXPECT_FALSE(std::filesystem::exists(host("full")));
}

TEST_F(Names, VanishedNode_IsEstale) {
  boot();
  std::filesystem::create_directory(host("dir"));
  const NodeId node = *client().walk("dir");
  EXPECT_EQ(client().send(make_request(FUSE_RMDIR, kRootNode).name("dir").room(0)).error, 0);
  client().forget(node, 1);
  EXPECT_EQ(error_of(client().lookup(node, "x")), ESTALE);
}

TEST_F(Names, Rename_MovesAcrossDirectories) {
  write_host("file", "content");
  std::filesystem::create_directory(host("dir"));
  boot();
  const NodeId dir = *client().walk("dir");
  const auto before = client().lookup(kRootNode, "file");
  const Answer answer =
      client().send(make_request(FUSE_RENAME, kRootNode, fuse_rename_in{.newdir = dir.get()})
                        .name("file")
                        .name("moved")
                        .room(0));
  EXPECT_EQ(answer.error, 0);
  EXPECT_FALSE(std::filesystem::exists(host("file")));
  EXPECT_EQ(read_host("dir/moved"), "content");
  EXPECT_EQ(client().lookup(dir, "moved")->nodeid, before->nodeid);
}

TEST_F(Names, Rename2_NoReplace_LeavesWhatIsThere) {
  write_host("a", "A");
  write_host("b", "B");
  boot();
  EXPECT_EQ(client().send(rename2_request(kRootNode, "a", kRootNode, "b", RENAME_NOREPLACE)).error, EEXIST);
  EXPECT_EQ(read_host("b"), "B");
  EXPECT_EQ(client().send(rename2_request(kRootNode, "a", kRootNode, "c", RENAME_NOREPLACE)).error, 0);
  EXPECT_EQ(read_host("c"), "A");
}

TEST_F(Names, Rename2_Exchange_SwapsBoth) {
  write_host("a", "A");
  write_host("b", "B");
  boot();
  EXPECT_EQ(client().send(rename2_request(kRootNode, "a", kRootNode, "b", RENAME_EXCHANGE)).error, 0);
  EXPECT_EQ(read_host("a"), "B");
  EXPECT_EQ(read_host("b"), "A");
}

TEST_F(Names, Rename2_Whiteout_LeavesOne) {
  FUSEWIRE_NEEDS_ROOT();
  write_host("a", "A");
  boot();
  EXPECT_EQ(client().send(rename2_request(kRootNode, "a", kRootNode, "b", RENAME_WHITEOUT)).error, 0);
  EXPECT_EQ(read_host("b"), "A");
  EXPECT_TRUE(S_ISCHR(stat_host("a").st_mode));
  EXPECT_EQ(stat_host("a").st_rdev, 0u);
}

TEST_F(Names, Rename2_UnknownFlags_AreEinval) {
  write_host("a", "A");
  boot();
  EXPECT_EQ(client().send(rename2_request(kRootNode, "a", kRootNode, "b", 0x80)).error, EINVAL);
  EXPECT_EQ(read_host("a"), "A");
}

TEST_F(Names, Link_MakesAnotherName) {
  write_host("file", "content");
  boot();
  const auto file = client().lookup(kRootNode, "file");
  const Answer answer = client().send(
      make_request(FUSE_LINK, kRootNode, fuse_link_in{.oldnodeid = file->nodeid}).name("second"));
  ASSERT_EQ(answer.error, 0);
  EXPECT_EQ(answer.as<fuse_entry_out>().nodeid, file->nodeid);
  EXPECT_EQ(answer.as<fuse_entry_out>().attr.nlink, 2u);
  EXPECT_EQ(stat_host("second").st_ino, stat_host("file").st_ino);
}

TEST_F(Names, LongestName_Works) {
  boot();
  const std::string longest(NAME_MAX, 'n');
  ASSERT_TRUE(client().mkdir(kRootNode, longest).has_value());
  EXPECT_TRUE(std::filesystem::is_directory(host(longest)));
  EXPECT_EQ(error_of(client().mkdir(kRootNode, longest + "n")), ENAMETOOLONG);
}

TEST_F(Names, ReadOnlyShare_RefusesEveryChange) {
  write_host("file", "content");
  boot({"--readonly"});
  const auto file = client().lookup(kRootNode, "file");
  EXPECT_EQ(error_of(client().mkdir(kRootNode, "dir")), EROFS);
  EXPECT_EQ(error_of(client().create(kRootNode, "new")), EROFS);
  EXPECT_EQ(client().send(make_request(FUSE_UNLINK, kRootNode).name("file").room(0)).error, EROFS);
  EXPECT_EQ(client().send(rename2_request(kRootNode, "file", kRootNode, "b", 0)).error, EROFS);
  EXPECT_EQ(error_of(client().open(NodeId{file->nodeid}, O_RDWR)), EROFS);
  EXPECT_TRUE(client().open(NodeId{file->nodeid}, O_RDONLY).has_value());
  EXPECT_EQ(read_host("file"), "content");
}

}  // namespace
}  // namespace fusewire::tests
