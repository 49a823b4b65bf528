// watch(): one more descriptor in an epoll(7) set.
#pragma once

#include <sys/epoll.h>

#include <cstdint>

#include "fusewire/unique_fd.h"

namespace fusewire::io {

// Has `epoll` report `events` of `fd`, with the descriptor itself as the event's data. False, with errno,
// when the kernel refuses.
inline bool watch(const UniqueFd& epoll, int fd, std::uint32_t events) {
  epoll_event event{.events = events, .data = {.fd = fd}};
  return ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace fusewire::io
