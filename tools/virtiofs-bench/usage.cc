#include "virtiofs-bench/usage.h"

#include <dirent.h>
#include <fmt/format.h>

#include <charconv>
#include <ctime>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace fusewire::bench {
namespace {

struct CloseDir {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

// The names in `path` that are numbers; none when it cannot be read.
std::vector<pid_t> numbers_in(const std::string& path) {
  std::vector<pid_t> numbers;
  const std::unique_ptr<DIR, CloseDir> directory(::opendir(path.c_str()));
  if (!directory) return numbers;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    pid_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && end == name.data() + name.size()) numbers.push_back(number);
  }
  return numbers;
}

// The parent in /proc/PID/stat: the second word behind the command, which may hold anything but ends at the
// last parenthesis (proc(5)). 0: no such process.
pid_t parent_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(file, line);
  const std::size_t end = line.rfind(')');
  if (end == std::string::npos || end + 4 >= line.size()) return 0;
  pid_t parent = 0;
  const std::string_view rest = std::string_view(line).substr(end + 4);  // ") S " stands before it
  std::from_chars(rest.data(), rest.data() + rest.size(), parent);
  return parent;
}

std::uint64_t peak_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/status", pid));
  for (std::string word; file >> word;) {
    std::uint64_t kibibytes = 0;
    if (word == "VmHWM:" && file >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

}  // namespace

std::vector<pid_t> process_tree(pid_t pid) {
  std::multimap<pid_t, pid_t> children;
  bool found = false;
  for (const pid_t one : numbers_in("/proc")) {
    found = found || one == pid;
    children.emplace(parent_of(one), one);
  }
  std::vector<pid_t> tree;
  if (found) tree.push_back(pid);
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const auto [from, to] = children.equal_range(tree[i]);
    for (auto child = from; child != to; ++child) tree.push_back(child->second);
  }
  return tree;
}

std::chrono::nanoseconds cpu_time(std::span<const pid_t> tree) {
  std::chrono::nanoseconds sum{0};
  for (const pid_t pid : tree) {
    clockid_t clock = 0;
    timespec time{};
    if (::clock_getcpuclockid(pid, &clock) == 0 && ::clock_gettime(clock, &time) == 0)
      sum += std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  }
  return sum;
}

void restart_peak(std::span<const pid_t> tree) {
  for (const pid_t pid : tree) std::ofstream(fmt::format("/proc/{}/clear_refs", pid)) << "5";
}

Footprint footprint(std::span<const pid_t> tree) {
  Footprint sum;
  for (const pid_t pid : tree) {
    sum.peak_bytes += peak_of(pid);
    sum.descriptors += numbers_in(fmt::format("/proc/{}/fd", pid)).size();
  }
  return sum;
}

}  // namespace fusewire::bench
