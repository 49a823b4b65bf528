#include "fusewire/session.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <future>
#include <thread>

#include "devfuse/channel.h"
#include "devfuse/sync_init.h"
#include "fusewire/unique_fd.h"

namespace fusewire {
namespace {

// An empty folder that answers for itself.
class EmptyFs final : public FileSystem {
 public:
  Result<void> init(Negotiation&) override {
    if (init_error != 0) return fail(init_error);
    if (hangs_after_telling >= 0) {
      EXPECT_EQ(::write(hangs_after_telling, "i", 1), 1);
      for (;;) pause();
    }
    started = true;
    ready.set_value();
    return {};
  }
  void destroy() override { destroyed = true; }
  void lookup(Call<op::Lookup> call) override { std::move(call.reply).error(ENOENT); }
  void getattr(Call<op::Getattr> call) override {
    if (root_error != 0) return std::move(call.reply).error(root_error);
    fuse_attr_out out{};
    out.attr.ino = 1;
    out.attr.mode = S_IFDIR | 0755;
    out.attr.nlink = 4711;
    std::move(call.reply).ok(out);
  }
  std::promise<void> ready;
  int init_error = 0;
  std::atomic<int> root_error{0};
  int hangs_after_telling = -1;
  std::atomic<bool> started{false};
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
  static bool syncs() {
    utsname system{};
    return geteuid() == 0 && uname(&system) == 0 && devfuse::SyncInit::is_safe_with(system.release);
  }
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

// Where the kernel lets INIT be a part of mount(2).
TEST_F(MountedTest, FileSystemThatDoesNotStart_IsAnErrorOfMount) {
  if (!syncs()) GTEST_SKIP() << "needs root and a kernel with a synchronous INIT";
  fs_.init_error = EDQUOT;
  const auto session = Session::mount(fs_, folder_);
  ASSERT_FALSE(session);
  EXPECT_NE(session.error().find("Disk quota exceeded"), std::string::npos) << session.error();
  EXPECT_EQ(rmdir(folder_.c_str()), 0) << "something is mounted";
  EXPECT_FALSE(fs_.destroyed);
}

TEST_F(MountedTest, MountedFileSystem_HasStarted) {
  if (!syncs()) GTEST_SKIP() << "needs root and a kernel with a synchronous INIT";
  auto session = Session::mount(fs_, folder_);
  ASSERT_TRUE(session) << session.error();
  EXPECT_TRUE(fs_.started);
  EXPECT_FALSE(fs_.destroyed);
  auto ended = std::async(std::launch::async, [&] { return (*session)->run(); });
  EXPECT_EQ(links(), 4711u);
  (*session)->stop();
  EXPECT_TRUE(ended.get());
  EXPECT_TRUE(fs_.destroyed);
}

// A file system that never starts holds up mount(2), but its process can be killed, and nothing is mounted.
TEST_F(MountedTest, ProcessKilledWhileItStarts_IsGone) {
  if (!syncs()) GTEST_SKIP() << "needs root and a kernel with a synchronous INIT";
  std::array<int, 2> in_init{};
  ASSERT_EQ(pipe(in_init.data()), 0);
  const UniqueFd told(in_init[0]), tell(in_init[1]);
  const pid_t child = fork();
  if (child == 0) {
    fs_.hangs_after_telling = tell.get();
    const auto never = Session::mount(fs_, folder_);
    _exit(1);
  }
  char byte = 0;
  EXPECT_EQ(read(told.get(), &byte, 1), 1);
  EXPECT_EQ(kill(child, SIGKILL), 0);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(rmdir(folder_.c_str()), 0) << "something is mounted";
}

// mount(2) fails before the kernel sends INIT, for which a thread waits already.
TEST_F(MountedTest, MountThatTheKernelRefuses_IsAnError) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const auto session = Session::mount(fs_, folder_, {.options = "context=none"});
  ASSERT_FALSE(session);
  EXPECT_FALSE(fs_.started);
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

TEST_F(MountedTest, InheritedDescriptorOfSomethingElse_IsRefused_AndStaysAsItIs) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  const UniqueFd reader(ends[0]), writer(ends[1]), null(open("/dev/null", O_RDWR));
  for (const int fd : {reader.get(), null.get(), 4711}) {
    const int flags = fcntl(fd, F_GETFL);
    const auto session = Session::mount(fs_, "/dev/fd/" + std::to_string(fd));
    ASSERT_FALSE(session);
    EXPECT_NE(session.error().find("is not an open /dev/fuse"), std::string::npos) << session.error();
    EXPECT_EQ(fcntl(fd, F_GETFL), flags);
  }
}

TEST_F(MountedTest, FileSystemThatAnswersAsIfItWereDead_IsNotReplaced) {
  fs_.root_error = ENOTCONN;
  auto session = Session::mount(fs_, folder_);
  if (!session) GTEST_SKIP() << session.error();
  auto ended = std::async(std::launch::async, [&] { return (*session)->run(); });
  EmptyFs other;
  const auto second = Session::mount(other, folder_);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().find("process " + std::to_string(getpid())), std::string::npos) << second.error();
  fs_.root_error = 0;
  EXPECT_EQ(links(), 4711u);
  (*session)->stop();
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
