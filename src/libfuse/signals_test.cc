#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <string>

#include "fuse3/fuse_lowlevel.h"
#include "fusewire/unique_fd.h"
#include "libfuse/captured_log_test.h"

namespace fusewire::libfuse {
namespace {

using testing::HasSubstr;

struct Destroy {
  void operator()(fuse_session* session) const { fuse_session_destroy(session); }
};
using Session = std::unique_ptr<fuse_session, Destroy>;

Session make_session() {
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  EXPECT_EQ(fuse_opt_add_arg(&args, "prog"), 0);
  const fuse_lowlevel_ops ops{};
  Session session(fuse_session_new(&args, &ops, sizeof ops, nullptr));
  fuse_opt_free_args(&args);
  return session;
}

struct sigaction disposition(int signal) {
  struct sigaction now{};
  EXPECT_EQ(sigaction(signal, nullptr, &now), 0);
  return now;
}

TEST(Signals, Set_EndsTheSessionAtEachSignal) {
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) {
    const Session session = make_session();
    ASSERT_NE(session, nullptr);
    ASSERT_EQ(fuse_set_signal_handlers(session.get()), 0);
    EXPECT_EQ(fuse_session_exited(session.get()), 0);

    ASSERT_EQ(raise(signal), 0);

    EXPECT_EQ(fuse_session_exited(session.get()), 1);
    fuse_remove_signal_handlers(session.get());
  }
}

TEST(Signals, Loop_EndsWithTheSignalsNumber) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd peer(ends[0]);
  const Session session = make_session();
  fuse_custom_io io{};
  io.read = [](int fd, void* buf, size_t size, void*) { return read(fd, buf, size); };
  io.writev = [](int fd, iovec* iov, int count, void*) { return writev(fd, iov, count); };
  ASSERT_EQ(fuse_session_custom_io(session.get(), &io, sizeof io, ends[1]), 0);
  ASSERT_EQ(fuse_set_signal_handlers(session.get()), 0);
  ASSERT_EQ(raise(SIGTERM), 0);

  EXPECT_EQ(fuse_session_loop(session.get()), SIGTERM);

  fuse_remove_signal_handlers(session.get());
}

TEST(Signals, Remove_BringsTheDefaultsBack) {
  const Session session = make_session();
  ASSERT_EQ(fuse_set_signal_handlers(session.get()), 0);
  for (const int signal : {SIGHUP, SIGINT, SIGTERM, SIGPIPE})
    EXPECT_NE(disposition(signal).sa_handler, SIG_DFL);

  fuse_remove_signal_handlers(session.get());

  for (const int signal : {SIGHUP, SIGINT, SIGTERM, SIGPIPE})
    EXPECT_EQ(disposition(signal).sa_handler, SIG_DFL);
}

TEST(Signals, DispositionOfTheProgram_Stays) {
  const Session session = make_session();
  struct sigaction own{};
  own.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGHUP, &own, nullptr), 0);

  ASSERT_EQ(fuse_set_signal_handlers(session.get()), 0);
  EXPECT_EQ(disposition(SIGHUP).sa_handler, own.sa_handler);
  ASSERT_EQ(raise(SIGHUP), 0);
  EXPECT_EQ(fuse_session_exited(session.get()), 0);
  fuse_remove_signal_handlers(session.get());

  EXPECT_EQ(disposition(SIGHUP).sa_handler, own.sa_handler);
  std::signal(SIGHUP, SIG_DFL);
}

TEST(Signals, Sigpipe_IsNotIgnoredForProgramsThatAreRun_ButStaysSoForWhoIgnoresIt) {
  const Session session = make_session();
  ASSERT_EQ(fuse_set_signal_handlers(session.get()), 0);
  EXPECT_NE(disposition(SIGPIPE).sa_handler, SIG_IGN);
  fuse_remove_signal_handlers(session.get());

  std::signal(SIGPIPE, SIG_IGN);
  ASSERT_EQ(fuse_set_signal_handlers(session.get()), 0);
  fuse_remove_signal_handlers(session.get());
  EXPECT_EQ(disposition(SIGPIPE).sa_handler, SIG_IGN);
  std::signal(SIGPIPE, SIG_DFL);
}

TEST(Signals, RemoveForAnotherSession_IsReported) {
  const Session session = make_session();
  const Session other = make_session();
  ASSERT_EQ(fuse_set_signal_handlers(session.get()), 0);
  const CapturedLog log;

  fuse_remove_signal_handlers(other.get());

  EXPECT_THAT(log.text(), HasSubstr("not this session's"));
  fuse_remove_signal_handlers(session.get());
}

TEST(Signals, Failure_IsReportedAndStillEndsTheProcess) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    dup2(in.get(), STDERR_FILENO);
    const Session session = make_session();
    for (const int signal : {SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV}) std::signal(signal, SIG_DFL);
    if (fuse_set_fail_signal_handlers(session.get()) != 0) _exit(3);
    raise(SIGBUS);
    _exit(4);
  }
  in.reset();
  std::string said;
  char piece[4096];
  for (ssize_t n = 0; (n = read(out.get(), piece, sizeof piece)) > 0;)
    said.append(piece, static_cast<size_t>(n));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);

  EXPECT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(WTERMSIG(status), SIGBUS);
  EXPECT_THAT(said, HasSubstr("fatal signal SIGBUS"));
  EXPECT_THAT(said, HasSubstr("libfuse3.so"));
}

}  // namespace
}  // namespace fusewire::libfuse
