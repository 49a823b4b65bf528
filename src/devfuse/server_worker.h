// One thread of a Server, and what belongs to it. For server.cc and server_loop.cc.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <optional>
#include <thread>

#include "devfuse/channel.h"
#include "devfuse/channel_slot.h"
#include "devfuse/server.h"
#include "fusewire/thread_work.h"
#include "fusewire/unique_fd.h"
#include "io/busy_poll.h"

namespace fusewire::devfuse {

struct Server::Worker {
  Worker(unsigned index, std::optional<Channel> channel, UniqueFd epoll_fd, const Channel& first,
         const ServerOptions& options)
      : number(index),
        own(std::move(channel)),
        epoll(std::move(epoll_fd)),
        pool(own ? *own : first, options.max_write, options.splice),
        awake(options.busy_poll) {}

  static bool watch(const UniqueFd& epoll, int fd, std::uint32_t events) {
    epoll_event event{.events = events, .data = {.fd = fd}};
    return epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  }
  // Exclusive: of all threads that wait on the connection, which is the same behind each clone, a request
  // wakes one.
  static bool watch_requests(const UniqueFd& epoll, const Channel& channel) {
    return watch(epoll, channel.fd(), EPOLLIN | EPOLLEXCLUSIVE);
  }

  const unsigned number;
  const std::optional<Channel> own;
  const UniqueFd epoll;
  SlotPool pool;
  std::thread thread;    // none for the one that run() is
  bool running = false;  // guarded by workers_mutex_
  io::BusyPoll awake;
  ThreadWork* work = nullptr;
  bool busy = true;     // the last look for a request found one
  bool rested = false;  // the last sleep ended because of its length
  unsigned waits = 0;
  ChannelSlot* slot = nullptr;  // for the next request
};

}  // namespace fusewire::devfuse
