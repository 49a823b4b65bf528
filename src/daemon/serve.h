// Serving: one front-end after the other, on the main thread, until there is a reason to end. The queues'
// work is done by the device's own threads meanwhile.
#pragma once

#include <expected>
#include <string>

#include "vhost_user/listener.h"
#include "virtiofs/device.h"

namespace fusewire::daemon {

// Accepts front-ends from `listener` and serves `device` to each until it goes away. Ends well when the first
// one has gone, or with `keep_listening` never; and when `stop_fd` becomes readable. A front-end that breaks
// the protocol loses its connection and ends nothing else: the next one is waited for. Neither counts a
// connection that ends before its first byte: something looked whether the socket is alive. The error says
// why the listener is of no more use.
std::expected<void, std::string> serve(vhost_user::Listener& listener, virtiofs::Device& device, int stop_fd,
                                       bool keep_listening);

}  // namespace fusewire::daemon
