// The daemon's beginning and end: front-ends that come and go, signals, and what stays behind.
#include <signal.h>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

class Lifecycle : public DaemonTest {
 protected:
  // What a guest does that keeps much alive: nodes, files, directories, locks.
  void use_much() {
    for (int i = 0; i < 50; ++i) {
      const std::string name = "file" + std::to_string(i);
      const auto created = client().create(kRootNode, name);
      ASSERT_TRUE(created.has_value());
      const NodeId node{created->entry.nodeid};
      EXPECT_EQ(client().write(node, created->open.fh, 0, pattern(10'000)), 10'000u);
      EXPECT_EQ(client().lock(FUSE_SETLK, node, created->open.fh, 1, F_WRLCK), 0);
    }
    EXPECT_TRUE(client().opendir(kRootNode).has_value());
  }
};

TEST_F(Lifecycle, FrontEndGoes_TheDaemonEndsWithStatus0) {
  boot();
  EXPECT_TRUE(client().mkdir(kRootNode, "dir").has_value());
  leave();
  EXPECT_EQ(daemon().wait_for_end(), 0);
  EXPECT_FALSE(std::filesystem::exists(daemon().socket_path()));
}

TEST_F(Lifecycle, FrontEndGoesInTheMiddleOfItAll_TheDaemonEndsWithStatus0) {
  boot({"--posix-lock"});
  const auto created = client().create(kRootNode, "file");
  const NodeId node{created->entry.nodeid};
  ASSERT_EQ(client().lock(FUSE_SETLK, node, created->open.fh, 1, F_WRLCK), 0);
  client().start(Client::lock_request(FUSE_SETLKW, node, created->open.fh, 2, F_WRLCK));
  const std::string data = pattern(100'000);
  for (int i = 0; i < 10; ++i)
    client().start(Client::write_request(node, created->open.fh, 0, as_bytes(data)));
  leave();
  EXPECT_EQ(daemon().wait_for_end(), 0);
}

TEST_F(Lifecycle, KeepListening_ServesOneAfterTheOtherFromTheStart) {
  start_daemon({"--keep-listening", "--posix-lock"});
  boot();
  leave();
  boot();  // the first connection may have left things that stay, such as threads
  leave();
  boot();
  const auto descriptors = daemon().descriptors();
  const auto threads = daemon().threads();
  const auto memory = daemon().anonymous_memory();
  for (int round = 0; round < 5; ++round) {
    use_much();
    const NodeId node = *client().walk("file3");
    const auto opened = client().open(node);
    EXPECT_GT(daemon().descriptors(), descriptors + 100);
    boot();
    EXPECT_EQ(daemon().descriptors(), descriptors);
    EXPECT_LE(daemon().threads(), threads + 17);  // the pool's
    // Nodes and handles of the one before are gone, and so are its locks.
    EXPECT_EQ(error_of(client().read(node, opened->fh, 0, 10)), EBADF);
    const NodeId again = *client().walk("file3");
    EXPECT_EQ(client().lock(FUSE_SETLK, again, client().open(again)->fh, 77, F_WRLCK), 0);
    boot();
    for (const auto& entry : std::filesystem::directory_iterator(share())) std::filesystem::remove(entry);
  }
  if (!kSanitized) {
    EXPECT_LE(daemon().anonymous_memory(), memory + (8u << 20));
  }
  leave();
  daemon().signal(SIGTERM);
  EXPECT_EQ(daemon().wait_for_end(), 0);
}

TEST_F(Lifecycle, KeepListening_FeaturesMayDifferEachTime) {
  start_daemon({"--keep-listening"}, {.request_queues = 4});
  for (const bool event_idx : {true, false, true}) {
    for (const unsigned indirect : {0u, 32u}) {
      boot({},
           {.request_queues = 2,
            .queue = {
                .size = indirect == 0 ? 64u : 1024u, .event_idx = event_idx, .indirect_entries = indirect}});
      EXPECT_TRUE(client().getattr(kRootNode).has_value());
    }
  }
}

TEST_F(Lifecycle, SecondFrontEnd_WaitsForTheFirst) {
  start_daemon({"--keep-listening"});
  boot();
  const UniqueFd second = daemon().connect();
  EXPECT_TRUE(static_cast<bool>(second));
  expect_alive();
}

TEST_F(Lifecycle, ConnectionWithoutAWord_IsNotTheFrontEnd) {
  start_daemon();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(static_cast<bool>(daemon().connect()));
  boot();
  expect_alive();
}

TEST_F(Lifecycle, Sigterm_WithoutAFrontEnd_EndsItAndRemovesTheSocket) {
  start_daemon({"--keep-listening"});
  (void)daemon().connect();
  ASSERT_TRUE(std::filesystem::exists(daemon().socket_path()));
  daemon().signal(SIGTERM);
  EXPECT_EQ(daemon().wait_for_end(), 0);
  EXPECT_FALSE(std::filesystem::exists(daemon().socket_path()));
}

TEST_F(Lifecycle, Sigterm_UnderLoad_EndsItWithStatus0) {
  boot({"--posix-lock"});
  use_much();
  const NodeId node = *client().walk("file1");
  const auto opened = client().open(node);
  // The lock is the one of use_much().
  client().start(Client::lock_request(FUSE_SETLKW, node, opened->fh, 99, F_WRLCK));
  daemon().signal(SIGTERM);
  EXPECT_EQ(daemon().wait_for_end(), 0);
  EXPECT_FALSE(std::filesystem::exists(daemon().socket_path()));
}

TEST_F(Lifecycle, Sigint_EndsItToo) {
  boot();
  daemon().signal(SIGINT);
  EXPECT_EQ(daemon().wait_for_end(), 0);
}

TEST_F(Lifecycle, DescriptorsReturn_WhenTheGuestForgets) {
  boot();
  const auto before = daemon().descriptors();
  for (int i = 0; i < 200; ++i) {
    const auto created = client().create(kRootNode, "file" + std::to_string(i));
    ASSERT_TRUE(created.has_value());
    EXPECT_EQ(client().release(NodeId{created->entry.nodeid}, created->open.fh), 0);
    client().forget(NodeId{created->entry.nodeid}, 1);
  }
  EXPECT_EQ(daemon().descriptors(), before);
}

TEST_F(Lifecycle, FewDescriptors_AreEnfileAndNotTheEnd) {
  boot({"--rlimit-nofile=300"});
  std::vector<std::pair<NodeId, std::uint64_t>> files;
  int error = 0;
  for (int i = 0; i < 400 && error == 0; ++i) {
    const auto created = client().create(kRootNode, "file" + std::to_string(i));
    if (created) {
      files.emplace_back(created->entry.nodeid, created->open.fh);
    } else {
      error = created.error().value;
    }
  }
  EXPECT_EQ(error, ENFILE);
  EXPECT_GE(files.size(), 50u);
  expect_alive();
  for (const auto& [node, handle] : files) {
    EXPECT_EQ(client().release(node, handle), 0);
    client().forget(node, 1);
  }
  EXPECT_TRUE(client().create(kRootNode, "after").has_value());
}

// Default options: more inodes than descriptors by far, each of them used in every way after all of them are
// known.
TEST_F(Lifecycle, FewDescriptorsAndManyInodes_AllCanBeUsed) {
  FUSEWIRE_NEEDS_ROOT();
  constexpr int kDirectories = 150;
  constexpr int kFiles = 20;
  const auto name = [](const char* what, int i) { return what + std::to_string(i); };
  for (int d = 0; d < kDirectories; ++d) {
    std::filesystem::create_directory(host(name("d", d)));
    for (int f = 0; f < kFiles; ++f) write_host(name("d", d) + "/" + name("f", f), name("", d * kFiles + f));
  }
  boot({"--rlimit-nofile=256"});
  std::vector<NodeId> directories;
  std::vector<NodeId> files;
  for (int d = 0; d < kDirectories; ++d) {
    const auto directory = client().lookup(kRootNode, name("d", d));
    ASSERT_TRUE(directory.has_value()) << error_of(directory);
    directories.emplace_back(directory->nodeid);
    for (int f = 0; f < kFiles; ++f) {
      const auto file = client().lookup(directories.back(), name("f", f));
      ASSERT_TRUE(file.has_value()) << error_of(file);
      files.emplace_back(file->nodeid);
    }
  }
  EXPECT_LE(daemon().descriptors(), 180u);
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto opened = client().open(files[i]);
    ASSERT_TRUE(opened.has_value()) << error_of(opened);
    ASSERT_EQ(client().read(files[i], opened->fh, 0, 100), name("", static_cast<int>(i)));
    ASSERT_EQ(client().release(files[i], opened->fh), 0);
  }
  for (std::size_t d = 0; d < directories.size(); ++d) {
    const auto opened = client().opendir(directories[d]);
    ASSERT_TRUE(opened.has_value()) << error_of(opened);
    const auto entries = client().readdir(directories[d], opened->fh, true);
    ASSERT_TRUE(entries.has_value()) << error_of(entries);
    for (const DirectoryEntry& entry : *entries) {
      if (entry.name[0] != 'f') continue;
      const auto f = static_cast<std::size_t>(std::stoi(entry.name.substr(1)));
      EXPECT_EQ(NodeId{entry.entry.nodeid}, files[d * kFiles + f]);
    }
    EXPECT_EQ(entries->size(), kFiles + (d == 0 ? 2u : 3u));  // "." and "..", and what has moved here
    ASSERT_EQ(client().releasedir(directories[d], opened->fh), 0);
    const NodeId next = directories[(d + 1) % directories.size()];
    const Answer renamed =
        client().send(make_request(FUSE_RENAME2, directories[d],
                                   fuse_rename2_in{.newdir = next.get(), .flags = 0, .padding = 0})
                          .name("f0")
                          .name("moved"));
    ASSERT_EQ(renamed.error, 0);
    EXPECT_EQ(NodeId{client().lookup(next, "moved")->nodeid}, files[d * kFiles]);
  }
  EXPECT_LE(daemon().descriptors(), 180u);
}

TEST_F(Lifecycle, FileHandles_KeepNoDescriptorForANode) {
  FUSEWIRE_NEEDS_ROOT();
  for (int i = 0; i < 100; ++i) write_host("file" + std::to_string(i), "");
  boot({"--inode-file-handles=prefer"});
  const auto before = daemon().descriptors();
  for (int i = 0; i < 100; ++i)
    EXPECT_TRUE(client().lookup(kRootNode, "file" + std::to_string(i)).has_value());
  EXPECT_LE(daemon().descriptors(), before + 5);
  const NodeId node = *client().walk("file7");
  EXPECT_TRUE(client().open(node).has_value());
}

}  // namespace
}  // namespace fusewire::tests
