#include "daemon/daemon_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "virtiofs/testing/guest_queue.h"

namespace fusewire::tests {
namespace {

using virtiofs::testing::kPatience;

// A sanitizer's report ends the daemon with this status.
constexpr const char* kSanitizerOptions[] = {
    "ASAN_OPTIONS=exitcode=99:detect_stack_use_after_return=1",
    "LSAN_OPTIONS=exitcode=99",
    "TSAN_OPTIONS=exitcode=99:halt_on_error=0:second_deadlock_stack=1",
    "UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1",
};

std::vector<std::string> environment() {
  std::vector<std::string> variables(std::begin(kSanitizerOptions), std::end(kSanitizerOptions));
  for (char** variable = environ; *variable != nullptr; ++variable) {
    std::string text = *variable;
    if (text.find("SAN_OPTIONS=") == std::string::npos) variables.push_back(std::move(text));
  }
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> list;
  list.reserve(strings.size() + 1);
  for (std::string& string : strings) list.push_back(string.data());
  list.push_back(nullptr);
  return list;
}

std::size_t entries(const std::filesystem::path& directory) {
  std::size_t count = 0;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(directory, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error))
    ++count;
  return count;
}

// Waits until the process ends, at most `patience`.
bool ended(const UniqueFd& pid_fd, std::chrono::milliseconds patience) {
  pollfd watched{pid_fd.get(), POLLIN, 0};
  int count = 0;
  while ((count = ::poll(&watched, 1, static_cast<int>(patience.count()))) < 0 && errno == EINTR) {
  }
  return count == 1;
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "fusewire-test-XXXXXX").string();
  FUSEWIRE_CHECK(::mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

DaemonProcess::DaemonProcess(const std::filesystem::path& directory,
                             const std::vector<std::string>& arguments)
    : socket_path_((directory / "socket").string()), log_path_(directory / "log") {
  const char* chosen = ::getenv("FUSEWIRE_VIRTIOFSD");
  std::vector<std::string> command{chosen != nullptr ? chosen : FUSEWIRE_VIRTIOFSD_PATH,
                                   "--socket-path=" + socket_path_};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables = environment();

  const auto argv = pointers(command);
  const auto envp = pointers(variables);
  const UniqueFd input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd output(::open(log_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  FUSEWIRE_CHECK(input.get() >= 0 && output.get() >= 0);
  pid_ = ::fork();
  FUSEWIRE_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    // A test that is killed for its time limit leaves no daemon behind.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(input.get(), STDIN_FILENO);
    ::dup2(output.get(), STDOUT_FILENO);
    ::dup2(output.get(), STDERR_FILENO);
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  pid_fd_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  FUSEWIRE_CHECK(pid_fd_.get() >= 0);
}

DaemonProcess::~DaemonProcess() {
  if (pid_ < 0) return;
  if (running()) signal(SIGTERM);
  if (!wait_for_end()) {
    signal(SIGKILL);
    (void)wait_for_end();
  }
  EXPECT_EQ(status_.value_or(-1), expected_status_) << "the daemon's exit status";
  const std::string said = log();
  EXPECT_EQ(said.find("Sanitizer"), std::string::npos);
  if (::testing::Test::HasFailure()) std::fprintf(stderr, "--- the daemon said:\n%s---\n", said.c_str());
}

UniqueFd DaemonProcess::connect() {
  if (pid_ < 0) return {};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  FUSEWIRE_CHECK(socket_path_.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, socket_path_.data(), socket_path_.size());
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    FUSEWIRE_CHECK(socket.get() >= 0);
    // SAFETY: the socket interface takes every address as a sockaddr.
    const auto* generic = reinterpret_cast<const sockaddr*>(&address);
    if (::connect(socket.get(), generic, sizeof address) == 0) return socket;
    // Nothing tells that a socket begins to listen, so we look again and again, as long as the daemon lives.
    if (ended(pid_fd_, std::chrono::milliseconds(2))) {
      ADD_FAILURE() << "the daemon has ended:\n" << log();
      return {};
    }
    if (std::chrono::steady_clock::now() > give_up) {
      ADD_FAILURE() << "the daemon does not listen:\n" << log();
      return {};
    }
  }
}

bool DaemonProcess::running() const {
  return pid_ >= 0 && !status_ && !ended(pid_fd_, std::chrono::milliseconds(0));
}

void DaemonProcess::signal(int number) const {
  if (!status_) ::syscall(SYS_pidfd_send_signal, pid_fd_.get(), number, nullptr, 0);
}

std::optional<int> DaemonProcess::wait_for_end() {
  if (status_ || pid_ < 0) return status_;
  if (!ended(pid_fd_, kPatience)) {
    ADD_FAILURE() << "the daemon does not end";
    return std::nullopt;
  }
  int status = 0;
  FUSEWIRE_CHECK(::waitpid(pid_, &status, 0) == pid_);
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
  return status_;
}

std::size_t DaemonProcess::descriptors() const { return entries("/proc/" + std::to_string(pid_) + "/fd"); }

std::size_t DaemonProcess::threads() const { return entries("/proc/" + std::to_string(pid_) + "/task"); }

std::size_t DaemonProcess::anonymous_memory() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/status");
  std::string word;
  while (file >> word) {
    std::size_t kilobytes = 0;
    if (word == "RssAnon:" && file >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

std::string DaemonProcess::log() const {
  std::ifstream file(log_path_);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace fusewire::tests
