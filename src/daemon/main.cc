// virtiofsd: shares a directory of this host with a virtual machine. This is the start-up sequence from the
// command line to the first front-end, and the way back; each step is explained where it is implemented.
//
// Exit status: 0 when the front-end has gone or a signal asked for the end, 1 for what stands in the way, 2
// for a command line that cannot be served. Both errors print one line that says what to do.
#include <fcntl.h>
#include <fmt/core.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "daemon/options.h"
#include "daemon/process.h"
#include "daemon/texts.h"
#include "passthrough/passthrough.h"
#include "vhost_user/listener.h"
#include "vhost_user/service.h"
#include "virtiofs/device.h"

namespace fusewire::daemon {
namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

template <class T>
using OrText = std::expected<T, std::string>;

// One line on standard error, whatever line breaks the command line had in it.
void complain(std::string text) {
  for (char& letter : text)
    if (static_cast<unsigned char>(letter) < ' ') letter = '?';
  fmt::print(stderr, "virtiofsd: {}\n", text);
}

int print(const std::string& text) {
  return std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0 ? EXIT_SUCCESS : kFailure;
}

void start_log(const Options& options) {
  log::set_level(options.log_level);
  if (options.syslog) log::use_syslog("virtiofsd");
}

// The descriptor of --fd, out of the way of the standard ones, which a daemon in the background gives up.
OrText<UniqueFd> take_inherited(int fd) {
  const int own = fd <= STDERR_FILENO ? fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : fcntl(fd, F_GETFD);
  if (own < 0)
    return std::unexpected(fmt::format("--fd={} is not open: whoever starts virtiofsd must pass it on", fd));
  return UniqueFd(fd <= STDERR_FILENO ? own : fd);
}

// What PassthroughFs::create() would stumble over, said in terms of the command line.
OrText<void> check_shared_directory(const std::string& directory) {
  struct stat status{};
  if (stat(directory.c_str(), &status) != 0) {
    return std::unexpected(
        fmt::format("cannot share {}: {}: create it, or name another directory with --shared-dir", directory,
                    to_string(Errno{errno})));
  }
  if (!S_ISDIR(status.st_mode))
    return std::unexpected(
        fmt::format("cannot share {}: it is no directory, name one with --shared-dir", directory));
  if (euidaccess(directory.c_str(), R_OK | X_OK) != 0) {
    return std::unexpected(
        fmt::format("cannot share {}: user {} may not read it: change its mode, or run virtiofsd as "
                    "a user who may",
                    directory, geteuid()));
  }
  return {};
}

OrText<vhost_user::Listener> listen(const Options& options, UniqueFd inherited) {
  return options.fd ? vhost_user::Listener::adopt(std::move(inherited))
                    : vhost_user::Listener::bind(options.socket_path, options.socket_group);
}

void log_notes(const std::vector<Note>& notes) {
  for (const Note& note : notes) log::emit(note.level, "{}", note.text);
}

// Everything after the command line. The status to exit with, or the text of an error.
OrText<int> run(Options options) {
  // The socket that we were given comes first: no descriptor of ours may take its number, should it not be
  // open.
  UniqueFd inherited;
  if (options.fd) {
    auto taken = take_inherited(*options.fd);
    if (!taken) return std::unexpected(taken.error());
    inherited = *std::move(taken);
  }

  // The process: signals, limits, and with --daemonize the child that goes on while the parent waits for its
  // success.
  ignore_fatal_signals();
  auto stop = StopSignals::block();
  if (!stop) return std::unexpected("cannot receive signals (signalfd): " + to_string(stop.error()));
  if (auto warning = set_nofile_limit(options.rlimit_nofile))
    options.notes.push_back({log::Level::warn, *std::move(warning)});
  std::optional<Background> background;
  if (options.daemonize) {
    auto forked = Background::fork();
    if (!forked) return std::unexpected("cannot go to the background (fork): " + to_string(forked.error()));
    if (const auto status = forked->parent_status()) return *status;
    background = *std::move(forked);
  }

  // The file system, the device that speaks FUSE over virtqueues for it, and the socket for the front-end.
  // The order is that of their ends, too: the socket's file goes first, the shared directory last.
  if (const auto readable = check_shared_directory(options.config.shared_directory); !readable)
    return std::unexpected(readable.error());
  if (const auto usable = check_cpus(options.queue_cpus); !usable) return std::unexpected(usable.error());
  auto file_system = passthrough::PassthroughFs::create(options.config);
  if (!file_system) return std::unexpected(std::move(file_system.error()));
  auto device = virtiofs::Device::create(**file_system, {.request_queues = options.num_request_queues,
                                                         .poll = options.poll,
                                                         .queue_cpus = options.queue_cpus,
                                                         .tag = options.tag});
  if (!device) {
    return std::unexpected(fmt::format(
        "cannot make {} request queues: {}: choose fewer with --num-request-queues, or more descriptors with "
        "--rlimit-nofile",
        options.num_request_queues, to_string(device.error())));
  }
  auto listener = listen(options, std::move(inherited));
  if (!listener) return std::unexpected(std::move(listener.error()));

  // The start has succeeded. A relative socket path needs the working directory until the end.
  log_notes(options.notes);
  log::info("sharing {} and waiting for a front-end on {}", options.config.shared_directory,
            options.fd ? fmt::format("descriptor {}", *options.fd) : options.socket_path);
  if (background) {
    const bool leave_directory = options.fd || options.socket_path.starts_with('/');
    if (const auto entered = background->enter(leave_directory); !entered)
      return std::unexpected("cannot go to the background: " + to_string(entered.error()));
  }

  const auto served = vhost_user::serve(*listener, **device,
                                        {.stop_fd = stop->fd(), .keep_listening = options.keep_listening});
  if (!served) return std::unexpected(served.error());
  if (const int signal = stop->take(); signal != 0) log::info("ending: signal {}", sigabbrev_np(signal));
  return EXIT_SUCCESS;
}

int main_after_parse(const Options& options) {
  start_log(options);
  const auto status = run(options);
  if (status) return *status;
  complain(status.error());
  if (options.syslog) log::error("{}", status.error());
  return kFailure;
}

}  // namespace
}  // namespace fusewire::daemon

int main(int argc, char** argv) {
  using namespace fusewire::daemon;
  const auto options = parse(argc, argv);
  if (!options) {
    complain(options.error().text);
    return kUsage;
  }
  switch (options->action) {
    case Action::print_help:
      return print(help_text());
    case Action::print_version:
      return print(version_text());
    case Action::print_capabilities:
      return print(capabilities_text());
    case Action::serve:
      return main_after_parse(*options);
  }
}
