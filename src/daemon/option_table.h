// The table of options: one row for each, from which come the parser's options (options.cc), the names of the
// `-o` list (compat_options.cc), --help (texts.cc) and the test that docs/options.md lists everything.
// Private to this folder.
#pragma once

#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "daemon/options.h"

namespace fusewire::daemon {

// The headings of --help, in its order.
enum class Group { sharing, socket, cache, permissions, locks, process, information, compatibility, later };

enum class Kind {
  word,     // takes no value: -f
  toggle,   // a word that also has a negation: --xattr and --no-xattr, -o xattr and -o no_xattr
  value,    // --cache=auto, -o cache=auto
  refused,  // a value, or none, that belongs to later work: naming the option at all is an error
};

// Options while the command line is being read. What depends on the order of options, or on several of them,
// waits here until finish() in options.cc.
struct Draft {
  Options options;
  bool debug = false;
  std::optional<bool> xattr;        // as said last; none: nobody said
  std::optional<bool> readdirplus;  // none: the cache mode decides
  std::optional<unsigned> num_request_queues;

  void note(log::Level level, std::string text) { options.notes.push_back({level, std::move(text)}); }
};

// The error says what the value must be; the caller puts the option as it was written in front.
using SetResult = std::expected<void, std::string>;
using Setter = SetResult (*)(Draft& draft, std::string_view value);

// What a setter gets as the value of a word or a toggle.
inline constexpr std::string_view kOn = "true";
inline constexpr std::string_view kOff = "false";

struct Row {
  // "-h,--help": an alias that --help does not show stands last. Empty: in -o lists only.
  std::string_view names = {};
  std::string_view compat = {};  // names in a -o list, "log_level,loglevel"; empty: none
  Kind kind = Kind::word;
  std::string_view value = {};  // what --help calls the value
  Group group = Group::sharing;
  std::string_view help = {};
  Setter set = nullptr;
};

std::span<const Row> option_table();
std::string_view group_title(Group group);

// The first of a comma-separated list of names.
std::string_view first_name(std::string_view names);

// Applies one `-o` argument, a list of names and name=value pairs (compat_options.cc).
SetResult apply_compat_list(Draft& draft, std::string_view list);

}  // namespace fusewire::daemon
