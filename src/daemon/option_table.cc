#include "daemon/option_table.h"

#include "daemon/option_setters.h"

namespace fusewire::daemon {
namespace {

using passthrough::Config;

constexpr Row kRows[] = {
    {.names = "--shared-dir",
     .compat = "source",
     .kind = Kind::value,
     .value = "DIR",
     .group = Group::sharing,
     .help = "The directory to share. Required.",
     .set = set_shared_dir},
    {.names = "--tag",
     .kind = Kind::value,
     .value = "TAG",
     .group = Group::sharing,
     .help = "The name under which a guest mounts the share, for front-ends that take it from the device. "
             "QEMU has "
             "its own tag= and, in the versions 7.1 to 8.0, crashes when one is given here.",
     .set = set_tag},
    {.names = "--readonly",
     .kind = Kind::toggle,
     .group = Group::sharing,
     .help = "The guest can change nothing.",
     .set = set_config<&Config::readonly>},
    {.names = "--announce-submounts",
     .compat = "announce_submounts",
     .kind = Kind::toggle,
     .group = Group::sharing,
     .help = "Show the guest which directories are mount points, each with a device number of its own. "
             "Default: on.",
     .set = set_config<&Config::announce_submounts>},
    {.names = "--inode-file-handles",
     .kind = Kind::value,
     .value = "MODE",
     .group = Group::sharing,
     .help = "What keeps a file that the guest knows of: auto: an open descriptor while there are plenty, "
             "beyond that a file handle where they work (default); never: a descriptor for each; prefer: a "
             "file handle where the file system has them; mandatory: a file handle always. Handles need the "
             "capability DAC_READ_SEARCH.",
     .set = set_file_handles},

    {.names = "--socket-path,--socket",
     .kind = Kind::value,
     .value = "PATH",
     .group = Group::socket,
     .help = "Make the vhost-user socket PATH and listen on it. Either this or --fd is required.",
     .set = set_socket_path},
    {.names = "--socket-group",
     .kind = Kind::value,
     .value = "GROUP",
     .group = Group::socket,
     .help = "The group that may connect to the socket, besides its owner.",
     .set = set_socket_group},
    {.names = "--fd",
     .kind = Kind::value,
     .value = "N",
     .group = Group::socket,
     .help = "Use the inherited descriptor N, a UNIX stream socket that listens.",
     .set = set_fd},
    {.names = "--keep-listening",
     .kind = Kind::word,
     .group = Group::socket,
     .help = "When the front-end goes away wait for the next one, instead of ending.",
     .set = set_option<&Options::keep_listening>},
    {.names = "--num-request-queues",
     .kind = Kind::value,
     .value = "N",
     .group = Group::socket,
     .help = "Request queues to offer, each with a thread. Default: one for each CPU, at most 64.",
     .set = set_num_request_queues},
    {.names = "--poll-us",
     .kind = Kind::value,
     .value = "N",
     .group = Group::socket,
     .help =
         "How many microseconds a queue's thread looks for the next request before it sleeps, while requests "
         "come that fast; 0: none. An idle queue always sleeps. Default: 50.",
     .set = set_poll_us},
    {.names = "--queue-cpus",
     .kind = Kind::value,
     .value = "LIST",
     .group = Group::socket,
     .help =
         "Keep the thread of each request queue on one CPU of this list (0-3,8), in turn. Default: they run "
         "anywhere.",
     .set = set_queue_cpus},

    {.names = "--cache",
     .compat = "cache",
     .kind = Kind::value,
     .value = "MODE",
     .group = Group::cache,
     .help = "What the guest caches: auto: names and attributes for a second, data until the file changes "
             "(default); "
             "always: everything for a day; metadata: names and attributes for a day; never: nothing.",
     .set = set_cache},
    {.names = "--timeout",
     .compat = "timeout",
     .kind = Kind::value,
     .value = "SECONDS",
     .group = Group::cache,
     .help = "How long the guest trusts names and attributes, instead of what --cache says.",
     .set = set_timeout},
    {.names = "--writeback",
     .compat = "writeback",
     .kind = Kind::toggle,
     .group = Group::cache,
     .help = "Let the guest gather writes and send them later. Default: off.",
     .set = set_config<&Config::writeback>},
    {.names = "--readdirplus",
     .compat = "readdirplus",
     .kind = Kind::toggle,
     .group = Group::cache,
     .help = "Send attributes along with directory entries. Default: on, except with --cache=never.",
     .set = set_readdirplus},
    {.names = "--allow-direct-io",
     .compat = "allow_direct_io",
     .kind = Kind::toggle,
     .group = Group::cache,
     .help = "Pass the O_DIRECT of the guest's programs on to the host. Default: off.",
     .set = set_config<&Config::allow_direct_io>},
    {.names = "--allow-mmap",
     .kind = Kind::toggle,
     .group = Group::cache,
     .help =
         "Allow shared memory mappings with --cache=never and metadata; only where nobody else changes the "
         "directory. Default: off.",
     .set = set_config<&Config::allow_mmap>},
    {.names = "--thread-pool-size",
     .kind = Kind::value,
     .value = "N",
     .group = Group::cache,
     .help =
         "The most threads for requests that wait for a disk; 0: none, each queue waits itself. Default: 16.",
     .set = set_thread_pool_size},

    {.names = "--xattr",
     .compat = "xattr",
     .kind = Kind::toggle,
     .group = Group::permissions,
     .help = "Extended attributes. Default: off.",
     .set = set_xattr},
    {.names = "--posix-acl",
     .compat = "posix_acl",
     .kind = Kind::toggle,
     .group = Group::permissions,
     .help = "POSIX access control lists; turns --xattr on. Default: off.",
     .set = set_xattr_user<&Config::posix_acl>},
    {.names = "--security-label",
     .compat = "security_label",
     .kind = Kind::toggle,
     .group = Group::permissions,
     .help = "Store the security label (SELinux) that the guest sends with a new file; turns --xattr on. "
             "Default: off.",
     .set = set_xattr_user<&Config::security_label>},
    {.names = "--killpriv-v2",
     .compat = "killpriv_v2",
     .kind = Kind::toggle,
     .group = Group::permissions,
     .help = "Clear set-user-ID and set-group-ID on the host when the guest says so, instead of the guest "
             "doing it. "
             "Default: on.",
     .set = set_config<&Config::killpriv_v2>},
    {.names = "--preserve-noatime",
     .kind = Kind::toggle,
     .group = Group::permissions,
     .help = "Pass the O_NOATIME of the guest's programs on to the host. Default: off.",
     .set = set_config<&Config::preserve_noatime>},

    {.names = "--posix-lock",
     .compat = "posix_lock",
     .kind = Kind::toggle,
     .group = Group::locks,
     .help = "Record locks (fcntl) are taken on the host too. Default: off, they hold inside the guest.",
     .set = set_config<&Config::posix_lock>},
    {.names = "--flock",
     .compat = "flock",
     .kind = Kind::toggle,
     .group = Group::locks,
     .help = "flock locks are taken on the host too. Default: off, they hold inside the guest.",
     .set = set_config<&Config::flock>},

    {.names = "-f",
     .kind = Kind::word,
     .group = Group::process,
     .help = "Stay in the foreground. Default.",
     .set = set_option<&Options::daemonize, false>},
    {.names = "--daemonize",
     .kind = Kind::word,
     .group = Group::process,
     .help = "Go to the background once the socket listens. Of this, -f and -d the last one counts.",
     .set = set_option<&Options::daemonize>},
    {.names = "-d,--debug",
     .compat = "debug",
     .kind = Kind::word,
     .group = Group::process,
     .help = "Log level debug, and stay in the foreground.",
     .set = set_debug},
    {.names = "--log-level",
     .compat = "log_level,loglevel",
     .kind = Kind::value,
     .value = "LEVEL",
     .group = Group::process,
     .help = "error, warn, info (default), debug, trace or off.",
     .set = set_log_level},
    {.names = "--syslog",
     .kind = Kind::word,
     .group = Group::process,
     .help = "Log to syslog instead of standard error.",
     .set = set_option<&Options::syslog>},
    {.names = "--rlimit-nofile",
     .kind = Kind::value,
     .value = "N",
     .group = Group::process,
     .help = "How many descriptors the daemon may have open; 0: leave the limit as it is. Default: 1000000, "
             "or what "
             "the host has to give, if the limit is lower than that.",
     .set = set_rlimit_nofile},

    {.names = "-h,--help",
     .kind = Kind::word,
     .group = Group::information,
     .help = "This text.",
     .set = set_action<Action::print_help>},
    {.names = "-V,--version",
     .kind = Kind::word,
     .group = Group::information,
     .help = "The version.",
     .set = set_action<Action::print_version>},
    {.names = "--print-capabilities",
     .kind = Kind::word,
     .group = Group::information,
     .help = "What this back-end can do, as JSON for libvirt and the like.",
     .set = set_action<Action::print_capabilities>},

    {.names = "-o",
     .kind = Kind::value,
     .value = "LIST",
     .group = Group::compatibility,
     .help = "A comma-separated list of the options named below, as QEMU's virtiofsd takes them. A comma in "
             "a value is "
             "written \\, or doubled.",
     .set = apply_compat_list},
    {.compat = "max_idle_threads",
     .kind = Kind::value,
     .value = "N",
     .group = Group::compatibility,
     .set = set_max_idle_threads},
    {.compat = "allow_root", .kind = Kind::word, .group = Group::compatibility, .set = set_allow_root},

    {.names = "--sandbox",
     .compat = "sandbox",
     .kind = Kind::value,
     .value = "none",
     .group = Group::later,
     .help = "Only none; namespace and chroot are refused.",
     .set = set_sandbox},
    {.names = "--seccomp",
     .kind = Kind::value,
     .value = "none",
     .group = Group::later,
     .help = "Only none; kill, log and trap are refused.",
     .set = set_seccomp},
    {.names = "--modcaps",
     .compat = "modcaps",
     .kind = Kind::refused,
     .value = "LIST",
     .group = Group::later,
     .set = refuse_modcaps},
    {.names = "--xattrmap",
     .compat = "xattrmap",
     .kind = Kind::refused,
     .value = "RULES",
     .group = Group::later,
     .set = refuse_xattrmap},
    {.names = "--uid-map",
     .kind = Kind::refused,
     .value = "MAP",
     .group = Group::later,
     .set = refuse_id_map},
    {.names = "--gid-map",
     .kind = Kind::refused,
     .value = "MAP",
     .group = Group::later,
     .set = refuse_id_map},
    {.names = "--translate-uid",
     .kind = Kind::refused,
     .value = "MAP",
     .group = Group::later,
     .set = refuse_id_translation},
    {.names = "--translate-gid",
     .kind = Kind::refused,
     .value = "MAP",
     .group = Group::later,
     .set = refuse_id_translation},
    {.names = "--migration-mode",
     .kind = Kind::refused,
     .value = "MODE",
     .group = Group::later,
     .set = refuse_migration},
    {.names = "--migration-on-error",
     .kind = Kind::refused,
     .value = "ACTION",
     .group = Group::later,
     .set = refuse_migration},
    {.names = "--migration-verify-handles",
     .kind = Kind::refused,
     .group = Group::later,
     .set = refuse_migration},
    {.names = "--migration-confirm-paths",
     .kind = Kind::refused,
     .group = Group::later,
     .set = refuse_migration},
};

}  // namespace

std::span<const Row> option_table() { return kRows; }

std::string_view group_title(Group group) {
  switch (group) {
    case Group::sharing:
      return "What is shared";
    case Group::socket:
      return "Socket and queues";
    case Group::cache:
      return "Cache and performance";
    case Group::permissions:
      return "Permissions and attributes";
    case Group::locks:
      return "Locks";
    case Group::process:
      return "Process and log";
    case Group::information:
      return "Information";
    case Group::compatibility:
      return "Lists of options";
    case Group::later:
      return "Not available yet: refused";
  }
  return {};
}

std::string_view first_name(std::string_view names) { return names.substr(0, names.find(',')); }

}  // namespace fusewire::daemon
