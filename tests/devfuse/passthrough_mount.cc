// passthrough_mount: the daemon's file system on a mount of this host, through Session::mount, with the
// command line that devfuse_test.py wants.
//
//   passthrough_mount -f [OPTION...] SHARE MOUNTPOINT [-o MOUNT_OPTION,...]
//
// Exit status: 0 when it was unmounted, by SIGTERM or SIGINT too; 1 for what stands in the way or ended it, 2
// for a command line that cannot be served; both with one line on standard error.
#include <fmt/core.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "daemon/process.h"
#include "flat_fs.h"
#include "fusewire/session.h"
#include "passthrough/passthrough.h"

namespace fusewire::testing {
namespace {

struct Options {
  passthrough::Config config;
  MountSettings mount;
  std::string mountpoint;
  bool flat = false;  // FlatFs instead of PassthroughFs
  std::string never_answered;
};

// What a share has in most of virtiofsd's tests (tests/common/daemons.py).
passthrough::Config usual_config() {
  passthrough::Config config;
  config.xattr = true;
  config.posix_acl = true;
  config.allow_direct_io = true;
  config.posix_lock = true;
  config.flock = true;
  return config;
}

std::string joined(const std::vector<std::string>& lists) {
  std::string all;
  for (const std::string& list : lists) all += (all.empty() ? "" : ",") + list;
  return all;
}

std::expected<Options, std::string> parse(int argc, const char* const* argv) {
  using passthrough::CachePolicy;
  const std::map<std::string, CachePolicy> policies{{"never", CachePolicy::never},
                                                    {"metadata", CachePolicy::metadata},
                                                    {"auto", CachePolicy::automatic},
                                                    {"always", CachePolicy::always}};
  Options options;
  options.config = usual_config();
  bool foreground = false;
  bool no_splice = false;
  bool no_xattr = false;
  auto grace = options.mount.grace.count();
  std::vector<std::string> lists;
  std::vector<std::string> positions;

  CLI::App app;
  app.set_help_flag();
  app.add_flag("-f", foreground);
  app.add_option("-o", lists)->allow_extra_args(false);
  app.add_option("--threads", options.mount.threads);
  app.add_flag("--clone-fd", options.mount.clone_fd);
  app.add_flag("--no-splice", no_splice);
  app.add_option("--grace", grace);
  app.add_option("--cache", options.config.cache)->transform(CLI::CheckedTransformer(policies));
  app.add_flag("--no-xattr", no_xattr);
  app.add_flag("--writeback", options.config.writeback);
  app.add_flag("--backing", options.config.backing_files);
  app.add_flag("--flat", options.flat);
  app.add_option("--never-answer", options.never_answered);
  app.add_option("positions", positions)->expected(2)->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return std::unexpected(error.what());
  }
  if (!foreground) return std::unexpected("-f is needed: it knows no background");
  if (!options.flat && !options.never_answered.empty()) return std::unexpected("--never-answer needs --flat");
  if (no_xattr) options.config.xattr = options.config.posix_acl = false;
  options.config.shared_directory = positions[0];
  options.mountpoint = positions[1];
  options.mount.options = joined(lists);
  options.mount.splice = !no_splice;
  options.mount.grace = std::chrono::milliseconds(grace);
  return options;
}

std::expected<std::unique_ptr<FileSystem>, std::string> make_file_system(const Options& options) {
  if (options.flat)
    return FlatFs::open(options.config.shared_directory, options.never_answered,
                        options.config.cache == passthrough::CachePolicy::never);
  return passthrough::PassthroughFs::create(options.config);
}

constexpr int kStopSignals[] = {SIGTERM, SIGINT};
Session* running = nullptr;

// From here to the session's end. A signal that came earlier was kept back, and stops it now.
void stop_on_signals(Session& session) {
  running = &session;
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : kStopSignals) {
    signal(number, [](int) { running->stop(); });
    sigaddset(&signals, number);
  }
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

std::expected<void, std::string> serve(const Options& options) {
  daemon::ignore_fatal_signals();
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : kStopSignals) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  if (const auto warning = daemon::set_nofile_limit(std::nullopt)) log::info("{}", *warning);

  auto file_system = make_file_system(options);
  if (!file_system) return std::unexpected(std::move(file_system.error()));
  auto session = Session::mount(**file_system, options.mountpoint, options.mount);
  if (!session) return std::unexpected(std::move(session.error()));
  stop_on_signals(**session);
  auto ended = (*session)->run();
  for (const int number : kStopSignals) signal(number, SIG_IGN);
  return ended;
}

int complain(const std::string& text, int status) {
  fmt::print(stderr, "passthrough_mount: {}\n", text);
  return status;
}

}  // namespace
}  // namespace fusewire::testing

int main(int argc, char** argv) {
  using namespace fusewire::testing;
  const auto options = parse(argc, argv);
  if (!options) return complain(options.error(), 2);
  const auto served = serve(*options);
  return served ? 0 : complain(served.error(), 1);
}
