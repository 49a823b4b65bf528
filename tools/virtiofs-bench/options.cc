#include "virtiofs-bench/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <cstdint>

namespace fusewire::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// What the parser fills in before it is checked.
struct Raw {
  std::string start;
  std::vector<std::string> peers, workloads, waits;
  double seconds = 1, warmup = 0.2;
  unsigned rounds = 0;  // not given
  std::uint64_t file_size = TreeSizes{}.data_bytes;
  std::uint64_t readdir_size = kReaddirBytes;
  unsigned storm_files = TreeSizes{}.storm_directories * TreeSizes{}.storm_files;
};

std::string workload_list() {
  std::string text = "Workloads:\n";
  for (const WorkloadKind& kind : workload_kinds())
    text += fmt::format("  {:<18}{}\n", kind.name, kind.summary);
  return text;
}

void declare(CLI::App& app, Options& options, Raw& raw) {
  app.footer(workload_list());
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);  // but for lists
  app.set_version_flag("--version", "virtiofs-bench " FUSEWIRE_VERSION, "Print the version and exit");
  const auto list = [](CLI::Option* option) {
    return option->delimiter(',')->allow_extra_args(false)->multi_option_policy(
        CLI::MultiOptionPolicy::TakeAll);
  };

  app.add_option("--socket", options.socket, "Measure the server that listens here")->type_name("SOCKET");
  app.add_option("--pid", options.pid, "Its process, if another than the one that listens")
      ->type_name("PID")
      ->check(CLI::PositiveNumber);
  app.add_option("--start", raw.start, "Start a server: a shell command with {socket} and {dir}")
      ->type_name("CMD");
  app.add_option("--peer", raw.peers, "Start another one to compare with; may be repeated")
      ->type_name("CMD")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  list(app.add_option("--names", options.names, "What to call the servers, in that order")
           ->type_name("NAME,..."));
  app.add_option(
         "--dir", options.directory,
         "Where started servers get their directories (default: /dev/shm if there is room, or TMPDIR)")
      ->type_name("DIR")
      ->check(CLI::ExistingDirectory);

  list(app.add_option("--workloads", raw.workloads, "Which of those below (default: all)")
           ->type_name("NAME,..."));
  list(app.add_option("--qd", options.depths, "Operations in flight in each queue (default: 1,32)")
           ->type_name("N,...")
           ->check(CLI::Range(1U, 1024U)));
  list(app.add_option("--queues", options.queues, "Request queues, each with a driver thread (default: 1)")
           ->type_name("N,...")
           ->check(CLI::Range(1U, 64U)));
  list(app.add_option("--wait", raw.waits, "How replies are waited for: irq, poll (default: irq)")
           ->type_name("HOW,..."));
  app.add_option("--seconds", raw.seconds, "Length of a run (default: 1)")
      ->type_name("S")
      ->check(CLI::Range(0.01, 3600.0));
  app.add_option("--warmup", raw.warmup, "Length of the warm-up before each run (default: 0.2)")
      ->type_name("S")
      ->check(CLI::Range(0.0, 3600.0));
  app.add_option("--rounds", raw.rounds, "Runs of each server, in turns (default: 3)")
      ->type_name("N")
      ->check(CLI::Range(1U, 1000U));

  app.add_option("--ring-size", options.ring_size, "Entries of a ring (default: 1024)")
      ->type_name("N")
      ->check(CLI::Range(16U, 32768U));
  app.add_option("--uid", options.uid, "The user and group that the measured requests carry (default: ours)")
      ->type_name("N")
      ->check(CLI::Range(0U, UINT32_MAX - 1));
  app.add_flag("--packed", options.packed, "Packed rings, where the server offers them");
  app.add_option("--known", options.tree.known, "Files that stay looked up all the time (default: 1024)")
      ->type_name("N")
      ->check(CLI::Range(1U, 10'000'000U));
  app.add_option("--files", options.tree.entries, "Entries of the directory of readdirplus (default: 10000)")
      ->type_name("N")
      ->check(CLI::Range(1U, 1'000'000U));
  app.add_option("--storm-files", raw.storm_files, "Files of the tree of stat-storm (default: 20000)")
      ->type_name("N")
      ->check(CLI::Range(1U, 10'000'000U));
  app.add_option("--file-size", raw.file_size, "Size of the data file, as in 64M (default: 128M)")
      ->type_name("SIZE")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--readdir-size", raw.readdir_size,
                 "What one READDIRPLUS asks for, 4K to 128K (default: 32K)")
      ->type_name("SIZE")
      ->transform(CLI::AsSizeValue(false));

  app.add_option("--replay", options.replay,
                 "Replay a recording of virtiofs-mount instead of running workloads")
      ->type_name("FILE")
      ->check(CLI::ExistingFile);
  app.add_option("--contents", options.contents,
                 "With --replay: what started servers share is a copy of this")
      ->type_name("DIR")
      ->check(CLI::ExistingDirectory);

  app.add_flag("--markdown", options.markdown, "Print the table as Markdown");
  app.add_option("--json", options.json, "Write all results to a file")->type_name("FILE");
  app.add_option("--svg", options.svg, "Draw operations per second, compared with the peer if there is one")
      ->type_name("FILE");
}

Expected<void> resolve_workloads(Options& options, const Raw& raw) {
  for (const std::string& name : raw.workloads) {
    const WorkloadKind* kind = find_workload(name);
    if (kind == nullptr) return failed(fmt::format("there is no workload '{}'", name));
    options.workloads.push_back(kind);
  }
  if (options.workloads.empty())
    for (const WorkloadKind& kind : workload_kinds()) options.workloads.push_back(&kind);
  return {};
}

Expected<void> resolve_servers(Options& options, const Raw& raw) {
  if (options.socket.empty() == raw.start.empty())
    return failed("what is to be measured? Give either --socket=SOCKET or --start='CMD'");
  if (options.pid != 0 && options.socket.empty()) return failed("--pid goes with --socket");
  if (!raw.start.empty()) options.commands.push_back(raw.start);
  options.commands.insert(options.commands.end(), raw.peers.begin(), raw.peers.end());
  for (const std::string& command : options.commands)
    if (!command.contains("{socket}"))
      return failed(fmt::format("the command '{}' has no {{socket}} in it", command));
  if (options.names.size() > options.servers())
    return failed(
        fmt::format("--names has {} names for {} servers", options.names.size(), options.servers()));
  return {};
}

// What a first replay leaves in the share would be in the way of a second.
Expected<void> resolve_rounds(Options& options, const Raw& raw) {
  const bool once = !options.replay.empty() && !options.socket.empty();
  if (once && raw.rounds > 1) return failed("--replay to --socket has one round only; --start has many");
  if (raw.rounds != 0) options.rounds = raw.rounds;
  if (once) options.rounds = 1;
  if (!options.contents.empty() && options.replay.empty()) return failed("--contents goes with --replay");
  return {};
}

Expected<void> resolve(Options& options, const Raw& raw) {
  if (auto resolved = resolve_servers(options, raw); !resolved) return resolved;
  if (auto resolved = resolve_rounds(options, raw); !resolved) return resolved;
  if (auto resolved = resolve_workloads(options, raw); !resolved) return resolved;
  if (!raw.waits.empty()) options.waits.clear();
  for (const std::string& wait : raw.waits) {
    if (wait != "irq" && wait != "poll") return failed(fmt::format("--wait is irq or poll, not '{}'", wait));
    options.waits.push_back(wait == "irq" ? Wait::irq : Wait::poll);
  }
  if (!std::has_single_bit(options.ring_size)) return failed("--ring-size has to be a power of two");

  if (raw.file_size < kMiB || raw.file_size % kMiB != 0)
    return failed("--file-size has to be a multiple of 1 MiB");
  if (raw.readdir_size < kPageSize || raw.readdir_size > 32 * kPageSize || raw.readdir_size % kPageSize != 0)
    return failed("--readdir-size has to be a multiple of 4 KiB up to 128 KiB");
  options.tree.data_bytes = raw.file_size;
  options.readdir_bytes = raw.readdir_size;
  options.tree.storm_files = std::min(raw.storm_files, TreeSizes{}.storm_files);
  options.tree.storm_directories =
      (raw.storm_files + options.tree.storm_files - 1) / options.tree.storm_files;
  options.seconds = std::chrono::duration<double>(raw.seconds);
  options.warmup = std::chrono::duration<double>(raw.warmup);
  return {};
}

}  // namespace

Expected<CommandLine> parse(int argc, const char* const* argv) {
  CLI::App app("Measures virtio-fs servers over their vhost-user sockets, without a virtual machine.",
               "virtiofs-bench");
  CommandLine line;
  Raw raw;
  declare(app, line.options, raw);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    line.text = app.help();
    return line;
  } catch (const CLI::CallForVersion&) {
    line.text = app.version() + "\n";
    return line;
  } catch (const CLI::ParseError& error) {
    return failed(error.what());
  }
  if (auto resolved = resolve(line.options, raw); !resolved) return failed(resolved.error());
  return line;
}

std::string_view to_string(Wait wait) { return wait == Wait::irq ? "irq" : "poll"; }

}  // namespace fusewire::bench
