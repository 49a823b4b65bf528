// A session on a mount of this host: threads that take requests from /dev/fuse and serve them.
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <thread>
#include <utility>
#include <vector>

#include "devfuse/mount.h"
#include "devfuse/notification_channel.h"
#include "fuse/engine.h"
#include "fusewire/session.h"
#include "session/channel_slots.h"
#include "session/stop_event.h"

namespace fusewire {
namespace {

using devfuse::Mount;
using session::StopEvent;

class MountedSession final : public Session {
 public:
  MountedSession(FileSystem& file_system, Mount::Made made, unsigned threads)
      : threads_(std::max(threads, 1U)),
        channel_(std::move(made.channel)),
        notifications_(channel_),
        slots_(channel_),
        engine_(file_system),
        mount_(std::move(made.mount)) {
    engine_.set_notification_channel(&notifications_);
  }
  ~MountedSession() override {
    (void)mount_.unmount(Mount::Mode::lazy);  // what run() could not, it cannot either
    engine_.reset();
    engine_.set_notification_channel(nullptr);
  }

  bool usable() const { return stop_ && end_; }

  std::expected<void, std::string> run() override {
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < threads_; ++i) threads.emplace_back([this] { serve_requests(); });
    std::array<pollfd, 2> watched{pollfd{stop_.fd(), POLLIN, 0}, pollfd{end_.fd(), POLLIN, 0}};
    while (::poll(watched.data(), watched.size(), -1) < 0 && errno == EINTR) {
    }
    // The kernel may want to write back what it has cached: requests are served until it is unmounted.
    const auto unmounted = mount_.unmount(Mount::Mode::lazy);
    // A notification may wait in the kernel for a request, which must still be served for it to end.
    engine_.set_notification_channel(nullptr);
    end_.set();
    for (std::thread& thread : threads) thread.join();
    if (!unmounted) return std::unexpected(unmounted.error());
    if (const int error = failed_.load(); error != 0) {
      return std::unexpected("reading from /dev/fuse failed: " + to_string(Errno{error}));
    }
    return {};
  }
  void stop() override { stop_.set(); }

 private:
  void serve_requests() {
    for (;;) {
      std::array<pollfd, 2> watched{pollfd{channel_.fd(), POLLIN, 0}, pollfd{end_.fd(), POLLIN, 0}};
      if (::poll(watched.data(), watched.size(), -1) < 0) continue;  // EINTR
      if (watched[1].revents != 0) return;
      const auto slot = slots_.receive();
      if (slot) {
        engine_.submit(**slot);
        continue;
      }
      const int error = slot.error().value;
      // Another thread has taken the request, or nobody waits for it any more.
      if (error == EAGAIN || error == EINTR || error == ENOENT) continue;
      if (error != ENODEV) failed_.store(error);  // ENODEV: unmounted, or aborted
      end_.set();
      return;
    }
  }

  const unsigned threads_;
  StopEvent stop_;  // somebody wants run() to end
  StopEvent end_;   // the threads are to end
  std::atomic<int> failed_{0};
  // In the order of their use of each other: the engine waits for the slots, which send over the channel.
  devfuse::Channel channel_;
  devfuse::NotificationChannel notifications_;
  session::ChannelSlots slots_;
  Engine engine_;
  Mount mount_;
};

}  // namespace

std::expected<std::unique_ptr<Session>, std::string> Session::mount(FileSystem& file_system,
                                                                    const std::string& mountpoint,
                                                                    const MountSettings& settings) {
  devfuse::MountOptions options;
  if (const auto parsed = devfuse::apply(settings.options, options); !parsed) {
    return std::unexpected(parsed.error());
  }
  auto made = Mount::create(mountpoint, options);
  if (!made) return std::unexpected(made.error());
  auto session = std::make_unique<MountedSession>(file_system, std::move(*made), settings.threads);
  if (!session->usable()) return std::unexpected("no descriptors are left: raise the limit (ulimit -n)");
  return session;
}

}  // namespace fusewire
