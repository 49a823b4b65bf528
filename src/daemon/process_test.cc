#include "daemon/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <string>

namespace fusewire::daemon {
namespace {

// Runs `body` in a process of its own, because it changes what the whole process is; its exit status.
int run_apart(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) _exit(body());
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status)) << status;
  return WEXITSTATUS(status);
}

bool readable(int fd) {
  pollfd poll_fd{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&poll_fd, 1, 0) == 1;
}

TEST(StopSignals, EachOfTheThree_MakesTheDescriptorReadableUntilTaken) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    EXPECT_EQ(run_apart([signal] {
                auto stop = StopSignals::block();
                if (!stop || readable(stop->fd()) || stop->take() != 0) return 1;
                if (raise(signal) != 0) return 2;
                if (!readable(stop->fd()) || !readable(stop->fd())) return 3;
                if (stop->take() != signal) return 4;
                return readable(stop->fd()) ? 5 : 0;
              }),
              0);
  }
}

TEST(IgnoreFatalSignals, ClosedPipeAndFileSizeLimit_AreErrorsOfTheCall) {
  EXPECT_EQ(run_apart([] {
              ignore_fatal_signals();
              int ends[2];
              if (pipe(ends) != 0 || close(ends[0]) != 0) return 1;
              if (write(ends[1], "x", 1) != -1 || errno != EPIPE) return 2;
              const UniqueFd file(open("/tmp", O_TMPFILE | O_RDWR, 0600));
              const rlimit none{.rlim_cur = 0, .rlim_max = RLIM_INFINITY};
              if (!file || setrlimit(RLIMIT_FSIZE, &none) != 0) return 3;
              return write(file.get(), "x", 1) == -1 && errno == EFBIG ? 0 : 4;
            }),
            0);
}

TEST(DefaultNofileLimit, Hosts_GetAMillionOrWhatTheyHave) {
  EXPECT_EQ(default_nofile_limit(1u << 20, 9'223'372'036'854'775'807u), 1'000'000u);
  EXPECT_EQ(default_nofile_limit(std::nullopt, std::nullopt), 1'000'000u);
  EXPECT_EQ(default_nofile_limit(65'536, 2'000'000), 65'536u);
  EXPECT_EQ(default_nofile_limit(1u << 20, 100'000), 83'616u);
  EXPECT_EQ(default_nofile_limit(1u << 20, 20'000), 16'384u);
}

rlimit nofile() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit;
}

TEST(SetNofileLimit, Zero_LeavesTheLimit) {
  EXPECT_EQ(run_apart([] {
              const rlimit before = nofile();
              if (set_nofile_limit(0)) return 1;
              return nofile().rlim_cur == before.rlim_cur && nofile().rlim_max == before.rlim_max ? 0 : 2;
            }),
            0);
}

TEST(SetNofileLimit, NumberBelowTheHardLimit_IsSetUpOrDown) {
  EXPECT_EQ(run_apart([] {
              const rlim_t hard = nofile().rlim_max;
              if (set_nofile_limit(200) || nofile().rlim_cur != 200) return 1;
              if (set_nofile_limit(250) || nofile().rlim_cur != 250) return 2;
              return nofile().rlim_max == hard ? 0 : 3;
            }),
            0);
}

TEST(SetNofileLimit, MoreThanIsPermitted_GivesTheHardLimitAndOneWarning) {
  EXPECT_EQ(run_apart([] {
              const rlimit low{.rlim_cur = 100, .rlim_max = 300};
              if (setrlimit(RLIMIT_NOFILE, &low) != 0) return 1;
              if (getuid() == 0 && setuid(65534) != 0) return 2;
              const auto warning = set_nofile_limit(301);
              if (!warning || warning->find('\n') != std::string::npos) return 3;
              if (warning->find("cannot become 301") == std::string::npos) return 4;
              if (warning->find("and is 300") == std::string::npos) return 5;
              return nofile().rlim_cur == 300 ? 0 : 6;
            }),
            0);
}

TEST(SetNofileLimit, NothingWanted_RaisesALowLimitAndKeepsAHighOne) {
  EXPECT_EQ(run_apart([] {
              const rlimit low{.rlim_cur = 100, .rlim_max = nofile().rlim_max};
              if (setrlimit(RLIMIT_NOFILE, &low) != 0) return 1;
              set_nofile_limit(std::nullopt);  // May warn: this test need not be root.
              const rlim_t raised = nofile().rlim_cur;
              if (raised <= 100) return 2;
              set_nofile_limit(std::nullopt);
              return nofile().rlim_cur == raised ? 0 : 3;
            }),
            0);
}

// The parent's side of Background::fork() in a process whose child runs `child` with its standard error in
// `errors`.
int start_in_background(const std::function<int(Background&)>& child, std::string* errors = nullptr) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const int status = run_apart([&] {
    dup2(write_end.get(), STDERR_FILENO);
    write_end.reset();
    auto background = Background::fork();
    if (!background) return 100;
    if (background->parent_status()) return *background->parent_status();
    return child(*background);
  });
  write_end.reset();
  std::array<char, 512> buffer{};
  if (const ssize_t got = read(read_end.get(), buffer.data(), buffer.size()); errors != nullptr && got > 0)
    errors->assign(buffer.data(), static_cast<std::size_t>(got));
  return status;
}

TEST(Background, Ready_LetsTheParentEndWithZeroWhileTheChildGoesOn) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd to_child_read(ends[0]);
  UniqueFd to_child_write(ends[1]);
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd from_child_read(ends[0]);
  UniqueFd from_child_write(ends[1]);

  EXPECT_EQ(start_in_background([&](Background& background) {
              if (!background.enter(true)) return 1;
              char byte = 0;
              // Waits until the parent has ended, as the test below has seen.
              if (read(to_child_read.get(), &byte, 1) != 1) return 2;
              std::array<char, 64> directory{};
              const bool left = getsid(0) == getpid() &&
                                getcwd(directory.data(), directory.size()) != nullptr &&
                                std::string(directory.data()) == "/";
              byte = left ? 'y' : 'n';
              return write(from_child_write.get(), &byte, 1) == 1 ? 0 : 3;
            }),
            0);
  ASSERT_EQ(write(to_child_write.get(), "x", 1), 1);
  from_child_write.reset();
  char answer = 0;
  ASSERT_EQ(read(from_child_read.get(), &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
}

TEST(Background, Ready_ClosesTheCallersStandardError) {
  // The errors are read up to their end, for which a child that kept standard error open would let us wait
  // for ever.
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd hold_read(ends[0]);
  UniqueFd hold_write(ends[1]);
  std::string errors;
  EXPECT_EQ(start_in_background(
                [&](Background& background) {
                  hold_write.reset();
                  if (!background.enter(false)) return 1;
                  char byte = 0;
                  return read(hold_read.get(), &byte, 1) == 0 ? 0 : 2;
                },
                &errors),
            0);
  EXPECT_EQ(errors, "");
}

TEST(Background, LogFileAsStandardError_StaysInUse) {
  const UniqueFd log(open("/tmp", O_TMPFILE | O_RDWR, 0600));
  ASSERT_TRUE(log);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd done_read(ends[0]);
  UniqueFd done_write(ends[1]);
  EXPECT_EQ(start_in_background([&](Background& background) {
              dup2(log.get(), STDERR_FILENO);
              if (!background.enter(false)) return 1;
              const bool wrote = write(STDERR_FILENO, "log", 3) == 3;
              return wrote && write(done_write.get(), "x", 1) == 1 ? 0 : 2;
            }),
            0);
  done_write.reset();
  char byte = 0;
  ASSERT_EQ(read(done_read.get(), &byte, 1), 1);
  std::array<char, 8> text{};
  EXPECT_EQ(pread(log.get(), text.data(), text.size(), 0), 3);
  EXPECT_STREQ(text.data(), "log");
}

TEST(Background, StartThatFails_GivesTheParentTheStatus) {
  EXPECT_EQ(start_in_background([](Background&) { return 1; }), 1);
  EXPECT_EQ(start_in_background([](Background&) { return 7; }), 7);
  // Ending "well" without having entered the background is no success.
  EXPECT_EQ(start_in_background([](Background&) { return 0; }), 1);
}

TEST(Background, StartEndedByASignal_IsReported) {
  std::string errors;
  EXPECT_EQ(start_in_background([](Background&) { return raise(SIGKILL); }, &errors), 1);
  EXPECT_EQ(errors, "virtiofsd: ended by signal 9 during start-up\n");
}

}  // namespace
}  // namespace fusewire::daemon
