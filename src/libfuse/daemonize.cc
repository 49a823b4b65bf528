// fuse_daemonize: the process goes to the background.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "fuse3/fuse_common.h"
#include "fusewire/unique_fd.h"

namespace {

using fusewire::UniqueFd;

// A copy that is no standard stream: these may have been closed, and are about to be replaced.
UniqueFd above_streams(const UniqueFd& fd) {
  return UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

// Standard streams become /dev/null. What a daemon prints afterwards must not reach a terminal that somebody
// else uses.
bool silence() {
  const UniqueFd opened(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!opened) return false;
  const UniqueFd null = above_streams(opened);  // each stream is a copy then, which stays
  if (!null) return false;
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (dup2(null.get(), stream) < 0) return false;
  return true;
}

// In the parent: waits until the child says that it is ready, and ends as the child does.
[[noreturn]] void wait_for_child(int ready) {
  char byte = 0;
  ssize_t n = 0;
  do n = read(ready, &byte, 1);
  while (n < 0 && errno == EINTR);
  _exit(n == 1 ? 0 : 1);
}

int failed(const char* what) {
  const int error = errno;
  fuse_log(FUSE_LOG_ERR, "fuse: going to the background: %s: %s\n", what, strerrordesc_np(error));
  errno = error;
  return -1;
}

}  // namespace

extern "C" int fuse_daemonize(int foreground) {
  if (foreground) return chdir("/") == 0 ? 0 : failed("chdir");
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return failed("pipe");
  UniqueFd ready(ends[0]);
  UniqueFd first_tell(ends[1]);
  UniqueFd tell = above_streams(first_tell);
  if (!tell) return failed("pipe");
  first_tell.reset();
  const pid_t pid = fork();
  if (pid < 0) return failed("fork");
  if (pid > 0) {
    tell.reset();  // so that a child that fails is noticed
    wait_for_child(ready.get());
  }
  ready.reset();
  // From here on a failure is the child's: the caller's process has ended, or waits for us and ends with
  // status 1.
  if (setsid() < 0) return failed("setsid");
  if (chdir("/") != 0) return failed("chdir");
  if (!silence()) return failed("/dev/null");
  const char byte = 1;
  // A parent that was killed is no reason to stop.
  [[maybe_unused]] const ssize_t told = write(tell.get(), &byte, 1);
  return 0;
}
