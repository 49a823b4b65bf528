#include "daemon/options.h"

#include <fmt/core.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <vector>

#include "daemon/option_table.h"

namespace fusewire::daemon {
namespace {

// One option of the command line as it was given.
struct Given {
  const Row* row = nullptr;
  std::string value;
};

bool takes_value(const Row& row) {
  return row.kind == Kind::value || (row.kind == Kind::refused && !row.value.empty());
}

// "--xattr" with its negation as CLI11 writes it: "--xattr,!--no-xattr".
std::string parser_names(const Row& row) {
  std::string names(row.names);
  if (row.kind == Kind::toggle) names += fmt::format(",!--no-{}", row.names.substr(2));
  return names;
}

const Row* find_long(std::string_view name) {
  for (const Row& row : option_table()) {
    std::string_view names = row.names;
    while (!names.empty()) {
      const std::string_view one = first_name(names);
      if (one == name) return &row;
      if (row.kind == Kind::toggle && name.starts_with("--no-") && name.substr(5) == one.substr(2))
        return &row;
      names.remove_prefix(std::min(names.size(), one.size() + 1));
    }
  }
  return nullptr;
}

// --NAME=VALUE where it does not fit. CLI11 would take the next argument for the value of "--tag=", and has a
// message for "--xattr=yes" that helps nobody.
std::optional<UsageError> check_equals(const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    const std::size_t equals = argument.find('=');
    if (!argument.starts_with("--") || equals == std::string::npos) continue;
    const std::string name = argument.substr(0, equals);
    const Row* row = find_long(name);
    if (row != nullptr && !takes_value(*row)) return UsageError{name + " takes no value"};
    if (row != nullptr && equals + 1 == argument.size()) return UsageError{name + " needs a value"};
  }
  return std::nullopt;
}

UsageError stray(const std::string& argument) {
  if (argument.starts_with("-") && argument != "-" && argument != "--")
    return {fmt::format("there is no option {}, see virtiofsd --help", argument)};
  return {fmt::format("{} is no option; the directory to share is named with --shared-dir=DIR", argument)};
}

// What CLI11 makes of the arguments, in command-line order. It calls back option by option, which would lose
// the order in which the styles are mixed, so that nothing is bound to it and its record of the order is
// replayed instead.
std::expected<std::vector<Given>, UsageError> split(const std::vector<std::string>& arguments) {
  if (auto error = check_equals(arguments)) return std::unexpected(std::move(*error));

  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  std::map<const CLI::Option*, std::pair<const Row*, std::size_t>> rows;  // with the next of its results
  for (const Row& row : option_table()) {
    if (row.names.empty()) continue;
    CLI::Option* option =
        takes_value(row) ? app.add_option(parser_names(row)) : app.add_flag(parser_names(row));
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->allow_extra_args(false);
    rows.emplace(option, std::pair(&row, std::size_t{0}));
  }

  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));  // the order that CLI11 wants
  } catch (const CLI::ArgumentMismatch&) {
    return std::unexpected(UsageError{arguments.back() + " needs a value"});  // Only the last can lack it.
  } catch (const CLI::ParseError& error) {
    return std::unexpected(UsageError{fmt::format("{}, see virtiofsd --help", error.what())});
  }
  if (const auto extras = app.remaining(); !extras.empty()) return std::unexpected(stray(extras.front()));

  std::vector<Given> given;
  for (const CLI::Option* option : app.parse_order()) {
    auto& [row, next] = rows.at(option);
    given.push_back({row, option->results().at(next++)});
  }
  return given;
}

// How `given` stood on the command line, for complaints.
std::string written(const Given& given) {
  const std::string name(first_name(given.row->names));
  if (takes_value(*given.row)) return fmt::format("{}={}", name, given.value);
  return given.value == kOff ? fmt::format("--no-{}", name.substr(2)) : name;
}

SetResult apply(Draft& draft, const Given& given) {
  SetResult set = given.row->set(draft, given.value);
  // A list names the item that it complains about itself.
  if (!set && given.row->set != apply_compat_list)
    return std::unexpected(fmt::format("{} {}", written(given), set.error()));
  return set;
}

unsigned usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // It fails only where there are more CPUs than the set holds (1024).
  if (sched_getaffinity(0, sizeof set, &set) != 0) return kMaxDefaultQueues;
  return static_cast<unsigned>(std::clamp(CPU_COUNT(&set), 1, static_cast<int>(kMaxDefaultQueues)));
}

std::optional<UsageError> check_socket(const Options& options) {
  if (options.fd && !options.socket_path.empty())
    return UsageError{"--fd and --socket-path exclude each other: give only one of them"};
  if (!options.fd && options.socket_path.empty())
    return UsageError{"there is no socket to listen on: give --socket-path=PATH or --fd=N"};
  if (options.fd && options.socket_group)
    return UsageError{"--socket-group goes with --socket-path: a socket given by --fd keeps its group"};
  return std::nullopt;
}

// Settles what depends on several options.
std::expected<Options, UsageError> finish(Draft draft) {
  Options& options = draft.options;
  passthrough::Config& config = options.config;
  if (config.shared_directory.empty())
    return std::unexpected(
        UsageError{"there is no directory to share: give --shared-dir=DIR or -o source=DIR"});
  if (auto error = check_socket(options)) return std::unexpected(std::move(*error));

  const bool needs_xattr = config.posix_acl || config.security_label;
  if (needs_xattr && draft.xattr == false) {
    return std::unexpected(
        UsageError{fmt::format("--{} needs extended attributes, which a later option turns off: "
                               "leave out one of them",
                               config.posix_acl ? "posix-acl" : "security-label")});
  }
  config.xattr = draft.xattr.value_or(false) || needs_xattr;
  config.readdirplus = draft.readdirplus.value_or(config.cache != passthrough::CachePolicy::never);
  options.num_request_queues = draft.num_request_queues ? *draft.num_request_queues : usable_cpus();
  // Like both peers: -d wins over a log level, wherever it stands. More than debug stays.
  if (draft.debug) options.log_level = std::min(options.log_level, log::Level::debug);
  return std::move(options);
}

}  // namespace

std::expected<Options, UsageError> parse(int argc, const char* const* argv) {
  auto given = split(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
  if (!given) return std::unexpected(std::move(given.error()));

  Draft draft;
  for (const Given& option : *given) {
    if (option.row->group != Group::information) continue;
    if (const SetResult set = apply(draft, option); !set) return std::unexpected(UsageError{set.error()});
    return std::move(draft.options);
  }
  for (const Given& option : *given)
    if (SetResult set = apply(draft, option); !set)
      return std::unexpected(UsageError{std::move(set.error())});
  return finish(std::move(draft));
}

}  // namespace fusewire::daemon
