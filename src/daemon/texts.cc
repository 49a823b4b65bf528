#include "daemon/texts.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "daemon/option_table.h"

namespace fusewire::daemon {
namespace {

constexpr std::size_t kColumns = 100;
constexpr std::size_t kHelpColumn = 32;

// Appends `text` to `out`, whose last line is `column` wide, broken between words; further lines begin at
// kHelpColumn.
void wrap(std::string& out, std::size_t column, std::string_view text) {
  bool at_start = true;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (!at_start && column + 1 + word.size() > kColumns) {
      out += '\n' + std::string(kHelpColumn, ' ');
      column = kHelpColumn;
      at_start = true;
    }
    if (!at_start) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    at_start = false;
  }
  out += '\n';
}

void entry(std::string& out, std::string_view left, std::string_view help) {
  out += left;
  std::size_t column = left.size();
  if (column + 2 > kHelpColumn) {
    out += '\n';
    column = 0;
  }
  out += std::string(kHelpColumn - column, ' ');
  wrap(out, kHelpColumn, help);
}

// "  -h, --help", "      --cache=MODE", "      --[no-]xattr".
std::string left_side(const Row& row) {
  const std::string_view first = first_name(row.names);
  const bool is_short = !first.starts_with("--");
  std::string_view shown = first;
  std::string left = is_short ? fmt::format("  {}", first) : "      ";
  if (is_short && row.names.size() > first.size()) {
    shown = row.names.substr(first.size() + 1);
    left += ", ";
  }
  if (!is_short || shown != first) {
    left += row.kind == Kind::toggle ? fmt::format("--[no-]{}", shown.substr(2)) : std::string(shown);
    if (!row.value.empty()) left += fmt::format("={}", row.value);
  } else if (!row.value.empty()) {
    left += fmt::format(" {}", row.value);
  }
  return left;
}

std::string compat_names() {
  std::string names;
  for (const Row& row : option_table()) {
    if (row.compat.empty() || row.group == Group::later) continue;
    if (!names.empty()) names += ", ";
    if (row.kind == Kind::toggle) names += "[no_]";
    names += first_name(row.compat);
    if (!row.value.empty()) names += fmt::format("={}", row.value);
  }
  return names;
}

// Refused options need no text each: the message that refuses one says what to do instead.
std::string refused_names() {
  std::string names;
  for (const Row& row : option_table()) {
    if (row.kind != Kind::refused) continue;
    if (!names.empty()) names += ", ";
    names += row.names;
  }
  return names;
}

}  // namespace

std::string help_text() {
  std::string out =
      "Usage: virtiofsd --shared-dir=DIR --socket-path=PATH [OPTION]...\n"
      "Shares a directory of this host with a virtual machine (virtio-fs over vhost-user).\n"
      "An option given more than once counts as it was given last.\n";
  std::optional<Group> group;
  for (const Row& row : option_table()) {
    if (group != row.group) {
      out += fmt::format("\n{}:\n", group_title(row.group));
      group = row.group;
    }
    if (!row.help.empty()) entry(out, left_side(row), row.help);
    if (row.set == apply_compat_list) entry(out, "", compat_names());
  }
  entry(out, "      and these:", refused_names());
  return out;
}

std::string version_text() { return "virtiofsd (fusewire) " FUSEWIRE_VERSION "\n"; }

std::string capabilities_text() {
  // "separate-options": libvirt may use long options instead of -o lists.
  const nlohmann::ordered_json capabilities = {{"type", "fs"}, {"features", {"separate-options"}}};
  return capabilities.dump(2) + "\n";
}

}  // namespace fusewire::daemon
