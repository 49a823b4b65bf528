#include "libfuse/session_options.h"

#include <charconv>
#include <cstdlib>
#include <span>
#include <string_view>
#include <utility>

namespace fusewire::libfuse {
namespace {

using Done = std::expected<void, std::string>;

template <class Number>
Done parse_number(std::string_view name, std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && !text.empty() && number >= 0) return {};
  return std::unexpected("bad value in " + std::string(name) + "=" + std::string(text));
}

// Takes this library's own options out of a list of mount options.
std::string take_own_items(std::string_view list, SessionOptions& options) {
  std::string rest;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= list.size(); ++i) {
    if (i < list.size() && list[i] == '\\') {
      ++i;
      continue;
    }
    if (i < list.size() && list[i] != ',') continue;
    const std::string_view item = list.substr(begin, i - begin);
    begin = i + 1;
    if (item == "debug") {
      options.debug = true;
    } else if (!item.empty()) {
      if (!rest.empty()) rest += ',';
      rest += item;
    }
  }
  return rest;
}

Done apply_list(std::string_view list, SessionOptions& options) {
  const std::string rest = take_own_items(list, options);
  if (rest.empty()) return {};
  return devfuse::apply(rest, options.mount);
}

// An option of the vhost-user side; nullopt: it is none.
std::optional<Done> apply_long(std::string_view name, std::string_view value, SessionOptions& options) {
  if (name == "--socket-path") {
    if (value.empty()) return std::unexpected("--socket-path needs a path");
    options.socket_path = value;
    return Done{};
  }
  if (name == "--fd") return parse_number(name, value, options.socket_fd);
  if (name == "--thread-pool-size") return parse_number(name, value, options.thread_pool_size);
  return std::nullopt;
}

}  // namespace

std::expected<SessionOptions, std::string> parse_session_options(const fuse_args& args) {
  SessionOptions options;
  const std::span<char*> arguments(args.argv, static_cast<std::size_t>(args.argc));
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    Done done;
    if (argument == "-d" || argument == "--debug") {
      options.debug = true;
    } else if (argument == "-r") {
      done = apply_list("ro", options);
    } else if (argument == "-n") {
      continue;  // mount(8)'s: no line in /etc/mtab, which is none of a program's any more
    } else if (argument == "--") {
      continue;
    } else if (argument.starts_with("-o")) {
      std::string_view list = argument.substr(2);
      if (list.empty()) {
        if (++i == arguments.size()) return std::unexpected("missing argument after -o");
        list = arguments[i];
      }
      done = apply_list(list, options);
    } else {
      const std::size_t equals = argument.find('=');
      const std::string_view name = argument.substr(0, equals);
      std::string_view value;
      if (equals != std::string_view::npos) {
        value = argument.substr(equals + 1);
      } else if (i + 1 < arguments.size()) {
        value = arguments[i + 1];
      }
      const auto known = apply_long(name, value, options);
      if (!known) return std::unexpected("unknown option(s): `" + std::string(argument) + "'");
      if (equals == std::string_view::npos) ++i;
      done = *known;
    }
    if (!done) return std::unexpected(done.error());
  }
  if (!options.serves_guest()) {
    const char* socket = std::getenv("FUSEWIRE_SOCKET");
    if (socket != nullptr) options.socket_path = socket;
  }
  return options;
}

}  // namespace fusewire::libfuse
