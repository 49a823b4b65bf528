#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "virtiofs-bench/report.h"

namespace fusewire::bench {
namespace {

using nlohmann::ordered_json;

// The value of the first line of `path` that begins with `key`, behind its colon; "" if there is none.
std::string value_in(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

ordered_json machine() {
  utsname name{};
  ::uname(&name);
  return {{"cpu", value_in("/proc/cpuinfo", "model name")},
          {"cpus", ::sysconf(_SC_NPROCESSORS_ONLN)},
          {"memory", value_in("/proc/meminfo", "MemTotal")},
          {"kernel", fmt::format("{} {} {}", name.sysname, name.release, name.machine)}};
}

ordered_json settings(const Options& options) {
  return {{"seconds", options.seconds.count()},
          {"warmup", options.warmup.count()},
          {"rounds", options.rounds},
          {"ring_size", options.ring_size},
          {"packed", options.packed},
          {"uid", options.uid ? ordered_json(*options.uid) : ordered_json(nullptr)},
          {"known", options.tree.known},
          {"files", options.tree.entries},
          {"storm_files", options.tree.storm_directories * options.tree.storm_files},
          {"file_size", options.tree.data_bytes},
          {"readdir_size", options.readdir_bytes}};
}

ordered_json to_json(const Figures& figures) {
  ordered_json object;
  for (const FigureKind& kind : kFigureKinds) object[kind.name] = figures.*kind.value;
  return object;
}

ordered_json to_json(const Cell& cell, const std::string& server) {
  ordered_json object{{"server", server}};
  if (cell.runs.empty()) {
    object["not_measured"] = cell.obstacle.empty() ? "interrupted" : cell.obstacle;
    return object;
  }
  object["median"] = to_json(median(cell.runs));
  object["runs"] = ordered_json::array();
  for (const Figures& run : cell.runs) object["runs"].push_back(to_json(run));
  return object;
}

}  // namespace

std::string json(const Measured& measured, const Options& options) {
  ordered_json servers = ordered_json::array(), results = ordered_json::array();
  for (const MeasuredServer& server : measured.servers)
    servers.push_back({{"name", server.name},
                       {"command", server.command},
                       {"request_queues", server.queues},
                       {"features", fmt::format("{:#x}", server.features)}});
  for (const Row& row : measured.rows) {
    ordered_json result{{"workload", row.point.workload->name}, {"operation", row.point.workload->unit},
                        {"queues", row.point.queues},           {"depth", row.point.depth},
                        {"wait", to_string(row.point.wait)},    {"servers", ordered_json::array()}};
    for (std::size_t i = 0; i < measured.servers.size(); ++i)
      result["servers"].push_back(to_json(row.servers[i], measured.servers[i].name));
    results.push_back(std::move(result));
  }
  const ordered_json all{{"tool", "virtiofs-bench " FUSEWIRE_VERSION},
                         {"date", fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr)))},
                         {"machine", machine()},
                         {"directory", measured.directory},
                         {"file_system", measured.file_system},
                         {"options", settings(options)},
                         {"servers", std::move(servers)},
                         {"results", std::move(results)},
                         {"notes", measured.notes}};
  return all.dump(2) + "\n";
}

}  // namespace fusewire::bench
