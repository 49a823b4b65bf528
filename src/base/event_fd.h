// signal_event(): one more event in an eventfd(2).
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "fusewire/unique_fd.h"

namespace fusewire {

// Makes `event` readable; does nothing when there is none. Async-signal-safe.
inline void signal_event(const UniqueFd& event) {
  if (!event) return;
  const std::uint64_t one = 1;
  // EAGAIN means a full counter: the other side has more than enough signals to read.
  while (::write(event.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

}  // namespace fusewire
