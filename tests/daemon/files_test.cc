// Files over the socket: attributes, OPEN to RELEASE, data, and what moves data on the host.
#include <linux/falloc.h>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

class Files : public DaemonTest {
 protected:
  // A file of the guest's, open for both.
  void make(std::string_view name, std::string_view content = {}) {
    const auto created = client().create(kRootNode, name);
    ASSERT_TRUE(created.has_value());
    node = NodeId{created->entry.nodeid};
    handle = created->open.fh;
    if (!content.empty()) {
      ASSERT_EQ(client().write(node, handle, 0, content), content.size());
    }
  }
  NodeId node;
  std::uint64_t handle = 0;
};

TEST_F(Files, Create_MakesAndOpens) {
  boot();
  const auto created = client().create(kRootNode, "file", O_RDWR | O_EXCL, 0640);
  ASSERT_TRUE(created.has_value());
  EXPECT_EQ(stat_host("file").st_mode, S_IFREG | 0640u);
  EXPECT_EQ(created->entry.attr.ino, stat_host("file").st_ino);
  EXPECT_EQ(client().write(NodeId{created->entry.nodeid}, created->open.fh, 0, "hello"), 5u);
  EXPECT_EQ(read_host("file"), "hello");
  EXPECT_EQ(error_of(client().create(kRootNode, "file", O_RDWR | O_EXCL)), EEXIST);
  EXPECT_EQ(client().release(NodeId{created->entry.nodeid}, created->open.fh), 0);
  EXPECT_EQ(client().release(NodeId{created->entry.nodeid}, created->open.fh), EBADF);
}

TEST_F(Files, Getattr_ByNodeAndByHandle) {
  boot();
  make("file", "123");
  EXPECT_EQ(client().getattr(node)->size, 3u);
  std::filesystem::remove(host("file"));
  fuse_getattr_in in{};
  in.getattr_flags = FUSE_GETATTR_FH;
  in.fh = handle;
  const Answer answer = client().send(make_request(FUSE_GETATTR, node, in));
  EXPECT_EQ(answer.as<fuse_attr_out>().attr.nlink, 0u);
  EXPECT_EQ(answer.as<fuse_attr_out>().attr.size, 3u);
}

TEST_F(Files, Setattr_ChangesModeSizeAndTimes) {
  boot();
  make("file", "123456");
  fuse_setattr_in in{};
  in.valid = FATTR_MODE | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME;
  in.mode = S_IFREG | 0600;
  in.size = 4;
  in.atime = 1'000'000'000;
  in.atimensec = 7;
  in.mtime = 1'100'000'000;
  in.mtimensec = 9;
  const auto attr = client().setattr(node, in);
  ASSERT_TRUE(attr.has_value());
  EXPECT_EQ(attr->mode, S_IFREG | 0600u);
  EXPECT_EQ(attr->size, 4u);
  const auto found = stat_host("file");
  EXPECT_EQ(found.st_mode, S_IFREG | 0600u);
  EXPECT_EQ(found.st_size, 4);
  EXPECT_EQ(found.st_atim.tv_sec, 1'000'000'000);
  EXPECT_EQ(found.st_mtim.tv_nsec, 9);
}

TEST_F(Files, Setattr_GrowsThroughAHandle) {
  boot();
  make("file", "12");
  fuse_setattr_in in{};
  in.valid = FATTR_SIZE | FATTR_FH;
  in.fh = handle;
  in.size = 1 << 20;
  EXPECT_EQ(client().setattr(node, in)->size, 1u << 20);
  EXPECT_EQ(stat_host("file").st_size, 1 << 20);
}

TEST_F(Files, Setattr_ChangesTheOwnerForRoot) {
  FUSEWIRE_NEEDS_ROOT();
  boot();
  make("file");
  fuse_setattr_in in{};
  in.valid = FATTR_UID | FATTR_GID;
  in.uid = 1001;
  in.gid = 1002;
  EXPECT_EQ(client().setattr(node, in)->uid, 1001u);
  EXPECT_EQ(stat_host("file").st_gid, 1002u);
}

TEST_F(Files, Write_ClearsSetuidAsKillprivAsks) {
  FUSEWIRE_NEEDS_ROOT();
  boot();
  make("file", "x");
  std::filesystem::permissions(host("file"), std::filesystem::perms(04755));
  fuse_write_in in{};
  in.fh = handle;
  in.size = 1;
  in.write_flags = FUSE_WRITE_KILL_SUIDGID;
  EXPECT_EQ(client().send(make_request(FUSE_WRITE, node, in).bytes(as_bytes("y"))).error, 0);
  EXPECT_EQ(stat_host("file").st_mode & 07777, 0755u);
}

TEST_F(Files, Read_ShortAtTheEndAndEmptyBehindIt) {
  write_host("file", "0123456789");
  boot();
  const NodeId known = *client().walk("file");
  const auto opened = client().open(known, O_RDONLY);
  ASSERT_TRUE(opened.has_value());
  EXPECT_EQ(client().read(known, opened->fh, 0, 4), "0123");
  EXPECT_EQ(client().read(known, opened->fh, 8, 100), "89");
  EXPECT_EQ(client().read(known, opened->fh, 10, 100), "");
  EXPECT_EQ(client().read(known, opened->fh, 1 << 30, 100), "");
  EXPECT_EQ(error_of(client().write(known, opened->fh, 0, "x")), EBADF);
}

TEST_F(Files, Write_SparseAndAppend) {
  boot();
  make("file");
  EXPECT_EQ(client().write(node, handle, 100'000, "far"), 3u);
  EXPECT_EQ(stat_host("file").st_size, 100'003);
  EXPECT_EQ(client().read(node, handle, 50'000, 3), std::string(3, '\0'));
  // The host has appended in the meantime: the guest's offset is old.
  std::filesystem::resize_file(host("file"), 100'010);
  EXPECT_EQ(client().write(node, handle, 100'003, "end", O_RDWR | O_APPEND), 3u);
  EXPECT_EQ(read_host("file").substr(100'010), "end");
}

TEST_F(Files, DataOfEverySize_RoundTrips) {
  boot();
  make("file");
  for (const std::size_t size : {1u, 511u, 4096u, 4097u, 131'072u, 1u << 20}) {
    const std::string data = pattern(size, static_cast<unsigned>(size));
    ASSERT_EQ(client().write(node, handle, 3, data), size);
    EXPECT_EQ(read_host("file").substr(3, size), data);
    EXPECT_EQ(client().read(node, handle, 3, static_cast<std::uint32_t>(size)), data);
  }
}

TEST_F(Files, OpenTruncates) {
  write_host("file", "content");
  boot();
  const NodeId known = *client().walk("file");
  EXPECT_TRUE(client().open(known, O_RDWR | O_TRUNC).has_value());
  EXPECT_EQ(read_host("file"), "");
}

TEST_F(Files, UnlinkedOpenFile_KeepsWorking) {
  boot();
  make("file", "content");
  EXPECT_EQ(client().send(make_request(FUSE_UNLINK, kRootNode).name("file").room(0)).error, 0);
  EXPECT_EQ(client().read(node, handle, 0, 7), "content");
  EXPECT_EQ(client().write(node, handle, 7, "!"), 1u);
  EXPECT_EQ(client().getattr(node)->size, 8u);
}

TEST_F(Files, FlushFsyncSyncfs_Succeed) {
  boot();
  make("file", "content");
  fuse_flush_in flush{};
  flush.fh = handle;
  EXPECT_EQ(client().send(make_request(FUSE_FLUSH, node, flush).room(0)).error, 0);
  for (const unsigned flags : {0u, unsigned{FUSE_FSYNC_FDATASYNC}}) {
    fuse_fsync_in fsync{};
    fsync.fh = handle;
    fsync.fsync_flags = flags;
    EXPECT_EQ(client().send(make_request(FUSE_FSYNC, node, fsync).room(0)).error, 0);
  }
  EXPECT_EQ(client().send(make_request(FUSE_SYNCFS, kRootNode, fuse_syncfs_in{}).room(0)).error, 0);
  flush.fh = 999;
  EXPECT_EQ(client().send(make_request(FUSE_FLUSH, node, flush).room(0)).error, EBADF);
}

TEST_F(Files, Statfs_TellsTheHostsFileSystem) {
  boot();
  const Answer answer = client().send(make_request(FUSE_STATFS, kRootNode).room(sizeof(fuse_statfs_out)));
  ASSERT_EQ(answer.error, 0);
  EXPECT_NE(answer.as<fuse_statfs_out>().st.blocks, 0u);
  EXPECT_EQ(answer.as<fuse_statfs_out>().st.namelen, 255u);
}

TEST_F(Files, Access_JudgesByTheCallersIds) {
  FUSEWIRE_NEEDS_ROOT();
  write_host("file", "");
  std::filesystem::permissions(host("file"), std::filesystem::perms(0600));
  boot();
  const NodeId known = *client().walk("file");
  const auto access = [&](std::uint32_t uid, std::uint32_t mask) {
    fuse_access_in in{};
    in.mask = mask;
    return client().send(Request(FUSE_ACCESS, known).uid(uid).gid(uid).arg(in).room(0)).error;
  };
  EXPECT_EQ(access(0, R_OK | W_OK), 0);
  EXPECT_EQ(access(1000, R_OK), EACCES);
  EXPECT_EQ(access(1000, F_OK), 0);
}

TEST_F(Files, Fallocate_AllocatesAndPunches) {
  boot();
  make("file", pattern(65536));
  fuse_fallocate_in in{};
  in.fh = handle;
  in.length = 1 << 20;
  EXPECT_EQ(client().send(make_request(FUSE_FALLOCATE, node, in).room(0)).error, 0);
  EXPECT_EQ(stat_host("file").st_size, 1 << 20);
  in.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  in.offset = 4096;
  in.length = 8192;
  EXPECT_EQ(client().send(make_request(FUSE_FALLOCATE, node, in).room(0)).error, 0);
  EXPECT_EQ(read_host("file").substr(4096, 8192), std::string(8192, '\0'));
}

TEST_F(Files, Lseek_FindsDataAndHoles) {
  boot();
  make("file");
  ASSERT_EQ(client().write(node, handle, 1 << 20, "data"), 4u);
  const auto seek = [&](std::uint64_t offset, std::uint32_t whence) {
    fuse_lseek_in in{};
    in.fh = handle;
    in.offset = offset;
    in.whence = whence;
    return client().send(make_request(FUSE_LSEEK, node, in).room(sizeof(fuse_lseek_out)));
  };
  EXPECT_EQ(seek(0, SEEK_DATA).as<fuse_lseek_out>().offset, 1u << 20);
  EXPECT_EQ(seek(0, SEEK_HOLE).as<fuse_lseek_out>().offset, 0u);
  EXPECT_EQ(seek(2 << 20, SEEK_DATA).error, ENXIO);
}

TEST_F(Files, CopyFileRange_BothForms) {
  boot();
  const std::string data = pattern(300'000);
  make("from", data);
  const NodeId from = node;
  const std::uint64_t from_handle = handle;
  make("to");
  fuse_copy_file_range_in in{};
  in.fh_in = from_handle;
  in.off_in = 100;
  in.nodeid_out = node.get();
  in.fh_out = handle;
  in.off_out = 10;
  in.len = 200'000;
  const Answer old_form =
      client().send(make_request(FUSE_COPY_FILE_RANGE, from, in).room(sizeof(fuse_write_out)));
  EXPECT_EQ(old_form.as<fuse_write_out>().size, 200'000u);
  EXPECT_EQ(read_host("to").substr(10), data.substr(100, 200'000));
  in.len = std::uint64_t{1} << 40;  // to the end
  const Answer new_form =
      client().send(make_request(FUSE_COPY_FILE_RANGE_64, from, in).room(sizeof(CopyFileRangeOut)));
  EXPECT_EQ(new_form.as<CopyFileRangeOut>().bytes_copied, 299'900u);
  EXPECT_EQ(read_host("to").substr(10), data.substr(100));
}

TEST_F(Files, Tmpfile_HasNoNameUntilLinked) {
  boot();
  fuse_create_in in{};
  in.flags = O_RDWR;
  in.mode = S_IFREG | 0644;
  const Answer answer =
      client().send(make_request(FUSE_TMPFILE, kRootNode, in).name("/").room(sizeof(CreateOut)));
  ASSERT_EQ(answer.error, 0);
  const auto created = answer.as<CreateOut>();
  EXPECT_EQ(client().write(NodeId{created.entry.nodeid}, created.open.fh, 0, "unnamed"), 7u);
  EXPECT_TRUE(std::filesystem::is_empty(share()));
  EXPECT_EQ(client()
                .send(make_request(FUSE_LINK, kRootNode, fuse_link_in{.oldnodeid = created.entry.nodeid})
                          .name("named"))
                .error,
            0);
  EXPECT_EQ(read_host("named"), "unnamed");
}

TEST_F(Files, Statx_HasTheBirthTime) {
  boot();
  make("file", "12345");
  struct statx found = {};
  ASSERT_EQ(::statx(AT_FDCWD, host("file").c_str(), 0, STATX_BASIC_STATS | STATX_BTIME, &found), 0);
  StatxIn in{};
  in.sx_mask = STATX_BASIC_STATS | STATX_BTIME;
  const Answer answer = client().send(make_request(FUSE_STATX, node, in));
  ASSERT_EQ(answer.error, 0);
  const auto out = answer.as<StatxOut>();
  EXPECT_EQ(out.stat.size, 5u);
  EXPECT_EQ(out.stat.ino, found.stx_ino);
  EXPECT_EQ(out.stat.mode, found.stx_mode);
  EXPECT_EQ(out.stat.btime.tv_sec, found.stx_btime.tv_sec);
  EXPECT_EQ(out.stat.btime.tv_nsec, found.stx_btime.tv_nsec);
}

TEST_F(Files, OperationsThatNobodyServes_AreEnosys) {
  boot();
  make("file");
  EXPECT_EQ(client().send(make_request(FUSE_BMAP, node, fuse_bmap_in{})).error, ENOSYS);
  EXPECT_EQ(client().send(make_request(FUSE_IOCTL, node, fuse_ioctl_in{})).error, ENOSYS);
  EXPECT_EQ(client().send(make_request(FUSE_POLL, node, fuse_poll_in{})).error, ENOSYS);
  EXPECT_EQ(client().send(make_request(FUSE_SETUPMAPPING, node, fuse_setupmapping_in{})).error, ENOSYS);
  EXPECT_EQ(client()
                .send(make_request(FUSE_REMOVEMAPPING, node, fuse_removemapping_in{.count = 1})
                          .arg(fuse_removemapping_one{}))
                .error,
            ENOSYS);
  EXPECT_EQ(client().send(make_request(CUSE_INIT, node, cuse_init_in{})).error, ENOSYS);
  EXPECT_EQ(client().send(make_request(54, node)).error, ENOSYS);
  EXPECT_EQ(client().send(make_request(0xffff'ffff, node)).error, ENOSYS);
  EXPECT_FALSE(
      client().send(make_request(FUSE_NOTIFY_REPLY, node, fuse_notify_retrieve_in{}).room(-1)).replied);
  expect_alive();
}

TEST_F(Files, DirectIo_ReadsAndWrites) {
  const std::string data = pattern(65536);
  write_host("file", data);
  boot({"--allow-direct-io"});
  const NodeId known = *client().walk("file");
  const auto opened = client().open(known, O_RDWR | O_DIRECT);
  ASSERT_TRUE(opened.has_value());
  EXPECT_EQ(client().read(known, opened->fh, 4096, 8192), data.substr(4096, 8192));
  EXPECT_EQ(client().write(known, opened->fh, 0, pattern(4096, 2), O_RDWR | O_DIRECT), 4096u);
  EXPECT_EQ(read_host("file"), pattern(4096, 2) + data.substr(4096));
}

}  // namespace
}  // namespace fusewire::tests
