// The command line of `virtiofsd`: what a person can ask for, in one structure. It accepts what both older
// virtiofsd programs accept (QEMU's C one with its `-o a=b,c` lists, and the Rust one with long options);
// docs/options.md lists every option with where it comes from and where we differ.
//
// Off the data path: runs once, in main, before there is a thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "passthrough/config.h"

namespace fusewire::daemon {

// What to do. All but `serve` print to standard output and end with status 0.
enum class Action { serve, print_help, print_version, print_capabilities };

// Something the person should hear about an accepted option, for the log once there is one.
struct Note {
  log::Level level = log::Level::info;
  std::string text;
};

// The defaults here are the daemon's, except those of `num_request_queues` and the members of `config` that
// depend on other options: parse() fills them in.
struct Options {
  Action action = Action::serve;

  passthrough::Config config;  // --shared-dir and all that is about files

  // Exactly one of these two is set when there is something to serve.
  std::string socket_path;
  std::optional<int> fd;
  std::optional<std::string> socket_group;  // only together with socket_path

  std::string tag;                  // empty: none, the device has no configuration space
  unsigned num_request_queues = 1;  // default: the CPUs that this process may use, kMaxDefaultQueues at most
  std::chrono::microseconds poll{50};  // how long a queue's thread looks for work before it sleeps
  std::vector<unsigned> queue_cpus;    // empty: the queues' threads run where they like
  bool keep_listening = false;

  bool daemonize = false;
  bool syslog = false;
  log::Level log_level = log::Level::info;
  std::optional<std::uint64_t> rlimit_nofile;  // none: choose; 0: leave the limit alone

  std::vector<Note> notes;
};

inline constexpr unsigned kMaxDefaultQueues = 64;
// The longest tag of the virtio specification, in bytes (struct virtio_fs_config).
inline constexpr std::size_t kMaxTag = 36;

// A command line that cannot be served: one line which says what to do. Exit status 2.
struct UsageError {
  std::string text;
};

// Reads the command line; `argv[0]` is skipped. Repeated options are allowed: the last one in command-line
// order wins, whichever of the two styles it is written in. With --help, --version or --print-capabilities
// the rest is only checked for being known options. Touches nothing but memory, and asks the system only for
// the CPU count.
std::expected<Options, UsageError> parse(int argc, const char* const* argv);

}  // namespace fusewire::daemon
