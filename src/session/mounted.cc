// A session on a mount of this host: a mount, an engine and the server between them.
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "devfuse/backing_channel.h"
#include "devfuse/mount.h"
#include "devfuse/notification_channel.h"
#include "devfuse/server.h"
#include "fuse/engine.h"
#include "fusewire/session.h"
#include "io/thread.h"
#include "session/grace.h"
#include "session/stop_event.h"

namespace fusewire {
namespace {

using devfuse::Channel;
using devfuse::Mount;
using devfuse::Server;
using session::StopEvent;

// How often the end tells handlers that still wait for something.
constexpr std::chrono::milliseconds kBetweenReminders{10};

class MountedSession final : public Session {
 public:
  MountedSession(FileSystem& file_system, std::chrono::milliseconds grace, StopEvent stop)
      : engine_(file_system), grace_(grace), stop_(std::move(stop)) {}
  ~MountedSession() override {
    withdraw_channels();
    // Closed first: unmounting may wait for requests that nobody serves any more.
    server_.reset();
  }

  // Serves what comes out of `channel`, from run() on.
  std::expected<void, std::string> start(Channel channel, const devfuse::ServerOptions& options) {
    auto server = Server::create(engine_, std::move(channel), options);
    if (!server) return std::unexpected(fmt::format("serving /dev/fuse: {}", to_string(server.error())));
    server_ = std::move(*server);
    notifications_.emplace(server_->channel());
    engine_.set_notification_channel(&*notifications_);
    backing_files_.emplace(server_->channel());
    engine_.set_backing_channel(&*backing_files_);
    return {};
  }

  // Mounts by mount(2), with a server that is there first: it serves INIT meanwhile, where the kernel has
  // that.
  std::expected<void, std::string> mount_directly(const std::string& mountpoint,
                                                  const devfuse::MountOptions& options,
                                                  const devfuse::ServerOptions& server) {
    auto channel = Channel::open();
    if (!channel) return std::unexpected(devfuse::cannot_open(channel.error()));
    if (auto started = start(*std::move(channel), server); !started) return started;
    auto made = Mount::create_for(server_->channel(), mountpoint, options, [this] { server_->serve_init(); });
    if (made) {
      mount_.emplace(*std::move(made));
      return {};
    }
    if (engine_.refusal().value != 0)
      return std::unexpected(fmt::format("mounting on {}: {}", mountpoint, refusal()));
    return std::unexpected(std::move(made.error()));
  }

  std::expected<void, std::string> mount(const std::string& mountpoint, const devfuse::MountOptions& options,
                                         const devfuse::ServerOptions& server) {
    if (const auto fd = devfuse::inherited_descriptor(mountpoint)) {
      auto adopted = devfuse::adopt_inherited(*fd);
      if (!adopted) return std::unexpected(std::move(adopted.error()));
      return start(*std::move(adopted), server);
    }
    if (Mount::is_direct(options)) return mount_directly(mountpoint, options, server);
    auto made = Mount::create(mountpoint, options);
    if (!made) return std::unexpected(std::move(made.error()));
    mount_.emplace(std::move(made->mount));
    return start(std::move(made->channel), server);
  }

  std::expected<void, std::string> run() override {
    if (!server_) return std::unexpected("the session has ended already");
    const auto ender = io::start_thread([this] { end_when_told(); }, "fsend");
    if (!ender) return std::unexpected(fmt::format("no thread can be started: {}", to_string(ender.error())));

    const Server::Ending ending = server_->run();
    const Errno error = server_->error();
    if (server_->awaited() != 0) abort_connection();
    withdraw_channels();
    std::unique_ptr<Server> server;
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
      server = std::move(server_);
    }
    changed_.notify_all();
    // Closing the channels ends what still waits for an answer, the write-back among it.
    server.reset();
    stop_.set();
    pthread_join(*ender, nullptr);
    return outcome(ending, error);
  }

  void stop() override {
    stopped_.store(true);
    stop_.set();
  }

 private:
  std::string refusal() const {
    return fmt::format("the file system does not start: {}",
                       engine_.lacking().empty() ? to_string(engine_.refusal()) : engine_.lacking());
  }

  void abort_connection() const {
    if (!server_->channel().is_connected()) return;
    const auto aborted = mount_ ? mount_->abort() : fail(EOPNOTSUPP);
    if (!aborted)
      log::warn("what waits in the kernel for requests that were given up goes on waiting: {}",
                to_string(aborted.error()));
  }

  // Before the descriptors that they use are closed.
  void withdraw_channels() {
    engine_.set_notification_channel(nullptr);
    engine_.set_backing_channel(nullptr);
  }

  std::expected<void, std::string> outcome(Server::Ending ending, Errno error) const {
    if (stopped_.load() || ending == Server::Ending::unmounted || ending == Server::Ending::stopped)
      return {};
    if (ending == Server::Ending::refused) return std::unexpected(refusal());
    if (ending == Server::Ending::aborted)
      return std::unexpected("the kernel's connection was aborted (/sys/fs/fuse/connections)");
    return std::unexpected(fmt::format("reading /dev/fuse failed: {}", to_string(error)));
  }

  // The thread that stop() wakes: has everything written while the server still serves, unmounts, and ends
  // the server. A write-back that does not end is not waited for.
  void end_when_told() {
    pollfd event{stop_.fd(), POLLIN, 0};
    while (poll(&event, 1, -1) < 0 && errno == EINTR) {
    }
    std::unique_lock lock(mutex_);
    if (over_) return;
    bool written = false;
    std::thread writer([this, &written] {
      if (mount_) {
        mount_->write_back();
        if (auto done = mount_->unmount(Mount::Mode::lazy); !done) log::error("{}", done.error());
      }
      // A notification may wait in the kernel for a request, which must still be served for it to end.
      engine_.set_notification_channel(nullptr);
      const std::lock_guard writing(mutex_);
      written = true;
      changed_.notify_all();
    });
    if (!changed_.wait_for(lock, grace_, [&] { return written || over_; }))
      log::warn("the kernel could not write back all that it caches");
    if (!over_) server_->stop();
    // A handler on run()'s own thread has nobody else to tell it.
    while (!changed_.wait_for(lock, kBetweenReminders, [this] { return over_; })) server_->end_waits();
    lock.unlock();
    writer.join();
  }

  Engine engine_;
  std::optional<Mount> mount_;  // none: somebody else's
  std::optional<devfuse::NotificationChannel> notifications_;
  std::optional<devfuse::BackingChannel> backing_files_;
  const std::chrono::milliseconds grace_;
  const StopEvent stop_;
  std::atomic<bool> stopped_{false};

  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;               // the server has ended
  std::unique_ptr<Server> server_;  // gone after run()
};

}  // namespace

std::expected<std::unique_ptr<Session>, std::string> Session::mount(FileSystem& file_system,
                                                                    const std::string& mountpoint,
                                                                    const MountSettings& settings) {
  devfuse::MountOptions options;
  if (auto applied = devfuse::apply(settings.options, options); !applied)
    return std::unexpected(std::move(applied.error()));
  if (settings.threads == 0) return std::unexpected("threads must be 1 or more");
  StopEvent stop;
  if (!stop) return std::unexpected("no descriptors are left: raise the limit (ulimit -n)");
  const auto grace = session::limited(settings.grace);
  auto made_session = std::make_unique<MountedSession>(file_system, grace, std::move(stop));

  devfuse::ServerOptions server;
  server.max_threads = settings.threads;
  server.clone_fd = settings.clone_fd;
  server.splice = settings.splice;
  server.max_write = settings.max_write;
  server.grace = grace;
  devfuse::choose(options, server);
  if (options.allow_root) server.only_user = geteuid();
  if (auto mounted = made_session->mount(mountpoint, options, server); !mounted)
    return std::unexpected(std::move(mounted.error()));
  return made_session;
}

}  // namespace fusewire
