// The command line of virtiofs-bench. docs/virtiofs-bench.md explains the options.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtiofs-bench/loop.h"
#include "virtiofs-bench/tree.h"

namespace fusewire::bench {

struct Options {
  // What is measured: a server that runs, or commands that start one each; the first is compared with the
  // others.
  std::string socket;
  pid_t pid = 0;  // of the server at `socket`; 0: who listens there
  std::vector<std::string> commands;
  // The command that starts the server `index`; nullptr: it is the one at `socket`.
  const std::string* command(std::size_t index) const {
    if (!socket.empty() && index == 0) return nullptr;
    return &commands[index - (socket.empty() ? 0 : 1)];
  }
  std::size_t servers() const { return commands.size() + (socket.empty() ? 0 : 1); }
  std::vector<std::string> names;  // by server; where there are too few, a server's program names it
  std::string directory;           // where started servers get their directories; "": chosen

  std::vector<const WorkloadKind*> workloads;
  std::vector<unsigned> depths{1, 32};
  std::vector<unsigned> queues{1};
  std::vector<Wait> waits{Wait::irq};
  std::chrono::duration<double> seconds{1}, warmup{0.2};
  unsigned rounds = 3;

  unsigned ring_size = 1024;
  bool packed = false;
  std::optional<std::uint32_t> uid;  // of the measured requests, also as their group; none: our own
  std::size_t readdir_bytes = kReaddirBytes;
  TreeSizes tree;

  std::string replay;    // a recording to replay instead of running workloads
  std::string contents;  // what the directories of started servers hold at first; "": nothing

  bool markdown = false;
  std::string json, svg;
};

// What to do with a command line: run, or print a text and end.
struct CommandLine {
  Options options;
  std::string text;  // --help or --version: to standard output
};
// Fails with what is wrong with it.
Expected<CommandLine> parse(int argc, const char* const* argv);

std::string_view to_string(Wait wait);

}  // namespace fusewire::bench
