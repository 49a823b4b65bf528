#include "daemon/serve.h"

#include <optional>
#include <utility>

#include "base/log.h"
#include "vhost_user/backend.h"

namespace fusewire::daemon {
namespace {

using Ending = vhost_user::Backend::Ending;

// True when there is nobody to wait for any more.
bool ends_service(const vhost_user::Backend::Outcome& outcome, bool keep_listening) {
  static log::RateLimit limit;
  switch (outcome.ending) {
    case Ending::stopped:
      return true;
    case Ending::front_end_gone:
      log::info("the front-end has gone{}", keep_listening ? ": waiting for the next one" : "");
      return !keep_listening;
    case Ending::protocol_error:
      log::warn_limited(limit, "the connection to the front-end failed: {}; waiting for the next one",
                        outcome.text);
      return false;
  }
  return true;
}

}  // namespace

std::expected<void, std::string> serve(vhost_user::Listener& listener, virtiofs::Device& device, int stop_fd,
                                       bool keep_listening) {
  for (;;) {
    auto accepted = listener.accept(stop_fd);
    if (!accepted) return std::unexpected(std::move(accepted.error()));
    std::optional<UniqueFd> front_end = *std::move(accepted);
    if (!front_end) return {};
    UniqueFd socket = *std::move(front_end);
    if (vhost_user::left_without_a_word(socket.get(), stop_fd)) {
      log::debug("a connection to the socket was closed without a message");
      continue;
    }
    log::info("a front-end has connected");
    const auto outcome = vhost_user::Backend(std::move(socket), device, stop_fd).run();
    device.disconnect();
    if (ends_service(outcome, keep_listening)) return {};
  }
}

}  // namespace fusewire::daemon
