#include "devfuse/notification_channel.h"

namespace fusewire::devfuse {

Result<void> NotificationChannel::send(std::span<const iovec> message) {
  const Result<void> sent = channel_.write(message);
  // EPERM: not mounted yet, or mounted no more; ENODEV: aborted.
  if (!sent && (sent.error().value == EPERM || sent.error().value == ENODEV)) return fail(ENOTCONN);
  return sent;
}

}  // namespace fusewire::devfuse
