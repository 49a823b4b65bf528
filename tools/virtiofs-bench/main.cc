// virtiofs-bench: measures virtio-fs servers over their vhost-user sockets. main() reads from top to bottom
// as what the program does.
//
// Exit status: 0 measured; 1 a server failed, or gave a wrong reply; 2 a command line that cannot be run.
#include <fmt/format.h>
#include <signal.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "virtiofs-bench/report.h"

namespace fusewire::bench {
namespace {

std::atomic<bool> stop{false};
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int) {
  interrupted = true;
  stop = true;
}

void watch_signals() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

// /dev/shm when every server's tree fits there with room to spare, else where temporary files go.
std::string choose_directory(const Options& options) {
  if (!options.directory.empty()) return options.directory;
  struct statvfs fs{};
  const std::uint64_t needed =
      options.commands.size() * options.tree.data_bytes * 2 + (std::uint64_t{256} << 20);
  if (::statvfs("/dev/shm", &fs) == 0 && fs.f_bavail * fs.f_frsize > needed) return "/dev/shm";
  const char* temporary = std::getenv("TMPDIR");
  return temporary != nullptr ? temporary : "/tmp";
}

std::vector<Case> grid(const Options& options) {
  std::vector<Case> cases;
  for (const WorkloadKind* workload : options.workloads)
    for (const unsigned queues : options.queues)
      for (const unsigned depth : options.depths)
        for (const Wait wait : options.waits) cases.push_back({workload, queues, depth, wait});
  return cases;
}

void progress(const std::string& text) {
  if (::isatty(STDERR_FILENO) == 1) fmt::print(stderr, "\r\033[K{}", text);
}

Expected<std::vector<Row>> measure(const Options& options, std::vector<std::unique_ptr<Target>>& targets) {
  std::vector<Row> rows;
  const std::vector<Case> cases = grid(options);
  for (std::size_t n = 0; n < cases.size() && !interrupted; ++n) {
    Row row{cases[n], std::vector<std::vector<Figures>>(targets.size())};
    for (unsigned round = 0; round < options.rounds; ++round) {
      for (std::size_t i = 0; i < targets.size() && !interrupted; ++i) {
        progress(fmt::format("{}/{} {} queues {} depth {} {}: round {} of {}, {}", n + 1, cases.size(),
                             cases[n].workload->name, cases[n].queues, cases[n].depth,
                             to_string(cases[n].wait), round + 1, options.rounds, targets[i]->name()));
        const auto run = targets[i]->run(cases[n], options, stop);
        if (!run)
          return failed(fmt::format("{}, {}: {}{}", targets[i]->name(), cases[n].workload->name, run.error(),
                                    targets[i]->post_mortem()));
        if (!interrupted) row.runs[i].push_back(figures(*run));
      }
    }
    rows.push_back(std::move(row));
  }
  progress("");
  return rows;
}

Expected<void> run(const Options& options) {
  const std::string directory = choose_directory(options);
  std::vector<std::unique_ptr<Target>> targets;
  std::vector<std::string> names;
  const std::size_t servers = options.commands.size() + (options.socket.empty() ? 0 : 1);
  for (std::size_t i = 0; i < servers; ++i) {
    auto target = Target::open(options, i, directory);
    if (!target) return failed(target.error());
    names.push_back((*target)->name());
    targets.push_back(std::move(*target));
  }
  const auto rows = measure(options, targets);
  if (!rows) return failed(rows.error());
  if (!options.commands.empty()) fmt::print("Directories of started servers are in {}.\n", directory);
  fmt::print("{}", table(names, *rows, options.markdown));
  stop = false;
  for (const auto& target : targets)
    if (auto closed = target->close(); !closed) return closed;
  return {};
}

}  // namespace
}  // namespace fusewire::bench

int main(int argc, char** argv) {
  using namespace fusewire::bench;
  const auto line = parse(argc, argv);
  if (!line) {
    fmt::print(stderr, "virtiofs-bench: {}\nSee virtiofs-bench --help.\n", line.error());
    return 2;
  }
  if (!line->text.empty()) {
    fmt::print("{}", line->text);
    return 0;
  }
  watch_signals();
  const auto done = run(line->options);
  if (!done) fmt::print(stderr, "virtiofs-bench: {}\n", done.error());
  if (interrupted) return 130;
  return done ? 0 : 1;
}
