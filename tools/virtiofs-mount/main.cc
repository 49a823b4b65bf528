// virtiofs-mount: mounts what a virtio-fs server shares, without a virtual machine. To the server it is a
// guest: a vhost-user front-end with virtqueues. To the kernel it is a FUSE server on /dev/fuse. It carries
// requests one way and replies the other.
//
// Exit status: 0 when the mount was unmounted, by a signal too; 1 for what stands in the way, and when the
// server went away; 2 for a command line that cannot be served.
#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "daemon/process.h"
#include "virtiofs-mount/carrier.h"
#include "virtiofs-mount/options.h"
#include "virtiofs-mount/recorder.h"
#include "virtiofs-mount/trace.h"

namespace fusewire::carry {
namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

// One line on standard error, whatever line breaks the command line had in it.
void complain(std::string text) {
  for (char& letter : text)
    if (static_cast<unsigned char>(letter) < ' ') letter = '?';
  fmt::print(stderr, "virtiofs-mount: {}\n", text);
}

int print(const std::string& text) {
  return std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0 ? EXIT_SUCCESS : kFailure;
}

// Everything after the command line. The status to exit with, or the text of an error.
std::expected<int, std::string> run(const Options& options) {
  // The process: in the background, a child goes on, and the parent waits until the mount is usable.
  daemon::ignore_fatal_signals();
  auto signals = daemon::StopSignals::block();
  if (!signals) return std::unexpected("cannot receive signals (signalfd): " + to_string(signals.error()));
  std::optional<daemon::Background> background;
  if (!options.foreground) {
    auto forked = daemon::Background::fork();
    if (!forked) return std::unexpected("cannot go to the background (fork): " + to_string(forked.error()));
    if (const auto status = forked->parent_status()) return *status;
    background = *std::move(forked);
  }

  // Who looks at the traffic.
  std::vector<std::unique_ptr<Observer>> owned;
  if (options.trace)
    owned.push_back(
        std::make_unique<Trace>([](const std::string& line) { fmt::print(stderr, "{}\n", line); }));
  if (!options.record.empty()) {
    auto writer = recording::Writer::create(options.record);
    if (!writer) return std::unexpected(writer.error());
    owned.push_back(std::make_unique<Recorder>(*std::move(writer)));
  }
  std::vector<Observer*> observers;
  observers.reserve(owned.size());
  for (const auto& observer : owned) observers.push_back(observer.get());

  // The server, the mount, and INIT from one to the other.
  auto carrier = Carrier::start({.socket = options.socket,
                                 .mountpoint = options.mountpoint,
                                 .mount = options.mount,
                                 .queues = options.queues,
                                 .interrupts = options.interrupts},
                                observers, signals->fd());
  if (!carrier) return std::unexpected(carrier.error());
  if (auto served = (*carrier)->serve(); !served) return std::unexpected(served.error());

  // The mount is usable.
  if (background) {
    log::use_syslog("virtiofs-mount");
    if (const auto entered = background->enter(true); !entered)
      return std::unexpected("cannot go to the background: " + to_string(entered.error()));
  }
  return (*carrier)->wait(*signals) == Carrier::End::server_gone ? kFailure : EXIT_SUCCESS;
}

int main_after_parse(const Options& options) {
  log::set_level(options.debug ? log::Level::debug : log::Level::info);
  const auto status = run(options);
  if (status) return *status;
  complain(status.error());
  return kFailure;
}

}  // namespace
}  // namespace fusewire::carry

int main(int argc, char** argv) {
  using namespace fusewire::carry;
  const auto options = parse(argc, argv);
  if (!options) {
    complain(options.error());
    return kUsage;
  }
  switch (options->action) {
    case Options::Action::print_help:
      return print(help_text());
    case Options::Action::print_version:
      return print(version_text());
    case Options::Action::mount:
      return main_after_parse(*options);
  }
}
