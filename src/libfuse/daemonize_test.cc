#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "fuse3/fuse_common.h"
#include "fusewire/unique_fd.h"

namespace fusewire::libfuse {
namespace {

// What the daemon finds around it, sent through a pipe.
struct Report {
  int result;
  bool leads_session;
  bool in_root;
  bool streams_are_null;
  bool other_process;
};

bool is_null_device(int fd) {
  struct stat stream{}, null{};
  return fstat(fd, &stream) == 0 && stat("/dev/null", &null) == 0 && stream.st_rdev == null.st_rdev;
}

Report look_around(int result, pid_t before) {
  std::array<char, 64> directory{};
  const bool known = getcwd(directory.data(), directory.size()) != nullptr;
  return {.result = result,
          .leads_session = getsid(0) == getpid(),
          .in_root = known && std::strcmp(directory.data(), "/") == 0,
          .streams_are_null = is_null_device(0) && is_null_device(1) && is_null_device(2),
          .other_process = getpid() != before};
}

// Runs fuse_daemonize in a child, whose exit status comes back, and returns what is found behind it.
Report daemonize(int foreground, int& status) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  const pid_t child = fork();
  if (child == 0) {
    dup2(in.get(), STDOUT_FILENO);  // something that is not /dev/null, wherever the test runs
    const pid_t before = getpid();
    const int result = fuse_daemonize(foreground);
    const Report report = look_around(result, before);
    _exit(write(in.get(), &report, sizeof report) == sizeof report ? 0 : 3);
  }
  in.reset();
  EXPECT_EQ(waitpid(child, &status, 0), child);
  Report report{};
  EXPECT_EQ(read(out.get(), &report, sizeof report), static_cast<ssize_t>(sizeof report));
  return report;
}

TEST(Daemonize, Background_DetachesFromTheCaller) {
  int status = -1;

  const Report report = daemonize(0, status);

  EXPECT_EQ(status, 0);
  EXPECT_EQ(report.result, 0);
  EXPECT_TRUE(report.other_process);
  EXPECT_TRUE(report.leads_session);
  EXPECT_TRUE(report.in_root);
  EXPECT_TRUE(report.streams_are_null);
}

TEST(Daemonize, Background_WithoutStandardStreams) {
  const pid_t child = fork();
  if (child == 0) {
    for (const int stream : {0, 1, 2}) close(stream);
    const int result = fuse_daemonize(0);
    _exit(result == 0 && is_null_device(0) && is_null_device(1) && is_null_device(2) ? 0 : 3);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);  // of the one whose child went to the background
  EXPECT_EQ(status, 0);
}

TEST(Daemonize, Foreground_OnlyChangesDirectory) {
  int status = -1;

  const Report report = daemonize(1, status);

  EXPECT_EQ(status, 0);
  EXPECT_EQ(report.result, 0);
  EXPECT_FALSE(report.other_process);
  EXPECT_FALSE(report.leads_session);
  EXPECT_TRUE(report.in_root);
  EXPECT_FALSE(report.streams_are_null);
}

}  // namespace
}  // namespace fusewire::libfuse
