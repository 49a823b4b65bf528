#include "devfuse/fusermount.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <span>
#include <vector>

#include "base/log.h"
#include "fusewire/result.h"

namespace fusewire::devfuse {
namespace {

constexpr const char* kProgram = "fusermount3";

std::unexpected<std::string> failed(std::string_view what, int error) {
  return std::unexpected(fmt::format("{}: {}", what, to_string(Errno{error})));
}

// Starts fusermount3 with `arguments`. `comm_fd` (-1: none) stays open in it, and its number is in
// _FUSE_COMMFD.
std::expected<pid_t, std::string> start(std::vector<std::string> arguments, int comm_fd) {
  arguments.insert(arguments.begin(), kProgram);
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::string comm = fmt::format("_FUSE_COMMFD={}", comm_fd);
  std::vector<char*> environment;
  for (char** variable = environ; *variable != nullptr; ++variable)
    if (std::strncmp(*variable, "_FUSE_COMMFD=", 13) != 0) environment.push_back(*variable);
  if (comm_fd >= 0) environment.push_back(comm.data());
  environment.push_back(nullptr);

  // Signals are blocked in our threads, and must not be in a program that may have to be ended.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // Onto itself: clears close-on-exec (posix_spawn(3)).
  if (comm_fd >= 0) posix_spawn_file_actions_adddup2(&actions, comm_fd, comm_fd);
  pid_t pid = -1;
  const int error = posix_spawnp(&pid, kProgram, &actions, &attributes, argv.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return failed("cannot run fusermount3, which mounts for users other than root", error);
  return pid;
}

std::expected<void, std::string> finish(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    // SIGCHLD is ignored: how it ended cannot be known, only that it did.
    if (errno == ECHILD) return {};
    if (errno != EINTR) return failed("waiting for fusermount3", errno);
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return std::unexpected(WIFEXITED(status)
                             ? fmt::format("fusermount3 failed with status {}", WEXITSTATUS(status))
                             : fmt::format("fusermount3 was ended by signal {}", WTERMSIG(status)));
}

// The descriptor that comes over `socket`; none when the peer ended without sending one.
UniqueFd receive_fd(int socket) {
  char byte = 0;
  iovec vector{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got <= 0) return {};
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len < CMSG_LEN(sizeof(int)))
    return {};
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return UniqueFd(fd);
}

}  // namespace

FusermountKeeper::FusermountKeeper(pid_t pid, UniqueFd socket)
    : pid_(pid), process_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))), socket_(std::move(socket)) {}

FusermountKeeper::~FusermountKeeper() {
  socket_.reset();
  await_end();
}

void FusermountKeeper::dismiss() {
  // By its descriptor: it may be no child of ours, after a fork, and its number somebody else's.
  if (process_) syscall(SYS_pidfd_send_signal, process_.get(), SIGKILL, nullptr, 0);
  socket_.reset();
  await_end();
}

void FusermountKeeper::await_end() {
  const pid_t pid = std::exchange(pid_, -1);
  while (pid >= 0 && waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::expected<Fusermounted, std::string> fusermount_mount(const std::string& mountpoint,
                                                          const std::string& options, bool keeps) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return failed("socketpair", errno);
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  const auto pid = start({"-o", options, "--", mountpoint}, theirs.get());
  if (!pid) return std::unexpected(pid.error());
  theirs.reset();  // so that its end ends our waiting
  UniqueFd fuse = receive_fd(ours.get());
  if (keeps && fuse) return Fusermounted{std::move(fuse), FusermountKeeper(*pid, std::move(ours))};
  if (auto done = finish(*pid); !done) {
    if (fuse)
      if (const auto undone = fusermount_unmount(mountpoint, true); !undone) log::error("{}", undone.error());
    return std::unexpected(done.error());
  }
  if (!fuse) return std::unexpected("fusermount3 sent no descriptor");
  return Fusermounted{std::move(fuse), {}};
}

std::expected<void, std::string> fusermount_unmount(const std::string& mountpoint, bool lazy) {
  std::vector<std::string> arguments = {"-u", "-q"};
  if (lazy) arguments.emplace_back("-z");
  arguments.insert(arguments.end(), {"--", mountpoint});
  const auto pid = start(std::move(arguments), -1);
  if (!pid) return std::unexpected(pid.error());
  return finish(*pid);
}

}  // namespace fusewire::devfuse
