// struct fuse_session: one file system of a program, from fuse_session_new to fuse_session_destroy.
//
// What the program calls from several threads or from a signal handler (exit, exited, the notifications) is
// safe so; the rest is for one thread at a time. No thread starts before a loop runs: programs fork between
// mounting and looping (fuse_daemonize).
#pragma once

#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "devfuse/backing_channel.h"
#include "devfuse/channel.h"
#include "devfuse/mount.h"
#include "devfuse/server.h"
#include "fuse/engine.h"
#include "fusewire/notifier.h"
#include "fusewire/unique_fd.h"
#include "libfuse/api.h"
#include "libfuse/known_ids.h"
#include "libfuse/message_slot.h"
#include "libfuse/session_options.h"
#include "vhost_user/listener.h"

namespace fusewire::libfuse {
class Adapter;
}

// The kernel's handle for a file that is polled.
struct fuse_pollhandle {
  std::uint64_t kernel_handle;
  fuse_session* session;
};

struct fuse_session {
 public:
  // The most data in one request, and room for the message that it comes in.
  static constexpr std::size_t kMaxWrite = std::size_t{1} << 20;
  static constexpr std::size_t kMessageSize = kMaxWrite + 4096;

  fuse_session(const fusewire::libfuse::Operations& ops, void* data,
               fusewire::libfuse::SessionOptions session_options);
  ~fuse_session();
  fuse_session(const fuse_session&) = delete;
  fuse_session& operator=(const fuse_session&) = delete;

  bool serves_guest() const { return options.serves_guest(); }

  // Ends the loops; `why` is what they then return unless 0: -errno or a signal's number. Async-signal-safe.
  void end(int why);
  bool ended() const { return ended_.load(std::memory_order_acquire); }
  // Lets a loop run again.
  void reset();
  // Readable from end() to reset().
  int end_event() const { return end_event_.get(); }
  int error() const { return error_.load(); }

  // The present kernel's; null while there is none.
  std::shared_ptr<fusewire::Notifier> notifier();
  void set_notifier(std::shared_ptr<fusewire::Notifier> notifier);

  // Mounts, or listens. 0 or -1, with the reason logged.
  int mount(const char* mountpoint);
  // Also while a loop runs, from any thread: the loop ends when the kernel lets go of the mount.
  void unmount();

  // Serves the mounted device until the end. EBADF: there is none.
  fusewire::Result<fusewire::devfuse::Server::Ending> serve_device(
      const fusewire::devfuse::ServerOptions& wanted);

  const fusewire::libfuse::Operations operations;
  // Filled in before the first request.
  fusewire::libfuse::VariantOperations variant;
  void* const userdata;
  const fusewire::libfuse::SessionOptions options;
  // Who may enter besides root with the mount option allow_root.
  const uid_t owner = geteuid();
  fuse_conn_info conn{};

  // While a virtual machine is served; else null.
  std::unique_ptr<fusewire::libfuse::KnownIds> known_ids;
  std::optional<fusewire::vhost_user::Listener> listener;

  // The first channel of the mount, or what stands in its place.
  fusewire::libfuse::MessageChannel channel;
  std::optional<fusewire::devfuse::Channel> device;
  std::optional<fusewire::devfuse::BackingChannel> backing_files;  // over `device`
  std::optional<fusewire::devfuse::Mount> mounted;
  fusewire::UniqueFd custom_fd;
  fusewire::libfuse::SlotPool slots{channel, kMessageSize};

  std::unique_ptr<fusewire::libfuse::Adapter> adapter;
  // Over `channel`; null while a virtual machine is served (its device has one of its own).
  std::unique_ptr<fusewire::Engine> engine;

 private:
  int use_device(fusewire::devfuse::Channel made);
  void close_device();
  // With device_mutex_, both. What serves the device is made by its first loop and stays for later ones.
  // `fd`: the device's, of which it makes one of its own.
  fusewire::Result<fusewire::devfuse::Server*> server(int fd, const fusewire::devfuse::ServerOptions& wanted);
  fusewire::Result<std::unique_ptr<fusewire::devfuse::Server>> make_server(
      int fd, fusewire::devfuse::ServerOptions wanted);

  std::mutex device_mutex_;  // for `device`, what is made over it, and `serving_`
  bool serving_ = false;     // the device

  // One for each mount, kept to the session's end: requests of an old one may still be unanswered, and a
  // signal handler may just be stopping it.
  std::vector<std::unique_ptr<fusewire::devfuse::Server>> servers_;
  std::atomic<fusewire::devfuse::Server*> server_{nullptr};  // the present mount's
  fusewire::UniqueFd end_event_;
  std::atomic<bool> ended_{false};
  std::atomic<int> error_{0};
  std::mutex notifier_mutex_;
  std::shared_ptr<fusewire::Notifier> notifier_;
};

extern "C" {
// The versions of fuse_session_loop_mt by name; what programs see of them depends on their FUSE_USE_VERSION.
int fuse_session_loop_mt_31(struct fuse_session* se, int clone_fd);
int fuse_session_loop_mt_32(struct fuse_session* se, struct fuse_loop_config_v1* v1);
int fuse_session_loop_mt_312(struct fuse_session* se, struct fuse_loop_config* config);
}

namespace fusewire::libfuse {

// Serves the front-ends of the session's socket until one has gone or the session ends. `at_once`: whether
// the program is ready for several calls at once. 0 or -errno.
int serve_guest(fuse_session& session, bool at_once);

}  // namespace fusewire::libfuse
