#include "virtiofs-bench/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

namespace fusewire::bench {
namespace {

// What the parser fills in before it is checked.
struct Raw {
  std::string start;
  std::vector<std::string> peers, workloads, waits;
  double seconds = 1, warmup = 0.2;
  std::uint64_t file_size = TreeSizes{}.data_bytes;
};

std::string workload_list() {
  std::string text = "Workloads:\n";
  for (const WorkloadKind& kind : workload_kinds())
    text += fmt::format("  {:<16}{}\n", kind.name, kind.summary);
  return text;
}

void declare(CLI::App& app, Options& options, Raw& raw) {
  app.footer(workload_list());
  app.set_version_flag("--version", "virtiofs-bench " FUSEWIRE_VERSION);
  const auto list = [](CLI::Option* option) { option->delimiter(',')->allow_extra_args(false); };
  app.add_option("--socket", options.socket, "Measure the server that listens here")->type_name("SOCKET");
  app.add_option("--pid", options.pid, "Its process, if another than who listens")
      ->check(CLI::PositiveNumber);
  app.add_option("--start", raw.start, "Start a server: a shell command with {socket} and {dir}")
      ->type_name("CMD");
  app.add_option("--peer", raw.peers, "Start another, to compare with (repeatable)")
      ->type_name("CMD")
      ->allow_extra_args(false);
  list(app.add_option("--names", options.names, "What to call the servers, in that order")
           ->type_name("NAME,..."));
  app.add_option("--dir", options.directory, "Where started servers get a directory to share")
      ->type_name("DIR");
  list(app.add_option("--workloads", raw.workloads, "Which of the workloads below; all")
           ->type_name("NAME,..."));
  list(app.add_option("--qd", options.depths, "Operations in flight in each queue; 1,32")
           ->check(CLI::Range(1U, 1024U)));
  list(app.add_option("--queues", options.queues, "Request queues, each with a driver thread; 1")
           ->check(CLI::Range(1U, 64U)));
  list(app.add_option("--wait", raw.waits, "How replies are waited for: irq, poll; irq")
           ->type_name("HOW,..."));
  app.add_option("--seconds", raw.seconds, "Length of a run; 1")->check(CLI::Range(0.01, 3600.0));
  app.add_option("--warmup", raw.warmup, "Length of the warm-up before each; 0.2")
      ->check(CLI::Range(0.0, 3600.0));
  app.add_option("--rounds", options.rounds, "Runs of each server, in turns; 3")
      ->check(CLI::Range(1U, 1000U));
  app.add_option("--ring-size", options.ring_size, "Entries of a ring; 1024")->check(CLI::Range(16U, 32768U));
  app.add_option("--files", options.tree.entries, "Entries of the directory; 10000")
      ->check(CLI::Range(1U, 1'000'000U));
  app.add_option("--file-size", raw.file_size, "Bytes of the data file, as in 64M; 128M")
      ->transform(CLI::AsSizeValue(false));
  app.add_flag("--markdown", options.markdown, "Print the table as Markdown");
  app.add_option("--json", options.json, "Write all results to a file")->type_name("FILE");
}

Expected<void> resolve(Options& options, const Raw& raw) {
  if (options.socket.empty() == raw.start.empty())
    return failed("what is to be measured? Give either --socket=SOCKET or --start='CMD'");
  if (!raw.start.empty()) options.commands.push_back(raw.start);
  options.commands.insert(options.commands.end(), raw.peers.begin(), raw.peers.end());
  for (const std::string& command : options.commands)
    if (!command.contains("{socket}"))
      return failed(fmt::format("the command '{}' has no {{socket}} in it", command));
  for (const std::string& name : raw.workloads) {
    const WorkloadKind* kind = find_workload(name);
    if (kind == nullptr) return failed(fmt::format("there is no workload {}\n\n{}", name, workload_list()));
    options.workloads.push_back(kind);
  }
  if (options.workloads.empty())
    for (const WorkloadKind& kind : workload_kinds()) options.workloads.push_back(&kind);
  if (!raw.waits.empty()) options.waits.clear();
  for (const std::string& wait : raw.waits) {
    if (wait != "irq" && wait != "poll") return failed(fmt::format("--wait is irq or poll, not {}", wait));
    options.waits.push_back(wait == "irq" ? Wait::irq : Wait::poll);
  }
  constexpr std::uint64_t kUnit = std::uint64_t{1} << 20;
  if (raw.file_size < kUnit || raw.file_size % kUnit != 0)
    return failed("--file-size has to be a multiple of 1 MiB");
  options.tree.data_bytes = raw.file_size;
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
