#include "io/busy_poll.h"

#include <algorithm>
#include <thread>

namespace fusewire::io {

void BusyPoll::woke_up() {
  starts();
  if (limit_.count() == 0) return;
  soon_ = Clock::now() - began_ <= limit_ + kWakeUp;
  began_ = {};
}

unsigned BusyPoll::most_awake() {
  static const unsigned most = std::max(1U, std::thread::hardware_concurrency() / 2);
  return most;
}

void BusyPoll::pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace fusewire::io
