// The C virtiofsd's option lists: -o NAME[=VALUE],... . The names are those of the table; a toggle also
// answers to its name with no_ in front.
#include <fmt/core.h>

#include <vector>

#include "daemon/option_table.h"

namespace fusewire::daemon {
namespace {

bool is_octal(char c) { return c >= '0' && c <= '7'; }

// Cuts `list` at its commas. As in libfuse's lists, a backslash takes the next character literally, and with
// three octal digits stands for that byte. A doubled comma is a comma in a name or value: libvirt writes
// those in paths.
std::vector<std::string> split_list(std::string_view list) {
  std::vector<std::string> items(1);
  for (std::size_t at = 0; at < list.size(); ++at) {
    const std::string_view rest = list.substr(at);
    if (rest[0] == '\\' && rest.size() >= 4 && rest[1] <= '3' && is_octal(rest[1]) && is_octal(rest[2]) &&
        is_octal(rest[3])) {
      items.back() += static_cast<char>((rest[1] - '0') * 64 + (rest[2] - '0') * 8 + (rest[3] - '0'));
      at += 3;
    } else if (rest[0] == '\\' && rest.size() >= 2) {
      items.back() += rest[1];
      ++at;
    } else if (rest.starts_with(",,")) {
      items.back() += ',';
      ++at;
    } else if (rest[0] == ',') {
      items.emplace_back();
    } else {
      items.back() += rest[0];
    }
  }
  return items;
}

struct Match {
  const Row* row = nullptr;
  bool negated = false;
};

bool has_name(std::string_view names, std::string_view wanted) {
  while (!names.empty()) {
    const std::string_view name = first_name(names);
    if (name == wanted) return true;
    names.remove_prefix(std::min(names.size(), name.size() + 1));
  }
  return false;
}

Match find(std::string_view name) {
  for (const Row& row : option_table()) {
    if (has_name(row.compat, name)) return {&row, false};
    if (row.kind == Kind::toggle && name.starts_with("no_") && has_name(row.compat, name.substr(3)))
      return {&row, true};
  }
  return {};
}

SetResult apply_item(Draft& draft, std::string_view item) {
  const std::size_t equals = item.find('=');
  const bool has_value = equals != std::string_view::npos;
  const std::string_view name = item.substr(0, equals);
  const std::string_view value = has_value ? item.substr(equals + 1) : std::string_view();

  const Match match = find(name);
  if (match.row == nullptr) return std::unexpected("is not a known name, see virtiofsd --help");
  switch (match.row->kind) {
    case Kind::word:
    case Kind::toggle:
      if (has_value) return std::unexpected("takes no value");
      return match.row->set(draft, match.negated ? kOff : kOn);
    case Kind::value:
      if (value.empty()) return std::unexpected(fmt::format("needs a value: {}={}", name, match.row->value));
      [[fallthrough]];
    case Kind::refused:
      return match.row->set(draft, value);
  }
  return {};
}

}  // namespace

SetResult apply_compat_list(Draft& draft, std::string_view list) {
  if (list.starts_with('=')) list.remove_prefix(1);  // "-o=xattr", as the Rust virtiofsd takes it
  for (const std::string& item : split_list(list)) {
    if (item.empty()) return std::unexpected(fmt::format("-o {}: an item of the list is empty", list));
    if (const SetResult set = apply_item(draft, item); !set)
      return std::unexpected(fmt::format("-o {} {}", item, set.error()));
  }
  return {};
}

}  // namespace fusewire::daemon
