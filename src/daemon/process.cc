#include "daemon/process.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace fusewire::daemon {
namespace {

constexpr std::uint64_t kWantedDescriptors = 1'000'000;
constexpr std::uint64_t kLeftToOthers = 16'384;

std::optional<std::uint64_t> read_sysctl(const char* path) {
  std::uint64_t number = 0;
  if (std::ifstream file(path); file >> number) return number;
  return std::nullopt;
}

// What to exit with when child `pid` ended without having called enter().
int wait_for(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return 1;
  // The child wrote nothing when a signal ended it, nor could it have ended well.
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0) return WEXITSTATUS(status);
  if (WIFSIGNALED(status))
    fmt::print(stderr, "virtiofsd: ended by signal {} during start-up\n", WTERMSIG(status));
  return 1;
}

// True once the child has said that it is ready, false when its end of the pipe is closed without that.
bool wait_until_ready(int fd) {
  char byte = 0;
  ssize_t got = 0;
  do got = read(fd, &byte, 1);
  while (got < 0 && errno == EINTR);
  return got == 1;
}

bool is_log_file(int fd) {
  struct stat status{};
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

Result<void> leave_standard_descriptors() {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return fail_errno();
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fd == STDERR_FILENO && is_log_file(fd)) continue;
    if (dup2(null.get(), fd) < 0) return fail_errno();
  }
  return {};
}

// The limit that is asked for, or nullopt when the present one stays.
std::optional<rlim_t> choose_limit(std::optional<std::uint64_t> wanted, rlim_t present) {
  if (wanted == 0u || wanted == present) return std::nullopt;
  if (wanted) return wanted;
  const rlim_t chosen =
      default_nofile_limit(read_sysctl("/proc/sys/fs/nr_open"), read_sysctl("/proc/sys/fs/file-max"));
  return present < chosen ? std::optional(chosen) : std::nullopt;
}

}  // namespace

Result<StopSignals> StopSignals::block() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  if (const int error = pthread_sigmask(SIG_BLOCK, &signals, nullptr); error != 0) return fail(error);
  UniqueFd fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno();
  return StopSignals(std::move(fd));
}

int StopSignals::take() {
  signalfd_siginfo info{};
  if (read(fd_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return 0;
  return static_cast<int>(info.ssi_signo);
}

void ignore_fatal_signals() {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
}

std::uint64_t default_nofile_limit(std::optional<std::uint64_t> nr_open,
                                   std::optional<std::uint64_t> file_max) {
  std::uint64_t limit = kWantedDescriptors;
  if (nr_open) limit = std::min(limit, *nr_open);
  // On a host with little to give, as much as is left to the others.
  if (file_max) limit = std::min(limit, std::max(*file_max, 2 * kLeftToOthers) - kLeftToOthers);
  return limit;
}

std::expected<void, std::string> check_cpus(const std::vector<unsigned>& cpus) {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return {};  // more CPUs than the set can hold
  for (const unsigned cpu : cpus)
    if (!CPU_ISSET(cpu, &usable))
      return std::unexpected(fmt::format("CPU {} of --queue-cpus is not one that this process may use", cpu));
  return {};
}

std::optional<std::string> set_nofile_limit(std::optional<std::uint64_t> wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return fmt::format("cannot read the limit of open descriptors: {}", to_string(Errno{errno}));
  const auto chosen = choose_limit(wanted, limit.rlim_cur);
  if (!chosen) return std::nullopt;

  const rlimit asked{.rlim_cur = *chosen, .rlim_max = std::max(*chosen, limit.rlim_max)};
  if (setrlimit(RLIMIT_NOFILE, &asked) == 0) return std::nullopt;
  const Errno error{errno};
  const rlimit highest{.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
  const rlim_t now = setrlimit(RLIMIT_NOFILE, &highest) == 0 ? highest.rlim_cur : limit.rlim_cur;
  return fmt::format(
      "the limit of open descriptors cannot become {} ({}) and is {}: a guest that uses many files needs "
      "more; raise the "
      "limit (ulimit -n) before starting virtiofsd, or give --rlimit-nofile=0",
      *chosen, to_string(error), now);
}

Result<Background> Background::fork() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail_errno();
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno();

  Background background;
  if (pid == 0) {
    background.ready_ = std::move(write_end);
    return background;
  }
  write_end.reset();
  background.parent_status_ = wait_until_ready(read_end.get()) ? 0 : wait_for(pid);
  return background;
}

Result<void> Background::enter(bool leave_directory) {
  // It fails only for the leader of a process group, which a forked child is not.
  if (setsid() < 0) return fail_errno();
  if (leave_directory && chdir("/") != 0) return fail_errno();
  if (auto left = leave_standard_descriptors(); !left) return left;
  const char byte = 1;
  // The parent may have been killed meanwhile: then there is nobody to tell.
  if (write(ready_.get(), &byte, 1) != 1 && errno != EPIPE) return fail_errno();
  ready_.reset();
  return {};
}

}  // namespace fusewire::daemon
