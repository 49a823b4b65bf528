// Real mounts of the kernel: these need /dev/fuse and root, and are skipped without.
#include "devfuse/mount.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <fstream>
#include <utility>
#include <vector>

#include "devfuse/fusermount.h"

namespace fusewire::devfuse {
namespace {

using testing::HasSubstr;

class MountTest : public testing::Test {
 protected:
  MountTest() {
    EXPECT_NE(mkdtemp(folder_), nullptr);
    path_ = folder_;
  }
  ~MountTest() override {
    umount2(folder_, MNT_DETACH);  // what a failed test left
    rmdir(folder_);
  }
  // Why there can be no mount here; empty: there can.
  static std::string missing() {
    if (geteuid() != 0) return "needs root";
    return access("/dev/fuse", R_OK | W_OK) == 0 ? "" : "needs /dev/fuse";
  }
  Mount::Made mount() const {
    MountOptions options;
    options.fsname = "a,b";
    options.subtype = "test";
    auto made = Mount::create(path_, options);
    EXPECT_TRUE(made) << made.error();
    if (!made) abort();
    return *std::move(made);
  }
  // The line of /proc/mounts for the folder.
  std::string line() const {
    std::ifstream mounts("/proc/mounts");
    for (std::string text; std::getline(mounts, text);)
      if (text.contains(" " + path_ + " ")) return text;
    return "";
  }

  char folder_[32] = "/tmp/mount_test_XXXXXX";
  std::string path_;
};

// The error of a read once `channel` has something to say.
int await_error(const Channel& channel) {
  std::vector<std::byte> room(Channel::kLeastRoom);
  for (;;) {
    const auto size = channel.read(room);
    if (!size && size.error().value != EAGAIN) return size.error().value;
    pollfd watched{channel.fd(), POLLIN, 0};
    poll(&watched, 1, -1);
  }
}

TEST_F(MountTest, Resolve_WhatCannotBeMountedOn_IsRefusedByName) {
  EXPECT_THAT(Mount::resolve("/no/such/place").error(), HasSubstr("/no/such/place: No such file"));
  EXPECT_THAT(Mount::resolve("/dev/null").error(), HasSubstr("/dev/null: it is neither a directory nor"));
  // Only asked, never tried: an unmount that goes wrong takes the system's root away.
  for (const char* root : {"/", "//", "/tmp/.."})
    EXPECT_THAT(Mount::resolve(root).error(), HasSubstr("it is the root directory"));
  EXPECT_EQ(Mount::resolve(path_ + "/../" + path_.substr(5)), path_);
}

TEST_F(MountTest, Create_OnARegularFile_HasARootOfThatType) {
  if (const std::string text = missing(); !text.empty()) GTEST_SKIP() << text;
  const std::string file = path_ + "/file";
  std::ofstream(file) << "below";
  {
    const auto made = Mount::create(file, {});
    ASSERT_TRUE(made) << made.error();
    EXPECT_TRUE(made->mount.is_mounted());
    struct statx status{};
    ASSERT_EQ(statx(AT_FDCWD, file.c_str(), AT_STATX_DONT_SYNC, STATX_TYPE, &status), 0);
    EXPECT_TRUE(S_ISREG(status.stx_mode));
  }
  std::string text;
  std::ifstream(file) >> text;
  EXPECT_EQ(text, "below") << "unmounted";
  ASSERT_EQ(unlink(file.c_str()), 0);
}

TEST_F(MountTest, Create_ShowsAMount_WhoseFirstRequestIsInit) {
  if (const std::string text = missing(); !text.empty()) GTEST_SKIP() << text;
  const auto made = mount();
  EXPECT_TRUE(made.mount.is_mounted());
  EXPECT_THAT(line(), testing::StartsWith("a,b "));
  EXPECT_THAT(line(), HasSubstr(" fuse.test "));
  pollfd watched{made.channel.fd(), POLLIN, 0};
  ASSERT_EQ(poll(&watched, 1, -1), 1);
  std::vector<std::byte> room(Channel::kLeastRoom);
  const auto size = made.channel.read(room);
  ASSERT_TRUE(size);
  fuse_in_header header{};
  std::memcpy(&header, room.data(), sizeof header);
  EXPECT_EQ(header.opcode, static_cast<std::uint32_t>(FUSE_INIT));
  EXPECT_EQ(header.len, *size);
}

TEST_F(MountTest, Channel_WithNothingToRead_DoesNotBlock_AndNeitherDoesAClone) {
  if (const std::string text = missing(); !text.empty()) GTEST_SKIP() << text;
  const auto made = mount();
  std::vector<std::byte> room(Channel::kLeastRoom);
  pollfd watched{made.channel.fd(), POLLIN, 0};
  ASSERT_EQ(poll(&watched, 1, -1), 1);
  ASSERT_TRUE(made.channel.read(room));
  const auto clone = made.channel.clone();
  ASSERT_TRUE(clone);
  EXPECT_EQ(made.channel.read(room).error().value, EAGAIN);
  EXPECT_EQ(clone->read(room).error().value, EAGAIN);
}

TEST_F(MountTest, Unmount_EndsTheChannel) {
  if (const std::string text = missing(); !text.empty()) GTEST_SKIP() << text;
  auto made = mount();
  EXPECT_TRUE(made.mount.unmount(Mount::Mode::lazy).has_value());
  EXPECT_FALSE(made.mount.is_mounted());
  EXPECT_EQ(line(), "");
  EXPECT_EQ(await_error(made.channel), ENODEV);
  EXPECT_TRUE(made.mount.unmount(Mount::Mode::clean).has_value()) << "a second time there is nothing to do";
}

TEST_F(MountTest, Write_OfAReplyThatNobodyWaitsFor_IsAnError) {
  if (const std::string text = missing(); !text.empty()) GTEST_SKIP() << text;
  const auto made = mount();
  fuse_out_header header{.len = sizeof header, .error = -EIO, .unique = 4242};
  const iovec piece{&header, sizeof header};
  EXPECT_EQ(made.channel.write({&piece, 1}).error().value, ENOENT);
}

TEST_F(MountTest, Destructor_Unmounts) {
  if (const std::string text = missing(); !text.empty()) GTEST_SKIP() << text;
  {
    auto made = mount();
    const Channel channel = std::move(made.channel);
    const Mount moved = std::move(made.mount);
    EXPECT_TRUE(moved.is_mounted());
    EXPECT_FALSE(made.mount.is_mounted());  // NOLINT(bugprone-use-after-move): what it says of itself
  }
  EXPECT_EQ(line(), "");
}

TEST_F(MountTest, DirectoryAboveThatIsRenamed_TakesTheMountAlong_WhichIsStillOurs) {
  if (const std::string text = missing(); !text.empty()) GTEST_SKIP() << text;
  const std::string folder = path_;
  const std::string renamed = folder + " \\1";  // escaped in /proc/self/mountinfo
  path_ = folder + "/below";
  ASSERT_EQ(mkdir(path_.c_str(), 0755), 0);
  {
    const auto made = mount();
    ASSERT_EQ(rename(folder.c_str(), renamed.c_str()), 0);
    EXPECT_TRUE(made.mount.is_mounted());
  }
  EXPECT_EQ(rmdir((renamed + "/below").c_str()), 0) << "it is mounted still";
  ASSERT_EQ(rename(renamed.c_str(), folder.c_str()), 0);
  path_ = folder;
}

TEST_F(MountTest, SourceWithoutAName_IsTheSubtype) {
  if (const std::string text = missing(); !text.empty()) GTEST_SKIP() << text;
  MountOptions options;
  options.subtype = "test";
  const auto made = Mount::create(path_, options);
  ASSERT_TRUE(made) << made.error();
  EXPECT_TRUE(line().starts_with("test " + path_ + " fuse.test ")) << line();
}

TEST_F(MountTest, ByFusermount_InAProgramThatIgnoresSigchld) {
  if (const std::string text = missing(); !text.empty()) GTEST_SKIP() << text;
  const auto before = signal(SIGCHLD, SIG_IGN);
  const auto made = fusermount_mount(path_, "rw,fsname=test", false);
  EXPECT_TRUE(made) << made.error();
  EXPECT_NE(line(), "");
  EXPECT_TRUE(fusermount_unmount(path_, true));
  EXPECT_EQ(line(), "");
  signal(SIGCHLD, before);
}

// The numbers of a mount that has gone are given to the next one.
TEST_F(MountTest, LaterMountWithTheSameNumbers_IsLeftAlone) {
  if (const std::string text = missing(); !text.empty()) GTEST_SKIP() << text;
  const std::string other = path_ + "/other";
  auto first = mount();
  EXPECT_TRUE(first.channel.is_connected());
  ASSERT_EQ(umount2(path_.c_str(), MNT_DETACH), 0);
  EXPECT_FALSE(first.channel.is_connected());
  ASSERT_EQ(mkdir(other.c_str(), 0755), 0);
  const std::string place = std::exchange(path_, other);
  {
    const auto second = mount();
    EXPECT_FALSE(first.mount.is_mounted());
    EXPECT_TRUE(first.mount.unmount(Mount::Mode::lazy));
    EXPECT_TRUE(second.mount.is_mounted());
  }
  EXPECT_EQ(rmdir(other.c_str()), 0);
  path_ = place;
}

TEST_F(MountTest, WhatSomebodyElseMountedThere_IsLeftAlone) {
  if (const std::string text = missing(); !text.empty()) GTEST_SKIP() << text;
  {
    auto made = mount();
    ASSERT_EQ(::mount("other", path_.c_str(), "tmpfs", 0, nullptr), 0);
    EXPECT_FALSE(made.mount.is_mounted());
    EXPECT_TRUE(made.mount.unmount(Mount::Mode::lazy).has_value());
  }
  struct stat status{};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & S_ISVTX, S_ISVTX) << "the root of the tmpfs";
  ASSERT_EQ(umount2(path_.c_str(), MNT_DETACH), 0);
}

}  // namespace
}  // namespace fusewire::devfuse
