// fuse_session_loop and its kin: who serves the session, and what the program gets to know of its end.

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <optional>

#include "devfuse/server.h"
#include "libfuse/loop_config.h"
#include "libfuse/message_loop.h"
#include "libfuse/session.h"

using namespace fusewire;
using namespace fusewire::libfuse;

namespace {

constexpr fuse_loop_config kOneThread{.clone_fd = 0, .max_idle_threads = 1, .max_threads = 1};

// O_NONBLOCK while a loop of ours runs: a message that is gone when it is read must not hold up the end.
class NonBlocking {
 public:
  explicit NonBlocking(int fd) : fd_(fd), flags_(fcntl(fd, F_GETFL)) {
    fcntl(fd_, F_SETFL, flags_ | O_NONBLOCK);
  }
  NonBlocking(const NonBlocking&) = delete;
  NonBlocking& operator=(const NonBlocking&) = delete;
  ~NonBlocking() { fcntl(fd_, F_SETFL, flags_); }

 private:
  const int fd_;
  const int flags_;
};

int serve_device(fuse_session& session, const fuse_loop_config& config) {
  devfuse::ServerOptions options;
  options.max_threads = std::max(config.max_threads, 1U);
  options.max_idle_threads = std::max(config.max_idle_threads, 1U);
  options.clone_fd = config.clone_fd != 0;
  const auto ending = session.serve_device(options);
  if (ending) return 0;
  fuse_log(FUSE_LOG_ERR, "fuse: serving /dev/fuse: %s\n", to_string(ending.error()).c_str());
  return -ending.error().value;
}

// `at_once`: the program is ready for several calls at once.
int loop(fuse_session& session, const fuse_loop_config& config, bool at_once) {
  int result = 0;
  if (session.serves_guest()) {
    result = serve_guest(session, at_once);
  } else if (session.channel.is_custom()) {
    result = serve_messages(session, config.max_threads);
  } else {
    result = serve_device(session, config);
  }
  if (session.error() != 0) result = session.error();
  session.reset();  // for another one
  return result;
}

}  // namespace

Result<devfuse::Server::Ending> fuse_session::serve_device(const devfuse::ServerOptions& wanted) {
  devfuse::Server* serving = nullptr;
  std::optional<NonBlocking> mode;
  {
    const std::lock_guard lock(device_mutex_);
    if (!device) return fail(EBADF);
    mode.emplace(device->fd());
    const auto made = server(device->fd(), wanted);
    if (!made) return fail(made.error().value);
    serving = *made;
    serving_ = true;
  }
  const auto ending = serving->run();
  mode.reset();
  {
    const std::lock_guard lock(device_mutex_);
    serving_ = false;
    // The next mount has another one.
    if (ending == devfuse::Server::Ending::unmounted) server_.store(nullptr);
  }
  if (ending == devfuse::Server::Ending::failed) return fail(serving->error().value);
  return ending;
}

extern "C" {

int fuse_session_loop(struct fuse_session* se) { return loop(*se, kOneThread, false); }

int fuse_session_loop_mt_312(struct fuse_session* se, struct fuse_loop_config* config) {
  return loop(*se, config != nullptr ? *config : kDefaultLoopConfig, true);
}

int fuse_session_loop_mt_32(struct fuse_session* se, struct fuse_loop_config_v1* v1) {
  fuse_loop_config config = kDefaultLoopConfig;
  if (v1 != nullptr) fuse_loop_cfg_convert(&config, v1);
  return loop(*se, config, true);
}

int fuse_session_loop_mt_31(struct fuse_session* se, int clone_fd) {
  fuse_loop_config config = kDefaultLoopConfig;
  config.clone_fd = clone_fd;
  return loop(*se, config, true);
}

}  // extern "C"
