// fuse_session_*: the life of a session. The loops are in loop.cc.

#include "libfuse/session.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include "base/event_fd.h"
#include "base/log.h"
#include "libfuse/adapter.h"

using namespace fusewire;
using namespace fusewire::libfuse;

fuse_session::fuse_session(const Operations& ops, void* data, SessionOptions session_options)
    : operations(ops),
      userdata(data),
      options(std::move(session_options)),
      adapter(std::make_unique<Adapter>(*this)),
      end_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (serves_guest()) {
    known_ids = std::make_unique<KnownIds>(
        [this](std::uint64_t node, std::uint64_t lookups) { adapter->forget_for(node, lookups); });
  } else {
    engine = std::make_unique<Engine>(*adapter);
    engine->set_notification_channel(&channel);
  }
}

// What is in flight ends first, and the file system, with the servers or with the engine.
fuse_session::~fuse_session() {
  if (engine != nullptr) {
    engine->set_notification_channel(nullptr);
    engine->set_backing_channel(nullptr);
  }
  servers_.clear();
  engine.reset();
}

void fuse_session::end(int why) {
  if (why != 0) error_.store(why);
  ended_.store(true, std::memory_order_release);
  signal_event(end_event_);
  if (devfuse::Server* present = server_.load()) present->stop();
}

void fuse_session::reset() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(end_event_.get(), &count, sizeof count);
  error_.store(0);
  ended_.store(false, std::memory_order_release);
  if (devfuse::Server* present = server_.load()) present->resume();
}

Result<devfuse::Server*> fuse_session::server(int fd, const devfuse::ServerOptions& wanted) {
  if (devfuse::Server* present = server_.load()) {
    present->set_threads(wanted);
    return present;
  }
  auto made = make_server(fd, wanted);
  if (!made) return fail(made.error().value);
  servers_.push_back(std::move(*made));
  server_.store(servers_.back().get());
  if (ended()) servers_.back()->stop();
  return servers_.back().get();
}

Result<std::unique_ptr<devfuse::Server>> fuse_session::make_server(int fd, devfuse::ServerOptions wanted) {
  wanted.max_write = kMaxWrite;
  wanted.resumable = true;
  if (options.mount.allow_root) wanted.only_user = owner;
  UniqueFd own(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!own) return fail_errno();
  auto adopted = devfuse::Channel::adopt(std::move(own));
  if (!adopted) return fail(adopted.error().value);
  // Programs expect the errors of libfuse: an aborted connection is like an unmounted one.
  wanted.abort_error = false;
  devfuse::choose(options.mount, wanted);
  return devfuse::Server::create(*engine, std::move(*adopted), wanted);
}

std::shared_ptr<Notifier> fuse_session::notifier() {
  const std::lock_guard lock(notifier_mutex_);
  return notifier_;
}

void fuse_session::set_notifier(std::shared_ptr<Notifier> notifier) {
  const std::lock_guard lock(notifier_mutex_);
  notifier_.swap(notifier);
}

namespace {

// Descriptors 0 to 2 stay what programs take them for, even where nobody opened them.
void occupy_standard_descriptors() {
  int fd = -1;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= 2);
  if (fd > 2) close(fd);
}

std::expected<vhost_user::Listener, std::string> listen_for(const SessionOptions& options) {
  if (options.socket_fd >= 0) return vhost_user::Listener::adopt(UniqueFd(options.socket_fd));
  return vhost_user::Listener::bind(options.socket_path);
}

// The library's own messages go where the program has its messages go.
void to_fuse_log(log::Level level, std::string_view message) {
  const fuse_log_level as = level >= log::Level::error  ? FUSE_LOG_ERR
                            : level == log::Level::warn ? FUSE_LOG_WARNING
                            : level == log::Level::info ? FUSE_LOG_INFO
                                                        : FUSE_LOG_DEBUG;
  fuse_log(as, "fuse: %.*s\n", static_cast<int>(message.size()), message.data());
}

int failed(const std::string& text) {
  fuse_log(FUSE_LOG_ERR, "fuse: %s\n", text.c_str());
  return -1;
}

}  // namespace

int fuse_session::use_device(devfuse::Channel made) {
  device.emplace(std::move(made));
  // Blocking, as programs with a loop of their own expect it.
  const int flags = fcntl(device->fd(), F_GETFL);
  fcntl(device->fd(), F_SETFL, flags & ~O_NONBLOCK);
  channel.use(device->fd());
  backing_files.emplace(*device);
  engine->set_backing_channel(&*backing_files);
  return 0;
}

int fuse_session::mount(const char* mountpoint) {
  occupy_standard_descriptors();
  if (serves_guest()) {
    auto made = listen_for(options);
    if (!made) return failed(made.error());
    listener.emplace(*std::move(made));
    return 0;
  }
  if (mountpoint == nullptr) return failed("no mount point");
  if (const auto fd = devfuse::inherited_descriptor(mountpoint)) {
    auto adopted = devfuse::adopt_inherited(*fd);
    return adopted ? use_device(*std::move(adopted)) : failed(adopted.error());
  }
  auto made = devfuse::Mount::create(mountpoint, options.mount);
  if (!made) return failed(made.error());
  mounted.emplace(std::move(made->mount));
  return use_device(std::move(made->channel));
}

void fuse_session::close_device() {
  channel.use(-1);
  engine->set_backing_channel(nullptr);
  backing_files.reset();
  device.reset();
  if (devfuse::Server* present = server_.exchange(nullptr)) present->disconnect();
}

void fuse_session::unmount() {
  listener.reset();
  {
    const std::lock_guard lock(device_mutex_);
    // Closed first: nobody waits for an answer then. A loop that runs serves until the mount has gone.
    if (device && !serving_) close_device();
  }
  if (!mounted) return;
  if (const auto done = mounted->unmount(devfuse::Mount::Mode::lazy); !done) failed(done.error());
  mounted.reset();
}

extern "C" {

struct fuse_session* fuse_session_new(struct fuse_args* args, const struct fuse_lowlevel_ops* op,
                                      size_t op_size, void* userdata) {
  if (op_size > sizeof(Operations)) {
    fuse_log(FUSE_LOG_ERR, "fuse: the program has more operations than this library, which are not called\n");
    op_size = sizeof(Operations);
  }
  if (args->argc == 0) {
    failed("fuse_session_new needs the program's name in argv[0]");
    return nullptr;
  }
  Operations operations{};
  std::memcpy(static_cast<void*>(&operations), op, op_size);
  auto options = parse_session_options(*args);
  if (!options) {
    failed(options.error());
    return nullptr;
  }
  log::use_receiver(to_fuse_log);
  // What a program does not ask for stays off its terminal.
  log::set_level(options->debug ? log::Level::debug : log::Level::warn);
  return new (std::nothrow) fuse_session(operations, userdata, *std::move(options));
}

struct fuse_session* fuse_session_new_versioned(struct fuse_args* args, const struct fuse_lowlevel_ops* op,
                                                size_t op_size, struct libfuse_version*, void* userdata) {
  return fuse_session_new(args, op, op_size, userdata);
}

int fuse_session_custom_io_317(struct fuse_session* se, const struct fuse_custom_io* io, size_t op_size,
                               int fd) {
  if (fd < 0) {
    failed("fuse_session_custom_io got no descriptor");
    return -EBADF;
  }
  fuse_custom_io own{};
  if (io != nullptr) std::memcpy(&own, io, std::min(op_size, sizeof own));
  if (own.read == nullptr || own.writev == nullptr) {
    failed("fuse_session_custom_io needs functions to read and to write");
    return -EINVAL;
  }
  se->custom_fd = UniqueFd(fd);
  // A guest takes the place of the program's own transport, as it does that of a mount.
  if (se->serves_guest()) return se->mount(nullptr) == 0 ? 0 : -EIO;
  se->channel.use(fd, own, se->userdata);
  return 0;
}

int fuse_session_custom_io_30(struct fuse_session* se, const struct fuse_custom_io* io, int fd) {
  return fuse_session_custom_io_317(se, io, offsetof(fuse_custom_io, clone_fd), fd);
}

// The name that programs of every version up to 316 are linked to.
#undef fuse_session_custom_io
int fuse_session_custom_io(struct fuse_session* se, const struct fuse_custom_io* io, int fd) {
  return fuse_session_custom_io_30(se, io, fd);
}

int fuse_session_mount(struct fuse_session* se, const char* mountpoint) { return se->mount(mountpoint); }
void fuse_session_unmount(struct fuse_session* se) { se->unmount(); }
void fuse_session_destroy(struct fuse_session* se) { delete se; }
int fuse_session_fd(struct fuse_session* se) { return se->channel.fd(); }
void fuse_session_exit(struct fuse_session* se) { se->end(0); }
void fuse_session_reset(struct fuse_session* se) { se->reset(); }
int fuse_session_exited(struct fuse_session* se) { return se->ended() ? 1 : 0; }

}  // extern "C"
