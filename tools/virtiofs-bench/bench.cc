#include "virtiofs-bench/bench.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "virtiofs-bench/measure.h"
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
  if (!options.svg.empty()) return run_gnuplot(gnuplot_script(measured, options.svg));
  return {};
}

}  // namespace

void show_progress(const std::string& text) {
  if (::isatty(STDERR_FILENO) == 1) fmt::print(stderr, "\r\033[K{}", text);
}

Expected<void> run(const Options& options, const std::atomic<bool>& interrupted) {
  if (auto possible = check_outputs(options); !possible) return possible;
  const std::string directory = choose_directory(options);
  Measured measured;
  if (!options.commands.empty()) {
    measured.directory = directory;
    measured.file_system = file_system_of(directory);
  }
  const auto done = options.replay.empty() ? measure_workloads(options, directory, interrupted, measured)
                                           : measure_replay(options, directory, interrupted, measured);
  show_progress("");
  // What was measured before something went wrong is shown all the same.
  const auto reported = measured.rows.empty() ? Expected<void>{} : report(measured, options);
  return done ? reported : done;
}

}  // namespace fusewire::bench
