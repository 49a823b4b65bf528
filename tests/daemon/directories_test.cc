// OPENDIR to RELEASEDIR over the socket.
#include <dirent.h>

#include <cstring>
#include <set>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

class Directories : public DaemonTest {
 protected:
  void make_files(int count) {
    for (int i = 0; i < count; ++i) write_host("file" + std::to_string(i), "");
  }
  static std::multiset<std::string> names_of(const std::vector<DirectoryEntry>& entries) {
    std::multiset<std::string> names;
    for (const auto& entry : entries) names.insert(entry.name);
    return names;
  }
  std::multiset<std::string> names_on_host() const {
    std::multiset<std::string> names{".", ".."};
    for (const auto& entry : std::filesystem::directory_iterator(share()))
      names.insert(entry.path().filename().string());
    return names;
  }
};

TEST_F(Directories, Readdir_HasEveryEntryOnce) {
  make_files(1000);
  std::filesystem::create_directory(host("dir"));
  boot();
  const auto opened = client().opendir(kRootNode);
  ASSERT_TRUE(opened.has_value());
  const auto entries = client().readdir(kRootNode, opened->fh);
  ASSERT_TRUE(entries.has_value());
  EXPECT_EQ(names_of(*entries), names_on_host());
  for (const auto& entry : *entries) {
    if (entry.name == "dir") {
      EXPECT_EQ(entry.type, std::uint32_t{DT_DIR});
    }
    if (entry.name == "file7") {
      EXPECT_EQ(entry.ino, stat_host("file7").st_ino);
    }
  }
  EXPECT_EQ(client().releasedir(kRootNode, opened->fh), 0);
  EXPECT_EQ(client().releasedir(kRootNode, opened->fh), EBADF);
}

TEST_F(Directories, Readdirplus_CountsALookupForEachEntry) {
  make_files(50);
  boot();
  const auto before = daemon().descriptors();
  const auto opened = client().opendir(kRootNode);
  const auto entries = client().readdir(kRootNode, opened->fh, true);
  ASSERT_TRUE(entries.has_value());
  EXPECT_EQ(names_of(*entries), names_on_host());
  for (const auto& entry : *entries) {
    if (entry.name == "." || entry.name == "..") {
      EXPECT_EQ(entry.entry.nodeid, 0u);
      continue;
    }
    EXPECT_EQ(entry.entry.attr.ino, stat_host(entry.name).st_ino);
    EXPECT_TRUE(client().getattr(NodeId{entry.entry.nodeid}).has_value());
    client().forget(NodeId{entry.entry.nodeid}, 1);
    EXPECT_EQ(error_of(client().getattr(NodeId{entry.entry.nodeid})), ESTALE);
  }
  EXPECT_EQ(client().releasedir(kRootNode, opened->fh), 0);
  EXPECT_EQ(daemon().descriptors(), before);
}

TEST_F(Directories, Offsets_AreThePlaceToGoOn) {
  make_files(200);
  boot();
  const auto opened = client().opendir(kRootNode);
  const auto all = *client().readdir(kRootNode, opened->fh);
  for (const std::size_t at : {0u, 1u, 57u, 150u, 201u}) {
    const auto rest = client().readdir(kRootNode, opened->fh, false, all[at].offset, 500);
    ASSERT_TRUE(rest.has_value());
    ASSERT_EQ(rest->size(), all.size() - at - 1);
    if (!rest->empty()) {
      EXPECT_EQ(rest->front().name, all[at + 1].name);
    }
  }
  // Through another handle too, as NFS and a rebooted host's clients do.
  const auto second = client().opendir(kRootNode);
  EXPECT_EQ(client().readdir(kRootNode, second->fh, false, all[57].offset)->front().name, all[58].name);
}

TEST_F(Directories, EntriesThatComeAndGo_DoNotDisturbTheOthers) {
  make_files(500);
  boot();
  const auto opened = client().opendir(kRootNode);
  std::multiset<std::string> seen;
  std::uint64_t offset = 0;
  int round = 0;
  for (;;) {
    fuse_read_in in{};
    in.fh = opened->fh;
    in.offset = offset;
    in.size = 1024;
    const Answer answer = client().send(make_request(FUSE_READDIR, kRootNode, in).room(1024));
    ASSERT_EQ(answer.error, 0);
    if (answer.body.empty()) break;
    for (std::size_t at = 0; at < answer.body.size();) {
      fuse_dirent header{};
      std::memcpy(&header, answer.body.data() + at, FUSE_NAME_OFFSET);
      seen.emplace(answer.text().substr(at + FUSE_NAME_OFFSET, header.namelen));
      offset = header.off;
      at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + header.namelen);
    }
    std::filesystem::remove(host("file" + std::to_string(499 - round)));
    write_host("new" + std::to_string(round++), "");
  }
  for (int i = 0; i < 499 - round; ++i) EXPECT_EQ(seen.count("file" + std::to_string(i)), 1u) << i;
}

TEST_F(Directories, RoomTooSmallForOneEntry_IsEinval) {
  write_host(std::string(200, 'n'), "");
  boot();
  const auto opened = client().opendir(kRootNode);
  fuse_read_in in{};
  in.fh = opened->fh;
  in.size = 10;
  EXPECT_EQ(client().send(make_request(FUSE_READDIR, kRootNode, in).room(10)).error, EINVAL);
}

TEST_F(Directories, Fsyncdir_Succeeds) {
  boot();
  const auto opened = client().opendir(kRootNode);
  fuse_fsync_in in{};
  in.fh = opened->fh;
  EXPECT_EQ(client().send(make_request(FUSE_FSYNCDIR, kRootNode, in).room(0)).error, 0);
  in.fh = 12345;
  EXPECT_EQ(client().send(make_request(FUSE_FSYNCDIR, kRootNode, in).room(0)).error, EBADF);
}

TEST_F(Directories, Opendir_OfAFile_IsEnotdir) {
  write_host("file", "");
  boot();
  EXPECT_EQ(error_of(client().opendir(*client().walk("file"))), ENOTDIR);
}

TEST_F(Directories, ParentOfTheRoot_IsNotShown) {
  boot();
  const auto opened = client().opendir(kRootNode);
  const auto entries = client().readdir(kRootNode, opened->fh);
  ASSERT_TRUE(entries.has_value());
  for (const auto& entry : *entries) EXPECT_EQ(entry.ino, stat_host(".").st_ino) << entry.name;
  const auto parent = client().lookup(kRootNode, "..");
  if (parent) {
    EXPECT_EQ(parent->nodeid, kRootNode.get());
  }
}

}  // namespace
}  // namespace fusewire::tests
