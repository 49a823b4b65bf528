// Loops on real mounts. Skipped where nothing can be mounted.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "libfuse/c_file_system_test.h"
#include "libfuse/loop_config.h"

namespace fusewire::libfuse::testing {
namespace {

// What the callbacks keep and see.
struct State {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<fuse_req_t> kept;  // lookups of "kept", unanswered
  std::string link_after_answer;
  bool destroyed = false;
};
State state;

void lookup(fuse_req_t req, fuse_ino_t, const char* name) {
  if (std::strcmp(name, "kept") != 0) {
    fuse_reply_err(req, ENOENT);
    return;
  }
  const std::lock_guard lock(state.mutex);
  state.kept.push_back(req);
  state.changed.notify_all();
}

void getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  struct stat st{};
  st.st_ino = ino;
  st.st_mode = S_IFDIR | 0755;
  st.st_nlink = 2;
  fuse_reply_attr(req, &st, 0);
}

void symlink(fuse_req_t req, const char* link, fuse_ino_t, const char*) {
  fuse_reply_err(req, EPERM);
  const std::lock_guard lock(state.mutex);
  state.link_after_answer = link;
}

Operations operations() {
  Operations ops{};
  ops.lookup = lookup;
  ops.getattr = getattr;
  ops.symlink = symlink;
  ops.destroy = [](void*) { state.destroyed = true; };
  return ops;
}

class DeviceLoop : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/fusewire-loop-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    state.kept.clear();
    state.destroyed = false;
    session_ = make_session(operations());
    ASSERT_NE(session_, nullptr);
    if (fuse_session_mount(session_.get(), folder_.c_str()) != 0) GTEST_SKIP() << "nothing can be mounted";
  }
  void TearDown() override {
    end_loop();
    fuse_session_unmount(session_.get());
    session_.reset();
    rmdir(folder_.c_str());
  }

  void start(const fuse_loop_config& config) {
    loop_ = std::thread([this, config] {
      fuse_loop_config own = config;
      result_ = own.max_threads == 1 ? fuse_session_loop(session_.get())
                                     : fuse_session_loop_mt_312(session_.get(), &own);
    });
  }
  int end_loop() {
    fuse_session_exit(session_.get());
    return await_loop();
  }
  int await_loop() {
    if (loop_.joinable()) loop_.join();
    return result_;
  }
  std::string path(const char* name) const { return folder_ + "/" + name; }
  int error_of_stat(const char* name) const {
    struct stat st{};
    return stat(path(name).c_str(), &st) == 0 ? 0 : errno;
  }
  static fuse_req_t await_kept() {
    std::unique_lock lock(state.mutex);
    state.changed.wait(lock, [] { return !state.kept.empty(); });
    return state.kept.back();
  }

  std::string folder_;
  std::unique_ptr<fuse_session, void (*)(fuse_session*)> session_{nullptr, fuse_session_destroy};
  std::thread loop_;
  int result_ = -1;
};

constexpr fuse_loop_config kSingle{.clone_fd = 0, .max_idle_threads = 1, .max_threads = 1};
constexpr fuse_loop_config kClones{.clone_fd = 1, .max_idle_threads = ~0U, .max_threads = 4};

TEST_F(DeviceLoop, AfterItsEnd_AnotherOneServesTheSameMount) {
  for (const fuse_loop_config& config : {kSingle, kClones, kDefaultLoopConfig, kSingle}) {
    start(config);
    EXPECT_EQ(error_of_stat("a"), ENOENT);
    EXPECT_EQ(end_loop(), 0);
    EXPECT_FALSE(state.destroyed);
  }
}

TEST_F(DeviceLoop, ExitBeforeTheLoop_EndsItAtOnce_UntilReset) {
  fuse_session_exit(session_.get());
  EXPECT_EQ(fuse_session_loop(session_.get()), 0);
  fuse_session_exit(session_.get());
  fuse_session_reset(session_.get());
  start(kDefaultLoopConfig);
  EXPECT_EQ(error_of_stat("a"), ENOENT);
}

TEST_F(DeviceLoop, Unmounted_EndsWithSuccess) {
  start(kDefaultLoopConfig);
  EXPECT_EQ(error_of_stat("a"), ENOENT);
  fuse_session_unmount(session_.get());
  EXPECT_EQ(await_loop(), 0);
}

TEST_F(DeviceLoop, MountedAgainAfterUnmountingWithinALoop_IsServedAgain) {
  for (int i = 0; i < 3; ++i) {
    start(kDefaultLoopConfig);
    EXPECT_EQ(error_of_stat("a"), ENOENT);
    fuse_session_unmount(session_.get());
    EXPECT_EQ(await_loop(), 0);
    ASSERT_EQ(fuse_session_mount(session_.get(), folder_.c_str()), 0);
  }
}

TEST_F(DeviceLoop, WithoutAMount_HasNothingToServe) {
  fuse_session_unmount(session_.get());
  EXPECT_EQ(fuse_session_fd(session_.get()), -1);
  EXPECT_EQ(fuse_session_loop(session_.get()), -EBADF);
}

TEST_F(DeviceLoop, TheDescriptorBlocksAgainAfterwards) {
  start(kDefaultLoopConfig);
  EXPECT_EQ(error_of_stat("a"), ENOENT);
  end_loop();
  EXPECT_EQ(fcntl(fuse_session_fd(session_.get()), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(DeviceLoop, NamesStayAfterTheAnswerUntilTheCallbackReturns) {
  start(kDefaultLoopConfig);
  const std::string longest(4000, 'x');
  EXPECT_EQ(::symlink(longest.c_str(), path("link").c_str()), -1);
  EXPECT_EQ(errno, EPERM);
  end_loop();
  EXPECT_EQ(state.link_after_answer, longest);
}

TEST_F(DeviceLoop, RequestThatIsAnsweredBetweenTwoLoops_IsAnswered) {
  start(kClones);
  int error = 0;
  std::thread client([&] { error = error_of_stat("kept"); });
  fuse_req_t req = await_kept();
  end_loop();
  EXPECT_EQ(fuse_reply_err(req, EPERM), 0);
  client.join();
  EXPECT_EQ(error, EPERM);
  start(kSingle);
  EXPECT_EQ(error_of_stat("a"), ENOENT);
}

TEST_F(DeviceLoop, RequestThatIsAnsweredAfterUnmounting_HarmsNobody) {
  start(kClones);
  int error = 0;
  std::thread client([&] { error = error_of_stat("kept"); });
  fuse_req_t req = await_kept();
  end_loop();
  fuse_session_unmount(session_.get());
  client.join();
  EXPECT_EQ(error, ECONNABORTED);
  EXPECT_FALSE(state.destroyed);
  EXPECT_NE(fuse_reply_err(req, EPERM), 0);  // nobody gets it
}

// A loop of the program's own, which looks at a flag that its signal handler sets.
TEST_F(DeviceLoop, ReceiveBuf_ReturnsWhenASignalComes) {
  struct sigaction action{}, before{};
  action.sa_handler = [](int) {};  // without SA_RESTART
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  fuse_buf first{}, second{};
  ASSERT_GT(fuse_session_receive_buf(session_.get(), &first), 0);  // INIT
  std::atomic<bool> returned{false};
  const pthread_t receiver = pthread_self();
  std::thread sender([&] {
    while (!returned.load()) {
      pthread_kill(receiver, SIGUSR1);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  EXPECT_EQ(fuse_session_receive_buf(session_.get(), &second), -EINTR);
  returned.store(true);
  sender.join();
  sigaction(SIGUSR1, &before, nullptr);
  fuse_session_process_buf(session_.get(), &first);
  std::free(first.mem);
  std::free(second.mem);
}

}  // namespace
}  // namespace fusewire::libfuse::testing
