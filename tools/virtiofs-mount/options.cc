#include "virtiofs-mount/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <vector>

namespace fusewire::carry {
namespace {

std::unexpected<std::string> bad(std::string text) { return std::unexpected(std::move(text)); }

// As a virtio guest mounts it: the servers leave permission checks to the kernel.
devfuse::MountOptions defaults() {
  devfuse::MountOptions options;
  options.default_permissions = true;
  options.subtype = "virtiofs";
  return options;
}

}  // namespace

std::expected<Options, std::string> parse(int argc, const char* const* argv) {
  Options options;
  options.mount = defaults();
  std::vector<std::string> lists;
  std::vector<std::string> positions;
  bool help = false;
  bool version = false;

  CLI::App app;
  app.set_help_flag();
  app.add_flag("-h,--help", help);
  app.add_flag("-V,--version", version);
  app.add_option("-o", lists)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->allow_extra_args(false);
  app.add_option("--queues", options.queues)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("--record", options.record)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_flag("-f,--foreground", options.foreground);
  app.add_flag("-d,--debug", options.debug);
  app.add_flag("--trace", options.trace);
  app.add_flag("--interrupts", options.interrupts);
  app.add_option("positions", positions);
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  std::ranges::reverse(arguments);  // the order that CLI11 wants
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    return bad(fmt::format("{}, see virtiofs-mount --help", error.what()));
  }

  if (help || version) {
    options.action = help ? Options::Action::print_help : Options::Action::print_version;
    return options;
  }
  if (positions.size() != 2)
    return bad("give the server's socket and a directory: virtiofs-mount SOCKET MOUNTPOINT");
  options.socket = positions[0];
  options.mountpoint = positions[1];
  options.mount.fsname = options.socket;
  if (options.queues < 1 || options.queues > kMaxQueues)
    return bad(fmt::format("--queues={} is not possible: 1 to {} are", options.queues, kMaxQueues));
  for (const std::string& list : lists)
    if (auto applied = devfuse::apply(list, options.mount); !applied) return bad("-o: " + applied.error());
  if (options.mount.io_uring)
    return bad("-o: io_uring is not possible here: requests go on to the server as they are read");
  if (options.mount.allow_root)
    return bad("-o: allow_root is not possible here: who may do what is the server's to say");
  return options;
}

std::string help_text() {
  return R"(usage: virtiofs-mount [OPTION...] SOCKET MOUNTPOINT

Mounts what a virtiofsd (any vhost-user virtio-fs server) shares, on this host and without a virtual machine.
SOCKET is the one that the server listens on; MOUNTPOINT is a directory.

  -o OPTION,...        mount options as in mount.fuse(8): ro, allow_other, nosuid, nodev, noexec, noatime,
                       max_read=N, fsname=NAME, subtype=NAME, context=..., and so on
                       (default_permissions is always on: servers leave the checks to the kernel)
      --queues N       use N request queues, each with a thread and a /dev/fuse of its own (default: 1)
      --interrupts     pass INTERRUPT on, which Linux guests do not do
  -f, --foreground     stay in the foreground; without it, the exit status tells whether the mount is usable
      --trace          print every request and reply on standard error, decoded (use with -f)
      --record FILE    keep the workload in FILE, for virtiofs-bench --replay
  -d, --debug          log more
  -h, --help           print this
  -V, --version        print the version

It ends when MOUNTPOINT is unmounted (umount, fusermount3 -u), on SIGTERM and Ctrl-C, which unmount it, and with
status 1 when the server goes away.
)";
}

std::string version_text() { return "virtiofs-mount (fusewire) " FUSEWIRE_VERSION "\n"; }

}  // namespace fusewire::carry
