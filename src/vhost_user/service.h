// Serving front-ends, one after the other, on the calling thread. The queues' work is done by the device's
// own threads meanwhile.
#pragma once

#include <expected>
#include <string>

#include "vhost_user/device.h"
#include "vhost_user/listener.h"

namespace fusewire::vhost_user {

struct ServiceOptions {
  // Ends the service when it becomes readable; borrowed. -1: there is none.
  int stop_fd = -1;
  // Waits for the next front-end when one has gone; else the first to go ends the service.
  bool keep_listening = false;
};

// Accepts front-ends from `listener` and serves `device` to each until it goes away. A front-end that breaks
// the protocol, or dies in the middle of a message, loses its connection and ends nothing else: the next one
// is waited for. Neither counts a connection that is closed before its first byte: something looked whether
// the socket is alive. On return the device is disconnected. The error says why the listener is of no more
// use.
std::expected<void, std::string> serve(Listener& listener, Device& device, const ServiceOptions& options);

}  // namespace fusewire::vhost_user
