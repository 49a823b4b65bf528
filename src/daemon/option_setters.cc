#include "daemon/option_setters.h"

#include <fmt/core.h>

#include <limits>

#include "daemon/option_values.h"

namespace fusewire::daemon {
namespace {

using passthrough::CachePolicy;
using passthrough::FileHandleMode;

// sockaddr_un::sun_path with its terminating NUL.
constexpr std::size_t kMaxSocketPath = 107;
constexpr unsigned kMaxThreads = 65536;
// A front-end has at most 1024 queues a device (QEMU's VIRTIO_QUEUE_MAX); one of them is the hiprio queue.
constexpr unsigned kMaxRequestQueues = 1023;

template <class T>
SetResult store(T& to, Value<T> value) {
  if (!value) return std::unexpected(std::move(value.error()));
  to = *std::move(value);
  return {};
}

}  // namespace

SetResult set_shared_dir(Draft& draft, std::string_view value) {
  draft.options.config.shared_directory = value;
  return {};
}

SetResult set_tag(Draft& draft, std::string_view value) {
  if (value.empty() || value.size() > kMaxTag)
    return std::unexpected(fmt::format("must be 1 to {} bytes long", kMaxTag));
  if (value.find('\n') != std::string_view::npos) return std::unexpected("must not hold a line break");
  draft.options.tag = value;
  return {};
}

SetResult set_socket_path(Draft& draft, std::string_view value) {
  if (value.size() > kMaxSocketPath) {
    return std::unexpected(
        fmt::format("is too long for a socket ({} bytes, at most {}): choose a shorter path", value.size(),
                    kMaxSocketPath));
  }
  draft.options.socket_path = value;
  return {};
}

SetResult set_socket_group(Draft& draft, std::string_view value) {
  draft.options.socket_group = value;
  return {};
}

SetResult set_fd(Draft& draft, std::string_view value) {
  const auto number = read_number(value, 0, std::numeric_limits<int>::max());
  if (!number) return std::unexpected("must be the number of an open descriptor");
  draft.options.fd = static_cast<int>(*number);
  return {};
}

SetResult set_num_request_queues(Draft& draft, std::string_view value) {
  const auto number = read_number(value, 1, kMaxRequestQueues);
  if (!number) return std::unexpected(number.error());
  draft.num_request_queues = static_cast<unsigned>(*number);
  return {};
}

SetResult set_poll_us(Draft& draft, std::string_view value) {
  const auto number = read_number(value, 0, 1'000'000);
  if (!number) return std::unexpected(number.error());
  draft.options.poll = std::chrono::microseconds(*number);
  return {};
}

SetResult set_queue_cpus(Draft& draft, std::string_view value) {
  return store(draft.options.queue_cpus, read_cpu_list(value));
}

SetResult set_cache(Draft& draft, std::string_view value) {
  return store(draft.options.config.cache, read_choice<CachePolicy>(value, "auto, always, metadata, never",
                                                                    {{"auto", CachePolicy::automatic},
                                                                     {"always", CachePolicy::always},
                                                                     {"metadata", CachePolicy::metadata},
                                                                     {"never", CachePolicy::never},
                                                                     {"none", CachePolicy::never}}));
}

SetResult set_timeout(Draft& draft, std::string_view value) {
  const auto seconds = read_seconds(value);
  if (!seconds) return std::unexpected(seconds.error());
  draft.options.config.timeout = std::chrono::duration<double>(*seconds);
  return {};
}

SetResult set_readdirplus(Draft& draft, std::string_view value) {
  draft.readdirplus = value == kOn;
  return {};
}

SetResult set_thread_pool_size(Draft& draft, std::string_view value) {
  const auto number = read_number(value, 0, kMaxThreads);
  if (!number) return std::unexpected(number.error());
  draft.options.config.thread_pool_size = static_cast<unsigned>(*number);
  return {};
}

SetResult set_file_handles(Draft& draft, std::string_view value) {
  if (lower_case(value) == "fallback") {
    draft.note(log::Level::warn, "--inode-file-handles=fallback is an old name: write prefer instead");
    value = "prefer";
  }
  return store(draft.options.config.file_handles,
               read_choice<FileHandleMode>(value, "auto, never, prefer, mandatory",
                                           {{"auto", FileHandleMode::automatic},
                                            {"never", FileHandleMode::never},
                                            {"prefer", FileHandleMode::prefer},
                                            {"mandatory", FileHandleMode::mandatory}}));
}

SetResult set_xattr(Draft& draft, std::string_view value) {
  draft.xattr = value == kOn;
  return {};
}

SetResult set_log_level(Draft& draft, std::string_view value) {
  const auto level = log::parse_level(lower_case(value));
  if (!level) return std::unexpected("must be one of error, warn, info, debug, trace, off");
  draft.options.log_level = *level;
  return {};
}

SetResult set_debug(Draft& draft, std::string_view) {
  draft.debug = true;
  draft.options.daemonize = false;
  return {};
}

SetResult set_rlimit_nofile(Draft& draft, std::string_view value) {
  const auto number = read_number(value, 0, std::numeric_limits<std::int64_t>::max());
  if (!number) return std::unexpected("must be a number of descriptors, or 0 to leave the limit alone");
  draft.options.rlimit_nofile = *number;
  return {};
}

SetResult set_sandbox(Draft&, std::string_view value) {
  const std::string mode = lower_case(value);
  if (mode == "none") return {};
  if (mode != "namespace" && mode != "chroot")
    return std::unexpected("must be none, the only mode that there is yet");
  return std::unexpected(
      "is not available yet: use none, and let what starts the daemon (a container, systemd) confine it");
}

SetResult set_seccomp(Draft&, std::string_view value) {
  const std::string action = lower_case(value);
  if (action == "none") return {};
  if (action != "kill" && action != "log" && action != "trap")
    return std::unexpected("must be none, the only action that there is yet");
  return std::unexpected("is not available yet: use none");
}

SetResult set_max_idle_threads(Draft& draft, std::string_view value) {
  if (const auto number = read_number(value, 0, std::numeric_limits<std::uint32_t>::max()); !number)
    return std::unexpected(number.error());
  draft.note(
      log::Level::warn,
      "-o max_idle_threads has no effect: idle threads end by themselves; --thread-pool-size limits how many "
      "there can be");
  return {};
}

SetResult set_allow_root(Draft& draft, std::string_view) {
  draft.note(log::Level::info,
             "-o allow_root has no effect: every user of the guest has the access that owner and mode of a "
             "file give");
  return {};
}

SetResult refuse_modcaps(Draft&, std::string_view) {
  return std::unexpected(
      "is not available yet: this daemon changes no capabilities; start it with those that it shall have "
      "(setpriv(1), "
      "systemd)");
}
SetResult refuse_xattrmap(Draft&, std::string_view) {
  return std::unexpected("is not available yet: leave it out, names of attributes then stay as they are");
}
SetResult refuse_id_map(Draft&, std::string_view) {
  return std::unexpected(
      "is not available yet: start the daemon in a user namespace instead (unshare(1) --map-users)");
}
SetResult refuse_id_translation(Draft&, std::string_view) {
  return std::unexpected("is not available yet: leave it out, user and group ids are then those of the host");
}
SetResult refuse_migration(Draft&, std::string_view) {
  return std::unexpected("is not available yet: leave it out, a guest with this share cannot be migrated");
}

}  // namespace fusewire::daemon
