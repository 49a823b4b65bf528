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
#include "io/epoll.h"

namespace fusewire::devfuse {

struct Server::Worker {
  Worker(unsigned index, std::optional<Channel> channel, UniqueFd epoll_fd, UniqueFd call_event,
         const Channel& first, const ServerOptions& options)
      : number(index),
        own(std::move(channel)),
        epoll(std::move(epoll_fd)),
        call(std::move(call_event)),
        awake(options.busy_poll),
        pool(own ? *own : first, options.max_write, options.splice) {}

  // Whether requests wake this thread. Exclusive: of all threads that wait on the connection, which is the
  // same behind each clone, a request wakes one. False when the kernel refuses.
  bool watch_requests(bool wanted) {
    if (wanted == watching) return true;
    const int fd = pool.channel().fd();
    if (wanted ? !io::watch(epoll, fd, EPOLLIN | EPOLLEXCLUSIVE)
               : epoll_ctl(epoll.get(), EPOLL_CTL_DEL, fd, nullptr) != 0)
      return false;
    watching = wanted;
    return true;
  }

  const unsigned number;
  const std::optional<Channel> own;
  const UniqueFd epoll;
  const UniqueFd call;  // ends a sleep
  io::BusyPoll awake;
  SlotPool pool;
  std::thread thread;    // none for the one that run() is
  bool running = false;  // guarded by workers_mutex_
  bool asleep = false;   // until it is called; guarded by workers_mutex_
  bool watching = false;
  ThreadWork* work = nullptr;
  bool busy = true;     // the last look for a request found one
  bool rested = false;  // the last sleep ended because of its length
  unsigned waits = 0;
  bool relieves = false;        // as the deputy, it found that the listener needs somebody beside it
  ChannelSlot* slot = nullptr;  // for the next request
};

}  // namespace fusewire::devfuse
