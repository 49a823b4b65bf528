#include "devfuse/mountinfo.h"

#include <fstream>
#include <sstream>
#include <string_view>

namespace fusewire::devfuse {
namespace {

// Blanks and backslashes stand there as \ooo.
std::string unescaped(std::string_view written) {
  const auto is_octal = [](char letter) { return letter >= '0' && letter <= '7'; };
  std::string path;
  for (std::size_t at = 0; at < written.size(); ++at) {
    if (written[at] != '\\' || at + 3 >= written.size() || !is_octal(written[at + 1]) ||
        !is_octal(written[at + 2]) || !is_octal(written[at + 3])) {
      path += written[at];
      continue;
    }
    path += static_cast<char>((written[at + 1] - '0') * 64 + (written[at + 2] - '0') * 8 +
                              (written[at + 3] - '0'));
    at += 3;
  }
  return path;
}

MountEntry parse(const std::string& line) {
  std::istringstream fields(line);
  MountEntry entry;
  std::string parent, device, root, mountpoint, field, source;
  fields >> entry.id >> parent >> device >> root >> mountpoint;
  const std::size_t colon = device.find(':');
  if (colon != std::string::npos) std::istringstream(device.substr(colon + 1)) >> entry.device_minor;
  entry.mountpoint = unescaped(mountpoint);
  while (fields >> field && field != "-") {
  }
  fields >> entry.type >> source >> entry.options;
  return entry;
}

// The last one, which is the topmost, that `matches`.
template <class Matches>
std::optional<MountEntry> find_last(const Matches& matches) {
  std::ifstream table("/proc/self/mountinfo");
  std::optional<MountEntry> found;
  for (std::string line; std::getline(table, line);)
    if (MountEntry entry = parse(line); matches(entry)) found = std::move(entry);
  return found;
}

}  // namespace

std::optional<MountEntry> find_mount_on(const std::string& path) {
  return find_last([&path](const MountEntry& entry) { return entry.mountpoint == path; });
}

std::optional<MountEntry> find_mount(std::uint64_t id) {
  return find_last([id](const MountEntry& entry) { return entry.id == id; });
}

}  // namespace fusewire::devfuse
