// A session behind a vhost-user socket.
#include <utility>

#include "fusewire/session.h"
#include "session/grace.h"
#include "session/stop_event.h"
#include "vhost_user/listener.h"
#include "vhost_user/service.h"
#include "virtiofs/device.h"

namespace fusewire {
namespace {

class ServedSession final : public Session {
 public:
  ServedSession(std::unique_ptr<virtiofs::Device> device, vhost_user::Listener listener, bool keep_listening)
      : keep_listening_(keep_listening), device_(std::move(device)), listener_(std::move(listener)) {}

  bool usable() const { return static_cast<bool>(stop_); }

  std::expected<void, std::string> run() override {
    return vhost_user::serve(listener_, *device_, {.stop_fd = stop_.fd(), .keep_listening = keep_listening_});
  }
  void stop() override { stop_.set(); }

 private:
  const bool keep_listening_;
  session::StopEvent stop_;
  std::unique_ptr<virtiofs::Device> device_;
  vhost_user::Listener listener_;
};

}  // namespace

std::expected<std::unique_ptr<Session>, std::string> Session::serve(FileSystem& file_system,
                                                                    const ServeSettings& settings) {
  auto listener = settings.listening_fd >= 0 ? vhost_user::Listener::adopt(UniqueFd(settings.listening_fd))
                                             : vhost_user::Listener::bind(settings.socket_path);
  if (!listener) return std::unexpected(listener.error());
  auto device = virtiofs::Device::create(file_system, {.request_queues = settings.request_queues,
                                                       .tag = settings.tag,
                                                       .notification_buffer = settings.notification_buffer,
                                                       .grace = session::limited(settings.grace)});
  if (!device) return std::unexpected("cannot make the device: " + to_string(device.error()));
  auto session =
      std::make_unique<ServedSession>(std::move(*device), std::move(*listener), settings.keep_listening);
  if (!session->usable()) return std::unexpected("no descriptors are left: raise the limit (ulimit -n)");
  return session;
}

}  // namespace fusewire
