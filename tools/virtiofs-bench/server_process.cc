#include "virtiofs-bench/server_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"

namespace fusewire::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(10);
constexpr auto kGrace = std::chrono::seconds(3);

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

void pause_for(int milliseconds) { ::poll(nullptr, 0, milliseconds); }

// In the child: only async-signal-safe calls.
[[noreturn]] void become(const char* command, int log) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // should we be killed before we can end it
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execl("/bin/sh", "sh", "-c", command, nullptr);
  ::_exit(127);
}

}  // namespace

Expected<ServerProcess> ServerProcess::start(const std::string& command, const std::string& parent,
                                             const std::string& share) {
  auto home = TemporaryDirectory::make(parent);
  if (!home) return failed(home.error());
  ServerProcess server(std::move(*home));
  const UniqueFd log(::open(server.log_path().c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600));
  if (!log) return failed(fmt::format("{}: {}", server.log_path(), to_string(Errno{errno})));

  std::string line = command;
  replace_all(line, "{socket}", server.socket_path());
  replace_all(line, "{dir}", share);
  // The children of a server that ends before them become ours, and are reaped at once.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  server.pid_ = ::fork();
  if (server.pid_ < 0) return failed(fmt::format("fork: {}", to_string(Errno{errno})));
  if (server.pid_ == 0) become(line.c_str(), log.get());
  ::setpgid(server.pid_, server.pid_);  // Whoever comes first: the child does it too.
  return server;
}

ServerProcess::ServerProcess(ServerProcess&& other) noexcept
    : home_(std::move(other.home_)),
      pid_(std::exchange(other.pid_, -1)),
      reaped_(other.reaped_),
      status_(other.status_) {}

ServerProcess::~ServerProcess() {
  if (pid_ > 0) {
    ::kill(-pid_, SIGTERM);
    const auto end = Clock::now() + kGrace;
    // A group lives as long as one of its processes does, a child that serves included.
    while (::kill(-pid_, 0) == 0 && Clock::now() < end) {
      reap(WNOHANG);
      pause_for(5);
    }
    ::kill(-pid_, SIGKILL);
    reap(0);
  }
}

// All of the group that have ended; without WNOHANG, until none is left.
void ServerProcess::reap(int flags) {
  for (;;) {
    int status = 0;
    const pid_t got = ::waitpid(-pid_, &status, flags);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    if (got != pid_) continue;
    status_ = status;
    reaped_ = true;
  }
}

bool ServerProcess::ended(std::string& how) {
  reap(WNOHANG);
  if (!reaped_) return false;
  if (WIFSIGNALED(status_))
    how = fmt::format("was ended by signal {} ({})", WTERMSIG(status_), ::strsignal(WTERMSIG(status_)));
  else
    how = fmt::format("ended with status {}", WEXITSTATUS(status_));
  return true;
}

std::string ServerProcess::output() const {
  std::ifstream file(log_path(), std::ios::ate);
  constexpr std::streamoff kTail = 4096;
  const std::streamoff size = file.tellg();
  file.seekg(size > kTail ? size - kTail : 0);
  return {std::istreambuf_iterator<char>(file), {}};
}

Expected<vhost_user::Frontend> ServerProcess::connect() {
  const auto end = Clock::now() + kPatience;
  for (;;) {
    auto frontend = vhost_user::Frontend::connect(socket_path());
    if (frontend) return frontend;
    std::string how;
    if (ended(how)) return failed(fmt::format("the server {} before it listened:\n{}", how, output()));
    if (Clock::now() >= end)
      return failed(
          fmt::format("the server does not listen at {}: {}\n{}", socket_path(), frontend.error(), output()));
    pause_for(10);
  }
}

}  // namespace fusewire::bench
