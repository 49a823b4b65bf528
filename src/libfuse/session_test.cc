// Sessions: their options, and their loops over a socket in place of /dev/fuse.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "libfuse/c_file_system_test.h"
#include "libfuse/captured_log_test.h"
#include "libfuse/loop_config.h"

namespace fusewire::libfuse::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(SessionNew, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(make_session({}, {"--unknown"}), nullptr);
  EXPECT_EQ(make_session({}, {"-o", "no_such_option"}), nullptr);
  EXPECT_EQ(make_session({}, {"--fd=x"}), nullptr);
  EXPECT_EQ(make_session({}, {"--socket-path="}), nullptr);
  EXPECT_NE(make_session({}, {"-o", "allow_other,fsname=x", "-osubtype=y"}), nullptr);
}

TEST(SessionNew, KnowsTheSocketOptions) {
  EXPECT_FALSE(make_session({})->serves_guest());
  EXPECT_EQ(make_session({}, {"--socket-path=/a"})->options.socket_path, "/a");
  EXPECT_EQ(make_session({}, {"--socket-path", "/b", "--thread-pool-size=3"})->options.thread_pool_size, 3U);
  setenv("FUSEWIRE_SOCKET", "/c", 1);
  EXPECT_EQ(make_session({})->options.socket_path, "/c");
  EXPECT_EQ(make_session({}, {"--socket-path=/d"})->options.socket_path, "/d");
  unsetenv("FUSEWIRE_SOCKET");
}

TEST(SessionNew, Debug_ShowsEachRequestAndItsAnswer) {
  const CapturedLog log;
  Operations ops{};
  ops.unlink = [](fuse_req_t req, fuse_ino_t, const char*) { fuse_reply_err(req, EPERM); };
  ops.statfs = [](fuse_req_t req, fuse_ino_t) {
    const struct statvfs buffer{};
    fuse_reply_statfs(req, &buffer);
  };
  CFileSystem quiet(ops);
  quiet.init();
  quiet.send(Request(FUSE_UNLINK).name("a"));
  EXPECT_THAT(log.text(), Not(HasSubstr("UNLINK")));

  CFileSystem loud(ops, {"-d"});
  loud.init();
  const Request request = Request(FUSE_UNLINK).name("a");
  loud.send(request);
  const std::string number = std::to_string(request.unique());
  EXPECT_THAT(log.text(), HasSubstr("7:fuse: " + number + ": FUSE_UNLINK at node 1, 42 bytes, from process"));
  EXPECT_THAT(log.text(), HasSubstr("7:fuse: " + number + ": Operation not permitted\n"));
  loud.send(Request(FUSE_STATFS));
  EXPECT_THAT(log.text(), HasSubstr(fmt::format("answered, {} bytes\n", sizeof(fuse_statfs_out))));
}

// A kernel at the other end of a socket that keeps messages apart.
class Loop : public ::testing::Test {
 protected:
  static ssize_t read_message(int fd, void* room, size_t size, void*) { return ::read(fd, room, size); }
  static ssize_t write_message(int fd, iovec* parts, int count, void*) { return ::writev(fd, parts, count); }

  Loop() {
    std::array<int, 2> ends{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    kernel_ = UniqueFd(ends[0]);
    Operations ops{};
    ops.unlink = [](fuse_req_t req, fuse_ino_t, const char*) { fuse_reply_err(req, EPERM); };
    session_ = make_session(ops);
    fuse_custom_io io{};
    io.read = read_message;
    io.writev = write_message;
    EXPECT_EQ(fuse_session_custom_io_317(session_.get(), &io, sizeof io, ends[1]), 0);
  }
  // The error in the answer to `request`.
  int ask(const Request& request) {
    const auto bytes = request.encode();
    EXPECT_EQ(write(kernel_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    std::array<std::byte, 4096> room;
    const ssize_t got = read(kernel_.get(), room.data(), room.size());
    EXPECT_GE(got, static_cast<ssize_t>(sizeof(fuse_out_header)));
    fuse_out_header header{};
    std::memcpy(&header, room.data(), sizeof header);
    EXPECT_EQ(header.len, static_cast<std::uint32_t>(got));
    EXPECT_EQ(header.unique, request.unique());
    return -header.error;
  }
  void initialize() {
    fuse_init_in in{};
    in.major = kMajor;
    in.minor = kMinor;
    EXPECT_EQ(ask(Request(FUSE_INIT).arg(in)), 0);
  }

  UniqueFd kernel_;
  std::unique_ptr<fuse_session, void (*)(fuse_session*)> session_{nullptr, fuse_session_destroy};
};

TEST_F(Loop, Single_ServesUntilTheStreamEnds) {
  int result = -1;
  std::thread server([&] { result = fuse_session_loop(session_.get()); });
  initialize();
  EXPECT_EQ(ask(Request(FUSE_UNLINK).name("a")), EPERM);
  kernel_.reset();
  server.join();
  EXPECT_EQ(result, 0);
}

TEST_F(Loop, Exit_FromAnotherThread_WakesASingleLoop) {
  int result = -1;
  std::thread server([&] { result = fuse_session_loop(session_.get()); });
  initialize();
  fuse_session_exit(session_.get());
  server.join();
  EXPECT_EQ(result, 0);
  EXPECT_EQ(fuse_session_exited(session_.get()), 0) << "a loop that has ended may run again";
}

TEST_F(Loop, Exit_FromAnotherThread_WakesEveryThreadOfALoop) {
  int result = -1;
  std::thread server([&] { result = fuse_session_loop_mt_312(session_.get(), nullptr); });
  initialize();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(ask(Request(FUSE_UNLINK).name("a")), EPERM);
  fuse_session_exit(session_.get());
  server.join();
  EXPECT_EQ(result, 0);
}

TEST_F(Loop, Signal_EndsTheLoopWhichReturnsItsNumber) {
  ASSERT_EQ(fuse_set_signal_handlers(session_.get()), 0);
  int result = -1;
  std::thread server([&] { result = fuse_session_loop_mt_31(session_.get(), 0); });
  initialize();
  raise(SIGTERM);
  server.join();
  EXPECT_EQ(result, SIGTERM);
  fuse_remove_signal_handlers(session_.get());
}

TEST_F(Loop, OfTheProgramsOwn_ReceivesAndProcesses) {
  std::thread server([&] {
    fuse_buf buf{};
    while (fuse_session_exited(session_.get()) == 0) {
      if (fuse_session_receive_buf(session_.get(), &buf) <= 0) break;
      fuse_session_process_buf(session_.get(), &buf);
    }
    std::free(buf.mem);
  });
  initialize();
  EXPECT_EQ(ask(Request(FUSE_UNLINK).name("a")), EPERM);
  fuse_session_exit(session_.get());
  server.join();
}

}  // namespace
}  // namespace fusewire::libfuse::testing
