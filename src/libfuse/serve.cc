// serve_guest: the loops' work when a session serves a virtual machine: a virtio-fs device on a vhost-user
// socket in place of a mount.

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

#include "libfuse/adapter.h"
#include "libfuse/session.h"
#include "vhost_user/service.h"
#include "virtiofs/device.h"

namespace fusewire::libfuse {
namespace {

int failed(const std::string& text, int error) {
  fuse_log(FUSE_LOG_ERR, "fuse: %s\n", text.c_str());
  return -error;
}

}  // namespace

int serve_guest(fuse_session& session, bool at_once) {
  if (!session.listener)
    return failed("the session's socket is not open: fuse_session_mount comes first", ENOTCONN);
  if (at_once) {
    session.adapter->use_pools(session.options.thread_pool_size);
  } else {
    session.adapter->serialize();
  }
  static constexpr unsigned kMostQueues = 4;
  virtiofs::DeviceOptions options;
  options.request_queues = at_once ? std::clamp(std::thread::hardware_concurrency(), 1U, kMostQueues) : 1;
  // fuse_lowlevel_notify_* reach a guest that negotiates it; this is how much data store takes at a time.
  static constexpr std::uint32_t kNotificationBuffer = 64 * 1024;
  options.notification_buffer = kNotificationBuffer;
  auto device = virtiofs::Device::create(*session.adapter, options);
  if (!device) return failed("the device: " + to_string(device.error()), device.error().value);
  const auto served = vhost_user::serve(*session.listener, **device, {.stop_fd = session.end_event()});
  if (!served) return failed(served.error(), EIO);
  return 0;
}

}  // namespace fusewire::libfuse
