// StopEvent: what a session's threads wait on beside their work; once set it stays set.
#pragma once

#include <sys/eventfd.h>

#include "base/event_fd.h"
#include "fusewire/unique_fd.h"

namespace fusewire::session {

class StopEvent {
 public:
  StopEvent() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  // False when there are no descriptors left.
  explicit operator bool() const { return static_cast<bool>(fd_); }
  // Readable once set() was called.
  int fd() const { return fd_.get(); }
  // Async-signal-safe.
  void set() const { signal_event(fd_); }

 private:
  UniqueFd fd_;
};

}  // namespace fusewire::session
