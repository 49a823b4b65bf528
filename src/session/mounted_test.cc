#include "fusewire/session.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

#include "devfuse/channel.h"
#include "fusewire/unique_fd.h"

namespace fusewire {
namespace {

// An empty folder that answers for itself.
class EmptyFs final : public FileSystem {
 public:
  Result<void> init(Negotiation&) override {
    ready.set_value();
    return {};
  }
  void destroy() override { destroyed = true; }
  void lookup(Call<op::Lookup> call) override { std::move(call.reply).error(ENOENT); }
  void getattr(Call<op::Getattr> call) override {
    fuse_attr_out out{};
    out.attr.ino = 1;
    out.attr.mode = S_IFDIR | 0755;
    out.attr.nlink = 4711;
    std::move(call.reply).ok(out);
  }
  std::promise<void> ready;
  std::atomic<bool> destroyed{false};
};

class MountedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/fusewire-session-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { rmdir(folder_.c_str()); }
  nlink_t links() const {
    struct stat status{};
    return stat(folder_.c_str(), &status) == 0 ? status.st_nlink : 0;
  }

  EmptyFs fs_;
  std::string folder_;
};

TEST_F(MountedTest, UnknownOption_IsRefusedByName) {
  const auto session = Session::mount(fs_, folder_, {.options = "ro,frobnicate"});
  ASSERT_FALSE(session);
  EXPECT_NE(session.error().find("frobnicate"), std::string::npos);
}

TEST_F(MountedTest, NoThreads_AreRefused) { EXPECT_FALSE(Session::mount(fs_, folder_, {.threads = 0})); }

TEST_F(MountedTest, Stop_Unmounts) {
  auto session = Session::mount(fs_, folder_, {.options = "fsname=empty,subtype=test"});
  if (!session) GTEST_SKIP() << session.error();
  auto ended = std::async(std::launch::async, [&] { return (*session)->run(); });
  EXPECT_EQ(links(), 4711u);
  (*session)->stop();
  const auto outcome = ended.get();
  EXPECT_TRUE(outcome) << outcome.error();
  EXPECT_TRUE(fs_.destroyed);
  EXPECT_NE(links(), 4711u);
  EXPECT_FALSE((*session)->run());
}

TEST_F(MountedTest, SessionThatNeverRan_Unmounts) {
  auto session = Session::mount(fs_, folder_, {.options = "fsname=empty"});
  if (!session) GTEST_SKIP() << session.error();
  session->reset();
  EXPECT_EQ(rmdir(folder_.c_str()), 0);
}

TEST_F(MountedTest, UnmountFromOutside_EndsRun) {
  auto session = Session::mount(fs_, folder_, {.threads = 1, .clone_fd = true});
  if (!session) GTEST_SKIP() << session.error();
  auto ended = std::async(std::launch::async, [&] { return (*session)->run(); });
  fs_.ready.get_future().wait();
  EXPECT_EQ(links(), 4711u);
  if (umount2(folder_.c_str(), MNT_DETACH) != 0) (*session)->stop();
  EXPECT_TRUE(ended.get());
}

TEST_F(MountedTest, InheritedDescriptor_IsServed) {
  auto channel = devfuse::Channel::open();
  if (!channel) GTEST_SKIP() << "no /dev/fuse";
  const std::string data = "fd=" + std::to_string(channel->fd()) + ",rootmode=40000,user_id=0,group_id=0";
  if (::mount("fuse", folder_.c_str(), "fuse", MS_NOSUID | MS_NODEV, data.c_str()) != 0)
    GTEST_SKIP() << "needs root";
  auto session = Session::mount(fs_, "/dev/fd/" + std::to_string(dup(channel->fd())));
  ASSERT_TRUE(session) << session.error();
  auto ended = std::async(std::launch::async, [&] { return (*session)->run(); });
  EXPECT_EQ(links(), 4711u);
  EXPECT_EQ(umount2(folder_.c_str(), MNT_DETACH), 0);
  EXPECT_TRUE(ended.get());
}

TEST_F(MountedTest, DeadMountOfOurs_IsReplaced) {
  auto channel = devfuse::Channel::open();
  if (!channel) GTEST_SKIP() << "no /dev/fuse";
  const std::string data = "fd=" + std::to_string(channel->fd()) + ",rootmode=40000,user_id=0,group_id=0";
  if (::mount("fuse", folder_.c_str(), "fuse", MS_NOSUID | MS_NODEV, data.c_str()) != 0)
    GTEST_SKIP() << "needs root";
  *channel = *devfuse::Channel::open();  // closes the first: its process has died
  struct stat status{};
  ASSERT_NE(stat(folder_.c_str(), &status), 0);
  ASSERT_EQ(errno, ENOTCONN);
  auto session = Session::mount(fs_, folder_);
  ASSERT_TRUE(session) << session.error();
  session->reset();
  EXPECT_EQ(rmdir(folder_.c_str()), 0) << "something is still mounted";
}

}  // namespace
}  // namespace fusewire
