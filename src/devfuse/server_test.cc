// Servers on real mounts. Skipped where nothing can be mounted.
#include "devfuse/server_fixture_test.h"

namespace fusewire::devfuse {
namespace {

struct Mode {
  const char* name;
  unsigned threads;
  bool clone_fd;
  bool splice;
  bool io_uring = false;
};
class ServerModes : public ServerTest, public ::testing::WithParamInterface<Mode> {};

TEST_P(ServerModes, FileRanges_ArriveWhole) {
  const Mode mode = GetParam();
  if (mode.io_uring && !io_uring_offered()) GTEST_SKIP() << "this kernel has no FUSE over io_uring";
  start({.max_threads = mode.threads,
         .clone_fd = mode.clone_fd,
         .splice = mode.splice,
         .io_uring = mode.io_uring});
  if (IsSkipped()) return;
  std::vector<std::thread> readers;
  for (const std::size_t block : {std::size_t{1} << 20, std::size_t{1} << 17, std::size_t{5000}})
    readers.emplace_back([this, block] { EXPECT_TRUE(read_all("data", block) == fs_.content()); });
  for (auto& reader : readers) reader.join();
  EXPECT_GE(fs_.largest_read.load(), std::uint32_t{1} << 19);
  EXPECT_LE(server_->threads(), mode.threads);
  ASSERT_TRUE(mount_->unmount(Mount::Mode::clean));
  EXPECT_EQ(await_end(), Server::Ending::unmounted);
  EXPECT_TRUE(fs_.destroyed);
}

INSTANTIATE_TEST_SUITE_P(Channel, ServerModes,
                         ::testing::Values(Mode{"one", 1, false, false}, Mode{"classic", 4, false, false},
                                           Mode{"clone", 4, true, false}, Mode{"splice", 4, true, true},
                                           Mode{"io_uring", 4, false, false, true}),
                         [](const auto& mode) { return std::string(mode.param.name); });

TEST_F(ServerTest, FileThatEndsEarly_GivesAShortRead) {
  start({});
  if (IsSkipped()) return;
  const std::string got = read_all("short", std::size_t{1} << 20);
  EXPECT_TRUE(got == fs_.content().substr(0, kFileSize / 2)) << got.size();
}

// Requests that come quickly make the threads rest but for one; each that is held up is to be joined by
// another.
TEST_F(ServerTest, RequestsThatHoldUpTheirThreads_AreServedAtOnceByOthers) {
  start({.max_threads = TestFs::kMeeting});
  if (IsSkipped()) return;
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(read_all("data", 4096).size(), kFileSize);
    std::vector<std::thread> readers;
    for (int i = 0; i < TestFs::kMeeting; ++i)
      readers.emplace_back([this] {
        const UniqueFd fd(::open(path("meeting").c_str(), O_RDONLY | O_CLOEXEC));
        char byte = 0;
        EXPECT_EQ(::read(fd.get(), &byte, 1), 1);
      });
    for (auto& reader : readers) reader.join();
  }
}

TEST_F(ServerTest, ThreadsAboveMaxIdleThreads_End) {
  start({.max_threads = 4, .max_idle_threads = 1});
  if (IsSkipped()) return;
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) readers.emplace_back([this] { read_all("data", 4096); });
  for (auto& reader : readers) reader.join();
  while (server_->threads() > 1) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(read_all("data", 4096).size(), kFileSize) << "and can come again";
}

TEST_F(ServerTest, StopBeforeRun_EndsAtOnce) {
  engine_.emplace(fs_);
  auto made = Mount::create(folder_, MountOptions{});
  if (!made) GTEST_SKIP() << made.error();
  auto server = Server::create(*engine_, std::move(made->channel), {});
  ASSERT_TRUE(server);
  (*server)->stop();
  EXPECT_EQ((*server)->run(), Server::Ending::stopped);
  server->reset();
}

// The same by reading /dev/fuse and over io_uring.
class ServerEndings : public ServerTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    ServerTest::SetUp();
    if (GetParam() && !io_uring_offered()) GTEST_SKIP() << "this kernel has no FUSE over io_uring";
  }
};
INSTANTIATE_TEST_SUITE_P(Channel, ServerEndings, ::testing::Bool(),
                         [](const auto& over) { return over.param ? "io_uring" : "classic"; });

TEST_P(ServerEndings, Stop_EndsIdleThreads) {
  start({.max_threads = 3, .io_uring = GetParam()});
  if (IsSkipped()) return;
  EXPECT_EQ(read_all("data", 4096).size(), kFileSize);
  server_->stop();
  EXPECT_EQ(await_end(), Server::Ending::stopped);
}

// With a limit that no test lives to see.
TEST_P(ServerEndings, Stop_EndsThreadsThatWaitAwake) {
  start({.max_threads = 3, .io_uring = GetParam(), .busy_poll = std::chrono::hours(1)});
  if (IsSkipped()) return;
  EXPECT_EQ(read_all("data", 4096).size(), kFileSize);
  server_->stop();
  EXPECT_EQ(await_end(), Server::Ending::stopped);
}

TEST_F(ServerTest, Unmount_EndsThreadsThatWaitAwake) {
  start({.max_threads = 3, .busy_poll = std::chrono::hours(1)});
  if (IsSkipped()) return;
  EXPECT_EQ(read_all("data", 4096).size(), kFileSize);
  ASSERT_TRUE(mount_->unmount(Mount::Mode::clean));
  EXPECT_EQ(await_end(), Server::Ending::unmounted);
}

TEST_P(ServerEndings, Abort_EndsWithAnErrorOfItsOwn) {
  start({.max_threads = 2, .io_uring = GetParam()});
  if (IsSkipped()) return;
  EXPECT_EQ(read_all("data", 4096).size(), kFileSize);
  abort_connection();
  EXPECT_EQ(await_end(), Server::Ending::aborted);
}

TEST_P(ServerEndings, CallThatIsNeverAnswered_IsGivenUp) {
  start({.max_threads = 2, .io_uring = GetParam()});
  if (IsSkipped()) return;
  std::thread reader([this] {
    const UniqueFd fd(::open(path("kept").c_str(), O_RDONLY | O_CLOEXEC));
    char byte = 0;
    EXPECT_EQ(::read(fd.get(), &byte, 1), -1);
  });
  fs_.await_kept();
  abort_connection();
  EXPECT_EQ(await_end(), Server::Ending::aborted);
  reader.join();
  server_.reset();
  engine_.reset();
  // Server and engine are gone; answers and interrupt handlers are harmless.
  for (auto& call : fs_.take_kept()) {
    EXPECT_TRUE(call.reply.interrupted());
    bool told = false;
    call.reply.set_interrupt_handler([&](InterruptReason) { told = true; });
    EXPECT_TRUE(told);
    std::move(call.reply).ok(std::size_t{1});
  }
}

TEST_P(ServerEndings, CallThatIsAnsweredWithinTheGrace_IsWaitedFor) {
  start({.max_threads = 2, .io_uring = GetParam(), .grace = std::chrono::milliseconds(60000)});
  if (IsSkipped()) return;
  std::thread reader([this] {
    const UniqueFd fd(::open(path("kept").c_str(), O_RDONLY | O_CLOEXEC));
    char byte = 0;
    EXPECT_EQ(::read(fd.get(), &byte, 1), 1);
    EXPECT_EQ(byte, 'x');
  });
  fs_.await_kept();
  server_->stop();
  for (auto& call : fs_.take_kept()) std::move(call.reply).ok(std::as_bytes(std::span("x", 1)));
  EXPECT_EQ(await_end(), Server::Ending::stopped);
  // The release cannot be answered any more.
  server_.reset();
  reader.join();
}

}  // namespace
}  // namespace fusewire::devfuse
