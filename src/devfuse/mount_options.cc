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

constexpr std::string_view kSecurity[] = {"context", "fscontext", "defcontext", "rootcontext"};

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

std::expected<void, std::string> set_value(std::string_view name, std::string_view value,
                                           MountOptions& options) {
  if (name == "fsname") {
    options.fsname = value;
    return {};
  }
  if (name == "subtype") {
    options.subtype = value;
    return {};
  }
  if (name == "max_read" || name == "blksize") {
    const auto number = number_of(value);
    if (!number) return bad(fmt::format("{}={} is no number of bytes", name, value));
    (name == "max_read" ? options.max_read : options.block_size) = number;
    return {};
  }
  if (name == "io_uring_q_depth") {
    const auto number = number_between(name, value, 1, kMostQueueDepth);
    if (!number) return bad(number.error());
    options.io_uring_queue_depth = *number;
    return {};
  }
  if (name == "poll_us") {
    const auto number = number_between(name, value, 0, kMostBusyPoll);
    if (!number) return bad(number.error());
    options.busy_poll = std::chrono::microseconds(*number);
    return {};
  }
  if (std::ranges::find(kSecurity, name) != std::end(kSecurity)) {
    if (!options.security.empty()) options.security += ',';
    options.security += fmt::format("{}={}", name, value);
    return {};
  }
  return bad(fmt::format("there is no mount option {}", name));
}

bool* wish_of(std::string_view name, MountOptions& options) {
  if (name == "allow_other") return &options.allow_other;
  if (name == "allow_root") return &options.allow_root;
  if (name == "auto_unmount") return &options.auto_unmount;
  if (name == "blkdev") return &options.block_device;
  if (name == "io_uring") return &options.io_uring;
  if (name == "default_permissions") return &options.default_permissions;
  return nullptr;
}

std::expected<void, std::string> apply_one(std::string_view option, MountOptions& options) {
  const std::size_t equals = option.find('=');
  const std::string_view name = option.substr(0, equals);
  if (name.empty()) return bad(fmt::format("\"{}\" is no mount option", option));
  if (const auto* refused = find<Refused>(kRefused, name))
    return bad(fmt::format("the mount option {} {}", name, refused->why));
  if (name.starts_with("x-")) return {};  // mount(8): comments for other programs
  if (equals == std::string_view::npos) {
    if (const auto* flag = find<Flag>(kFlags, name)) {
      options.flags = flag->on ? options.flags | flag->bit : options.flags & ~flag->bit;
    } else if (bool* wish = wish_of(name, options)) {
      *wish = true;
    } else if (std::ranges::find(kIgnored, name) == std::end(kIgnored)) {
      const bool needs_value = name == "fsname" || name == "subtype" || name == "max_read" ||
                               name == "blksize" || name == "io_uring_q_depth" || name == "poll_us" ||
                               std::ranges::find(kSecurity, name) != std::end(kSecurity);
      return bad(needs_value ? fmt::format("the mount option {} needs a value", name)
                             : fmt::format("there is no mount option {}", name));
    }
    return {};
  }
  const std::string_view value = option.substr(equals + 1);
  if (value.empty()) return bad(fmt::format("the mount option {} needs a value", name));
  return set_value(name, value, options);
}

void append(std::string& list, std::string_view option) {
  if (!list.empty()) list += ',';
  list += option;
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
