#include "devfuse/mount_options.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <span>

namespace fusewire::devfuse {
namespace {

// An option that is a bit of mount(2), or the absence of one.
struct Flag {
  std::string_view name;
  unsigned long bit;
  bool on;
};
constexpr Flag kFlags[] = {
    {"ro", MS_RDONLY, true},
    {"rw", MS_RDONLY, false},
    {"nosuid", MS_NOSUID, true},
    {"suid", MS_NOSUID, false},
    {"nodev", MS_NODEV, true},
    {"dev", MS_NODEV, false},
    {"noexec", MS_NOEXEC, true},
    {"exec", MS_NOEXEC, false},
    {"sync", MS_SYNCHRONOUS, true},
    {"async", MS_SYNCHRONOUS, false},
    {"dirsync", MS_DIRSYNC, true},
    {"noatime", MS_NOATIME, true},
    {"atime", MS_NOATIME, false},
    {"nodiratime", MS_NODIRATIME, true},
    {"diratime", MS_NODIRATIME, false},
    {"relatime", MS_RELATIME, true},
    {"norelatime", MS_RELATIME, false},
    {"strictatime", MS_STRICTATIME, true},
    {"nostrictatime", MS_STRICTATIME, false},
};

// For those who read /etc/fstab, not for us: mount(8) hands them on.
constexpr std::string_view kIgnored[] = {"defaults", "auto",    "noauto", "nofail", "user",
                                         "nouser",   "_netdev", "users",  "owner"};

struct Refused {
  std::string_view name;
  std::string_view why;
};
constexpr Refused kRefused[] = {
    {"fd", "is set by the program that mounts"},
    {"rootmode", "is set by the program that mounts"},
    {"user_id", "is set by the program that mounts"},
    {"group_id", "is set by the program that mounts"},
};

constexpr std::uint32_t kMostQueueDepth = 1024;
constexpr std::uint32_t kMostBusyPoll = 1000000;  // microseconds

template <class Row>
const Row* find(std::span<const Row> table, std::string_view name) {
  const auto found = std::ranges::find(table, name, &Row::name);
  return found == table.end() ? nullptr : &*found;
}

// Takes the first option off `list`, without its separator, backslashes resolved. Quotes stay: they are part
// of what the kernel wants around a context.
std::string take_option(std::string_view& list) {
  std::string option;
  bool quoted = false;
  std::size_t at = 0;
  for (; at < list.size(); ++at) {
    if (list[at] == '\\' && at + 1 < list.size()) {
      option += list[++at];
      continue;
    }
    if (list[at] == '"') quoted = !quoted;
    if (list[at] == ',' && !quoted) break;
    option += list[at];
  }
  list.remove_prefix(std::min(list.size(), at + 1));
  return option;
}

std::unexpected<std::string> bad(std::string text) { return std::unexpected(std::move(text)); }

std::optional<std::uint32_t> number_of(std::string_view value) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size()) return std::nullopt;
  return number;
}

std::expected<std::uint32_t, std::string> number_between(std::string_view name, std::string_view value,
                                                         std::uint32_t least, std::uint32_t most) {
  const auto number = number_of(value);
  if (number && *number >= least && *number <= most) return *number;
  return bad(fmt::format("{}={} is no number from {} to {}", name, value, least, most));
}

void append(std::string& list, std::string_view option) {
  if (!list.empty()) list += ',';
  list += option;
}

using Applied = std::expected<void, std::string>;

Applied set_number(std::string_view name, std::string_view value, std::optional<std::uint32_t>& wish,
                   std::uint32_t least, std::uint32_t most) {
  const auto number = number_between(name, value, least, most);
  if (!number) return bad(number.error());
  wish = *number;
  return {};
}

Applied set_bytes(std::string_view name, std::string_view value, std::optional<std::uint32_t>& wish) {
  wish = number_of(value);
  if (!wish) return bad(fmt::format("{}={} is no number of bytes", name, value));
  return {};
}

Applied set_busy_poll(std::string_view name, std::string_view value, MountOptions& options) {
  const auto number = number_between(name, value, 0, kMostBusyPoll);
  if (!number) return bad(number.error());
  options.busy_poll = std::chrono::microseconds(*number);
  return {};
}

Applied add_security(std::string_view name, std::string_view value, MountOptions& options) {
  append(options.security, fmt::format("{}={}", name, value));
  return {};
}

// An option that has a value.
struct Valued {
  std::string_view name;
  Applied (*set)(std::string_view name, std::string_view value, MountOptions& options);
};
constexpr Valued kValued[] = {
    {"fsname",
     [](auto, auto value, auto& options) {
       options.fsname = value;
       return Applied();
     }},
    {"subtype",
     [](auto, auto value, auto& options) {
       options.subtype = value;
       return Applied();
     }},
    {"max_read",
     [](auto name, auto value, auto& options) { return set_bytes(name, value, options.max_read); }},
    {"blksize",
     [](auto name, auto value, auto& options) { return set_bytes(name, value, options.block_size); }},
    {"io_uring_q_depth",
     [](auto name, auto value, auto& options) {
       return set_number(name, value, options.io_uring_queue_depth, 1, kMostQueueDepth);
     }},
    {"poll_us", set_busy_poll},
    {"context", add_security},
    {"fscontext", add_security},
    {"defcontext", add_security},
    {"rootcontext", add_security},
};

// As if it had not been given.
bool may_be_empty(std::string_view name) { return name == "fsname" || name == "subtype"; }

bool* wish_of(std::string_view name, MountOptions& options) {
  if (name == "allow_other") return &options.allow_other;
  if (name == "allow_root") return &options.allow_root;
  if (name == "auto_unmount") return &options.auto_unmount;
  if (name == "blkdev") return &options.block_device;
  if (name == "io_uring") return &options.io_uring;
  if (name == "default_permissions") return &options.default_permissions;
  return nullptr;
}

Applied apply_word(std::string_view name, MountOptions& options) {
  if (const auto* flag = find<Flag>(kFlags, name)) {
    options.flags = flag->on ? options.flags | flag->bit : options.flags & ~flag->bit;
  } else if (bool* wish = wish_of(name, options)) {
    *wish = true;
  } else if (find<Valued>(kValued, name) != nullptr) {
    return bad(fmt::format("the mount option {} needs a value", name));
  } else if (std::ranges::find(kIgnored, name) == std::end(kIgnored)) {
    return bad(fmt::format("there is no mount option {}", name));
  }
  return {};
}

Applied apply_one(std::string_view option, MountOptions& options) {
  const std::size_t equals = option.find('=');
  const std::string_view name = option.substr(0, equals);
  if (name.empty()) return bad(fmt::format("\"{}\" is no mount option", option));
  if (const auto* refused = find<Refused>(kRefused, name))
    return bad(fmt::format("the mount option {} {}", name, refused->why));
  if (name.starts_with("x-")) return {};  // mount(8): comments for other programs
  if (equals == std::string_view::npos) return apply_word(name, options);
  const std::string_view value = option.substr(equals + 1);
  if (name == "user") return {};  // who mounts, from /etc/mtab's times
  const auto* valued = find<Valued>(kValued, name);
  if (value.empty() && !may_be_empty(name))
    return bad(fmt::format("the mount option {} needs a value", name));
  return valued != nullptr ? valued->set(name, value, options)
                           : bad(fmt::format("there is no mount option {}", name));
}

}  // namespace

std::expected<void, std::string> apply(std::string_view list, MountOptions& options) {
  while (!list.empty()) {
    const std::string option = take_option(list);
    if (option.empty()) continue;
    if (auto done = apply_one(option, options); !done) return done;
  }
  if (options.allow_other && options.allow_root)
    return bad("the mount options allow_other and allow_root exclude each other");
  if (options.block_device && options.fsname.empty())
    return bad("the mount option blkdev needs fsname=DEVICE");
  if (options.block_size && !options.block_device) return bad("the mount option blksize needs blkdev");
  if (options.io_uring_queue_depth && !options.io_uring)
    return bad("the mount option io_uring_q_depth needs io_uring");
  return {};
}

std::string escaped(std::string_view text) {
  std::string result;
  for (const char letter : text) {
    if (letter == ',' || letter == '\\') result += '\\';
    result += letter;
  }
  return result;
}

std::string list_of(const MountOptions& options) {
  std::string list = (options.flags & MS_RDONLY) != 0 ? "ro" : "rw";
  for (const Flag& flag : kFlags) {
    // What a list does not say is off, but for the two that fusermount3 turns on by itself.
    const bool on = (options.flags & flag.bit) != 0;
    const bool by_default = flag.bit == MS_NOSUID || flag.bit == MS_NODEV;
    if (flag.bit != MS_RDONLY && flag.on == on && (on || by_default)) append(list, flag.name);
  }
  if (options.default_permissions) append(list, "default_permissions");
  if (options.allow_other || options.allow_root) append(list, "allow_other");
  if (options.auto_unmount) append(list, "auto_unmount");
  if (options.block_device) append(list, "blkdev");
  if (options.block_size) append(list, fmt::format("blksize={}", *options.block_size));
  if (options.max_read) append(list, fmt::format("max_read={}", *options.max_read));
  if (!options.fsname.empty()) append(list, "fsname=" + escaped(options.fsname));
  if (!options.subtype.empty()) append(list, "subtype=" + escaped(options.subtype));
  if (!options.security.empty()) append(list, options.security);
  return list;
}

std::string kernel_data(const MountOptions& options, int fd, mode_t root_mode, uid_t uid, gid_t gid) {
  std::string data =
      fmt::format("fd={},rootmode={:o},user_id={},group_id={}", fd, root_mode & S_IFMT, uid, gid);
  if (options.default_permissions) append(data, "default_permissions");
  if (options.allow_other || options.allow_root) append(data, "allow_other");
  if (options.block_size) append(data, fmt::format("blksize={}", *options.block_size));
  if (options.max_read) append(data, fmt::format("max_read={}", *options.max_read));
  if (!options.security.empty()) append(data, options.security);
  return data;
}

}  // namespace fusewire::devfuse
