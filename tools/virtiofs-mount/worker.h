// Worker: the thread between one /dev/fuse channel and one request queue. It reads requests into slots, hands
// them to the server, and writes the replies to the kernel from where the server put them.
//
//   kernel -> Channel::read -> Slot -> Queue -> server -> Queue -> find_fault -> Channel::write -> kernel
//
// It never blocks but in one epoll_wait(2), and in Hiprio::send() while the server has every FORGET. When the
// server goes away it answers what is out, and whatever still comes, with ENOTCONN until the mount has gone
// too.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "devfuse/channel.h"
#include "driver/server.h"
#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "virtiofs-mount/hiprio.h"
#include "virtiofs-mount/observer.h"
#include "virtiofs-mount/slot.h"

namespace fusewire::carry {

// What all workers share.
struct Shared {
  explicit Shared(driver::Server& to) : server(to) {}
  driver::Server& server;
  Hiprio* hiprio = nullptr;
  std::vector<Observer*> observers;
  bool interrupts = false;  // pass INTERRUPT on
  // An eventfd that a worker raises when it has abandoned the server, or has ended.
  int alarm_fd = -1;
  // Take nothing new, and end when nothing is out. Who sets this or the next wakes the workers.
  std::atomic<bool> closing{false};
  // The server does not count any more: answer everything with ENOTCONN.
  std::atomic<bool> abandoned{false};
  std::atomic<unsigned> running{0};  // workers that have not ended
};

class Worker {
 public:
  // A worker for request queue `index`; `slots` are its own. Errors: what epoll and eventfd gave.
  static Result<std::unique_ptr<Worker>> create(Shared& shared, unsigned index, devfuse::Channel channel,
                                                std::vector<Slot> slots);

  // Returns when the mount has gone or closing was asked for, and nothing is out. In a thread of its own.
  void run();
  // Makes it look at Shared again. From any thread.
  void wake();

 private:
  Worker(Shared& shared, unsigned index, devfuse::Channel channel, std::vector<Slot> slots, UniqueFd epoll,
         UniqueFd wake)
      : shared_(shared),
        index_(index),
        queue_(shared.server.request_queue(index)),
        channel_(std::move(channel)),
        epoll_(std::move(epoll)),
        wake_(std::move(wake)),
        slots_(std::move(slots)) {}
  Result<void> watch();

  bool take_requests();
  void begin(Slot& slot, std::size_t size);
  void stage(Slot& slot);
  bool deliver();
  void pass_on(Slot& slot, std::uint32_t used);
  void sleep();
  void watch_channel(bool wanted);

  void serve();
  void abandon();
  void refuse_new();

  void answer_error(const fuse_in_header& request, int error);
  void write(const fuse_in_header& request, std::span<const iovec> reply);
  void release(Slot& slot) { free_.push_back(&slot); }
  bool idle() const { return free_.size() == slots_.size(); }

  Shared& shared_;
  const unsigned index_;
  driver::Queue& queue_;
  devfuse::Channel channel_;
  UniqueFd epoll_, wake_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_;   // used as a stack, so that few slots' pages are ever touched
  std::vector<char> out_;     // by slot: whether the server has it
  Slot* unstaged_ = nullptr;  // a request for which the ring had no room
  std::vector<virtio::GuestBuffer> readable_, writable_;
  std::vector<std::byte> scratch_;  // for requests that nobody serves any more
  bool channel_watched_ = false;
  bool gone_ = false;       // the server
  bool unmounted_ = false;  // the kernel's side
};

}  // namespace fusewire::carry
