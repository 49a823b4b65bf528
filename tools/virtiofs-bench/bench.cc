#include "virtiofs-bench/bench.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "virtiofs-bench/report.h"

namespace fusewire::bench {
namespace {

// /dev/shm when every server's tree fits there with room to spare, else where temporary files go.
std::string choose_directory(const Options& options) {
  if (!options.directory.empty()) return options.directory;
  struct statvfs fs{};
  const std::uint64_t needed =
      options.commands.size() * options.tree.data_bytes * 2 + (std::uint64_t{256} << 20);
  if (::statvfs("/dev/shm", &fs) == 0 && fs.f_bavail * fs.f_frsize > needed) return "/dev/shm";
  const char* temporary = std::getenv("TMPDIR");
  return temporary != nullptr && *temporary != '\0' ? temporary : "/tmp";
}

std::string file_system_of(const std::string& directory) {
  struct statfs fs{};
  if (::statfs(directory.c_str(), &fs) != 0) return "unknown";
  const struct {
    std::uint32_t magic;
    const char* name;
  } known[] = {{TMPFS_MAGIC, "tmpfs"},       {EXT4_SUPER_MAGIC, "ext4"},           {XFS_SUPER_MAGIC, "xfs"},
               {BTRFS_SUPER_MAGIC, "btrfs"}, {OVERLAYFS_SUPER_MAGIC, "overlayfs"}, {NFS_SUPER_MAGIC, "nfs"},
               {F2FS_SUPER_MAGIC, "f2fs"}};
  for (const auto& [magic, name] : known)
    if (static_cast<std::uint32_t>(fs.f_type) == magic) return name;
  return fmt::format("type {:#x}", static_cast<std::uint32_t>(fs.f_type));
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

class Bench {
 public:
  Bench(const Options& options, const std::atomic<bool>& interrupted)
      : options_(options), interrupted_(interrupted) {}

  Expected<void> open() {
    const std::string directory = choose_directory(options_);
    if (!options_.commands.empty()) {
      measured_.directory = directory;
      measured_.file_system = file_system_of(directory);
    }
    const bool given = !options_.socket.empty();
    for (std::size_t i = 0; i < options_.commands.size() + (given ? 1 : 0); ++i) {
      progress(fmt::format("starting server {} and making its tree", i + 1));
      auto target = Target::open(options_, i, directory, interrupted_);
      if (!target) return failed(target.error());
      measured_.servers.push_back({.name = (*target)->name(),
                                   .command = !given   ? options_.commands[i]
                                              : i == 0 ? options_.socket
                                                       : options_.commands[i - 1],
                                   .queues = (*target)->queues(),
                                   .features = (*target)->features()});
      targets_.push_back(std::move(*target));
    }
    return {};
  }

  Expected<void> measure() {
    const std::vector<Case> cases = grid(options_);
    for (std::size_t n = 0; n < cases.size() && !interrupted_; ++n) {
      Row row{cases[n], std::vector<Cell>(targets_.size())};
      for (std::size_t i = 0; i < targets_.size(); ++i)
        row.servers[i].obstacle = targets_[i]->obstacle(cases[n]);
      for (unsigned round = 0; round < options_.rounds; ++round) {
        progress(fmt::format("{} of {}: {}, queues {}, depth {}, {}: round {} of {}", n + 1, cases.size(),
                             cases[n].workload->name, cases[n].queues, cases[n].depth,
                             to_string(cases[n].wait), round + 1, options_.rounds));
        if (auto done = measure_round(row); !done) return done;
      }
      measured_.rows.push_back(std::move(row));
    }
    progress("");
    return {};
  }

  // Says goodbye to all servers, whatever happens with one of them. The first failure.
  Expected<void> close() {
    Expected<void> result;
    for (const auto& target : targets_)
      if (auto closed = target->close(); !closed && result) result = closed;
    return result;
  }

  const Measured& measured() const { return measured_; }

 private:
  // One run of each server: A B A B over the rounds, so that what disturbs the machine disturbs all.
  Expected<void> measure_round(Row& row) {
    for (std::size_t i = 0; i < targets_.size() && !interrupted_; ++i) {
      if (!row.servers[i].obstacle.empty()) continue;
      const auto run = targets_[i]->run(row.point, options_);
      if (!run)
        return failed(fmt::format("{}: {}: {}{}", targets_[i]->name(), row.point.workload->name, run.error(),
                                  targets_[i]->post_mortem()));
      if (!interrupted_) row.servers[i].runs.push_back(figures(*run));
    }
    return {};
  }

  const Options& options_;
  const std::atomic<bool>& interrupted_;
  std::vector<std::unique_ptr<Target>> targets_;
  Measured measured_;
};

// Fails now rather than after an hour.
Expected<void> check_outputs(const Options& options) {
  for (const std::string& path : {options.json, options.svg})
    if (!path.empty() && !std::ofstream(path)) return failed(fmt::format("{} cannot be written", path));
  if (!options.svg.empty()) return run_gnuplot("");
  return {};
}

Expected<void> report(const Measured& measured, const Options& options) {
  if (!measured.directory.empty())
    fmt::print("Servers that were started share directories in {} ({}).\n\n", measured.directory,
               measured.file_system);
  fmt::print("{}", table(measured, options.markdown));
  if (!options.json.empty() && !(std::ofstream(options.json) << json(measured, options)).flush())
    return failed(fmt::format("{} cannot be written", options.json));
  if (!options.svg.empty() && !measured.rows.empty())
    return run_gnuplot(gnuplot_script(measured, options.svg));
  return {};
}

}  // namespace

Expected<void> run(const Options& options, const std::atomic<bool>& interrupted) {
  if (auto possible = check_outputs(options); !possible) return possible;
  Bench bench(options, interrupted);
  if (auto opened = bench.open(); !opened) return opened;
  if (auto measured = bench.measure(); !measured) return measured;
  const auto closed = bench.close();
  const auto reported = report(bench.measured(), options);
  return closed ? reported : closed;
}

}  // namespace fusewire::bench
