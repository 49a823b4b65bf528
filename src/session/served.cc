// A session behind a vhost-user socket: one device, for one front-end.
#include <utility>

#include "fusewire/session.h"
#include "session/stop_event.h"
#include "vhost_user/backend.h"
#include "vhost_user/listener.h"
#include "virtiofs/device.h"

namespace fusewire {
namespace {

using Ending = vhost_user::Backend::Ending;

class ServedSession final : public Session {
 public:
  ServedSession(std::unique_ptr<virtiofs::Device> device, vhost_user::Listener listener)
      : device_(std::move(device)), listener_(std::move(listener)) {}

  bool usable() const { return static_cast<bool>(stop_); }

  std::expected<void, std::string> run() override {
    auto accepted = listener_.accept(stop_.fd());
    if (!accepted) return std::unexpected(accepted.error());
    if (!*accepted) return {};
    const auto outcome = vhost_user::Backend(std::move(**accepted), *device_, stop_.fd()).run();
    device_->disconnect();
    if (outcome.ending == Ending::protocol_error) return std::unexpected(outcome.text);
    return {};
  }
  void stop() override { stop_.set(); }

 private:
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
                                                       .notification_buffer = settings.notification_buffer});
  if (!device) return std::unexpected("cannot make the device: " + to_string(device.error()));
  auto session = std::make_unique<ServedSession>(std::move(*device), std::move(*listener));
  if (!session->usable()) return std::unexpected("no descriptors are left: raise the limit (ulimit -n)");
  return session;
}

}  // namespace fusewire
