// The command line of virtiofs-mount.
#pragma once

#include <expected>
#include <string>

#include "devfuse/mount_options.h"

namespace fusewire::carry {

struct Options {
  enum class Action { mount, print_help, print_version };
  Action action = Action::mount;
  std::string socket;
  std::string mountpoint;
  devfuse::MountOptions mount;
  unsigned queues = 1;
  bool foreground = false;
  bool trace = false;
  bool interrupts = false;
  bool debug = false;
  std::string record;  // empty: no
};

inline constexpr unsigned kMaxQueues = 64;

// Reads the command line; `argv[0]` is skipped. The error is one line that says what to do; exit status 2.
std::expected<Options, std::string> parse(int argc, const char* const* argv);

std::string help_text();
std::string version_text();

}  // namespace fusewire::carry
