// How long the end of a session waits at most.
#pragma once

#include <algorithm>
#include <chrono>

namespace fusewire::session {

// What a clock can count to from now; longer than any session is for ever, too.
inline std::chrono::milliseconds limited(std::chrono::milliseconds grace) {
  return std::clamp<std::chrono::milliseconds>(grace, std::chrono::milliseconds(0),
                                               std::chrono::hours(24 * 365));
}

}  // namespace fusewire::session
