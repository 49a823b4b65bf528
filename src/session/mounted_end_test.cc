// The end of a mounted session, and what must not keep it from coming; and file systems that do not start.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>

#include "fusewire/notifier.h"
#include "fusewire/session.h"
#include "fusewire/sync_file_system.h"
#include "fusewire/unique_fd.h"

namespace fusewire {
namespace {

using namespace std::chrono_literals;

constexpr NodeId kFile{2};

// A folder with one file, whose attributes and data are each test's business.
class OneFileFs final : public SyncFileSystem {
 public:
  Result<void> init(Negotiation& negotiation) override {
    notifier = negotiation.notifier();
    return on_init(negotiation);
  }
  Result<fuse_entry_out> do_lookup(const Request<op::Lookup>& request) override {
    if (request.tail.name != "file") return fail(ENOENT);
    return EntryAnswer{.node = kFile, .attr = attributes(kFile), .entry_valid = 1h, .attr_valid = 0s};
  }
  void getattr(Call<op::Getattr> call) override {
    if (call.header.node == kFile && on_getattr) return on_getattr(std::move(call));
    std::move(call.reply).ok(AttrAnswer{.attr = attributes(call.header.node), .attr_valid = 0s});
  }
  void read(Call<op::Read> call) override { on_read(std::move(call)); }

  static fuse_attr attributes(NodeId node) {
    fuse_attr attr{};
    attr.ino = node.get();
    attr.mode = node == kRootNode ? S_IFDIR | 0755 : S_IFREG | 0644;
    attr.nlink = 1;
    attr.size = node == kRootNode ? 0 : 1 << 20;
    return attr;
  }

  std::shared_ptr<Notifier> notifier;
  std::function<Result<void>(Negotiation&)> on_init = [](Negotiation&) { return Result<void>{}; };
  std::function<void(Call<op::Getattr>)> on_getattr;
  std::function<void(Call<op::Read>)> on_read;
};

class MountedEndTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/fusewire-session-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { EXPECT_EQ(rmdir(folder_.c_str()), 0) << "something is mounted"; }

  // Mounts and runs; false where nothing can be mounted.
  bool begin(const MountSettings& settings) {
    auto mounted = Session::mount(fs_, folder_, settings);
    if (!mounted) return false;
    session_ = *std::move(mounted);
    ended_ = std::async(std::launch::async, [this] { return session_->run(); });
    return true;
  }
  std::string stop() {
    session_->stop();
    return outcome();
  }
  std::string outcome() {
    const auto result = ended_.get();
    session_.reset();
    return result ? "" : result.error();
  }
  // stat(2) of the file, by a thread of its own: 0 or the errno.
  std::future<int> stat_file() const {
    return std::async(std::launch::async, [path = folder_ + "/file"] {
      struct stat status{};
      return stat(path.c_str(), &status) == 0 ? 0 : errno;
    });
  }
  // The error of Session::mount.
  std::string refusal(const MountSettings& settings = {}) {
    const auto mounted = Session::mount(fs_, folder_, settings);
    return mounted ? "" : mounted.error();
  }

  OneFileFs fs_;
  std::string folder_;
  std::unique_ptr<Session> session_;
  std::future<std::expected<void, std::string>> ended_;
};

// A method that looks whether it is interrupted, as request.interrupted() promises it.
TEST_F(MountedEndTest, Stop_EndsTheWaitOfAHandler) {
  for (const unsigned threads : {1U, 4U}) {
    std::promise<void> waits;
    fs_.on_getattr = [&waits](Call<op::Getattr> call) {
      waits.set_value();
      while (!call.reply.interrupted()) std::this_thread::sleep_for(1ms);
      std::move(call.reply).error(EINTR);
    };
    if (!begin({.threads = threads, .grace = 50ms})) GTEST_SKIP() << "nothing can be mounted";
    auto error = stat_file();
    waits.get_future().wait();
    EXPECT_EQ(stop(), "");
    EXPECT_NE(error.get(), 0);
  }
}

// The kernel holds the page of an unanswered READ, for which the notification waits inside write(2).
TEST_F(MountedEndTest, Stop_EndsANotificationThatWaitsForAnUnansweredRead) {
  for (const char* options : {"", "io_uring"}) {
    std::mutex mutex;
    std::vector<Call<op::Read>> kept;
    std::promise<void> asked;
    fs_.on_read = [&](Call<op::Read> call) {
      const std::lock_guard lock(mutex);
      kept.push_back(std::move(call));
      if (kept.size() == 1) asked.set_value();
    };
    if (!begin({.options = options, .grace = 50ms})) GTEST_SKIP() << "nothing can be mounted";
    if (access("/sys/fs/fuse/connections/.", X_OK) != 0) GTEST_SKIP() << "no fusectl";
    auto reading = std::async(std::launch::async, [path = folder_ + "/file"] {
      const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
      char byte = 0;
      return ::read(file.get(), &byte, 1);
    });
    asked.get_future().wait();
    auto told = std::async(std::launch::async, [this] { return fs_.notifier->inval_inode(kFile); });
    std::this_thread::sleep_for(20ms);  // most likely it waits in the kernel by now
    EXPECT_EQ(stop(), "");
    EXPECT_EQ(reading.get(), -1);
    told.wait();
    fs_.notifier = nullptr;
  }
}

TEST_F(MountedEndTest, GraceForEver_WaitsForTheLastAnswer) {
  std::promise<Call<op::Getattr>> kept;
  fs_.on_getattr = [&kept](Call<op::Getattr> call) { kept.set_value(std::move(call)); };
  if (!begin({.grace = std::chrono::milliseconds::max()})) GTEST_SKIP() << "nothing can be mounted";
  auto error = stat_file();
  Call<op::Getattr> call = kept.get_future().get();
  session_->stop();
  while (!call.reply.interrupted()) std::this_thread::sleep_for(1ms);
  std::move(call.reply).error(EDOM);
  EXPECT_EQ(error.get(), EDOM);
  EXPECT_EQ(outcome(), "");
}

TEST_F(MountedEndTest, MethodThatThrows_GivesAnError_AndTheSessionGoesOn) {
  std::atomic<bool> throws{true};
  fs_.on_getattr = [&throws](Call<op::Getattr> call) {
    if (throws) throw std::runtime_error("nothing is right");
    std::move(call.reply).ok(AttrAnswer{.attr = OneFileFs::attributes(kFile), .attr_valid = 0s});
  };
  if (!begin({})) GTEST_SKIP() << "nothing can be mounted";
  EXPECT_NE(stat_file().get(), 0);
  throws = false;
  EXPECT_EQ(stat_file().get(), 0);
  EXPECT_EQ(stop(), "");
}

TEST_F(MountedEndTest, InitThatReturnsNoErrno_OrThrows_IsEio) {
  if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "nothing can be mounted";
  for (const int error : {-5, 5000}) {
    fs_.on_init = [error](Negotiation&) { return fail(error); };
    EXPECT_NE(refusal().find("Input/output error"), std::string::npos) << error;
  }
  fs_.on_init = [](Negotiation&) -> Result<void> { throw std::runtime_error("no configuration"); };
  EXPECT_NE(refusal().find("Input/output error"), std::string::npos);
}

TEST_F(MountedEndTest, WhatTheKernelLacks_IsNamed) {
  if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "nothing can be mounted";
  fs_.on_init = [](Negotiation& negotiation) {
    negotiation.require(Cap::has_inode_dax, "--dax");
    return Result<void>{};
  };
  EXPECT_NE(refusal().find("--dax needs FUSE_HAS_INODE_DAX"), std::string::npos);
}

// fusermount3 mounts then, and INIT comes to run().
// As a program does that goes to the background once it is mounted.
TEST_F(MountedEndTest, ForkBetweenMountAndRun_TheChildServes) {
  for (const char* options : {"", "io_uring"}) {
    auto mounted = Session::mount(fs_, folder_, {.options = options});
    if (!mounted) GTEST_SKIP() << "nothing can be mounted";
    const pid_t child = fork();
    if (child == 0) {
      alarm(30);
      Session& session = **mounted;
      std::thread client([&session, path = folder_ + "/file"] {
        struct stat status{};
        if (stat(path.c_str(), &status) != 0) _exit(2);
        session.stop();
      });
      const bool ended = session.run().has_value();
      client.join();
      _exit(ended ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << options;
  }
}

TEST_F(MountedEndTest, RefusalAfterMounting_EndsRun) {
  fs_.on_init = [](Negotiation&) { return fail(EDQUOT); };
  if (!begin({.options = "auto_unmount"})) GTEST_SKIP() << "nothing can be mounted by fusermount3";
  EXPECT_NE(outcome().find("Disk quota exceeded"), std::string::npos);
}

}  // namespace
}  // namespace fusewire
