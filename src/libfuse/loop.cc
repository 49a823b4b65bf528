// fuse_session_loop and its kin: who serves the session, and what the program gets to know of its end.

#include <fcntl.h>

#include <algorithm>

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
  // Unmounting in the meantime closes the session's own.
  const UniqueFd held(fcntl(session.channel.fd(), F_DUPFD_CLOEXEC, 3));
  if (!held) return -errno;
  const NonBlocking mode(held.get());
  devfuse::ServerOptions options;
  options.max_threads = std::max(config.max_threads, 1U);
  options.max_idle_threads = std::max(config.max_idle_threads, 1U);
  options.clone_fd = config.clone_fd != 0;
  const auto server = session.server(held, options);
  if (!server) {
    fuse_log(FUSE_LOG_ERR, "fuse: serving /dev/fuse: %s\n", to_string(server.error()).c_str());
    return -server.error().value;
  }
  session.looping.store(true);
  const auto ending = (*server)->run();
  session.looping.store(false);
  return ending == devfuse::Server::Ending::failed ? -(*server)->error().value : 0;
}

// `at_once`: the program is ready for several calls at once.
int loop(fuse_session& session, const fuse_loop_config& config, bool at_once) {
  int result = 0;
  if (session.serves_guest()) {
    result = serve_guest(session, at_once);
  } else if (session.device) {
    result = serve_device(session, config);
  } else {
    result = serve_messages(session, config.max_threads);
  }
  if (session.error() != 0) result = session.error();
  session.reset();  // for another one
  return result;
}

}  // namespace

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
