#include "vhost_user/service.h"

#include <optional>
#include <utility>

#include "base/log.h"
#include "vhost_user/backend.h"

namespace fusewire::vhost_user {
namespace {

// True when there is nobody to wait for any more.
bool ends_service(const Backend::Outcome& outcome, bool keep_listening) {
  static log::RateLimit limit;
  switch (outcome.ending) {
    case Backend::Ending::stopped:
      return true;
    case Backend::Ending::front_end_gone:
      log::info("the front-end has gone{}", keep_listening ? ": waiting for the next one" : "");
      return !keep_listening;
    case Backend::Ending::protocol_error:
      log::warn_limited(limit, "the connection to the front-end failed: {}; waiting for the next one",
                        outcome.text);
      return false;
  }
  return true;
}

}  // namespace

std::expected<void, std::string> serve(Listener& listener, Device& device, const ServiceOptions& options) {
  for (;;) {
    auto accepted = listener.accept(options.stop_fd);
    if (!accepted) return std::unexpected(std::move(accepted.error()));
    std::optional<UniqueFd> front_end = *std::move(accepted);
    if (!front_end) return {};
    UniqueFd socket = *std::move(front_end);
    if (left_without_a_word(socket.get(), options.stop_fd)) {
      log::debug("a connection to the socket was closed without a message");
      continue;
    }
    log::info("a front-end has connected");
    const auto outcome = Backend(std::move(socket), device, options.stop_fd).run();
    if (ends_service(outcome, options.keep_listening)) return {};
  }
}

}  // namespace fusewire::vhost_user
