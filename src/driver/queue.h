// Queue: one virtqueue of a server, seen from the guest's side: a DriverQueue with its kick and call events.
// It stands between a tool (virtiofs-mount, virtiofs-bench) and the ring.
//
// One turn of a user: stage() any number of chains, publish() them with at most one kick, take() what came
// back, and when there is nothing to take either wait() or, in an event loop of its own, arm() and poll
// call_fd(). Used by one thread at a time; different queues may be used by different threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "guestmem/shared_memory.h"
#include "virtio/driver_queue.h"

namespace fusewire::driver {

class Queue {
 public:
  using Used = virtio::DriverQueue::Used;

  // `ring` lies in `memory` (DriverQueue::memory_size() bytes). Errors: what eventfd(2) gave.
  static Result<Queue> create(guestmem::SharedMemory::Piece memory, unsigned size,
                              const virtio::DriverOptions& options);

  // What the server is told of the queue.
  virtio::RingSetup setup() const { return ring_.setup(); }
  int kick_fd() const { return kick_.get(); }
  // Readable when the server has signalled. Non-blocking; drain() takes the signals.
  int call_fd() const { return call_.get(); }

  // Makes a chain: first what the server reads, then what it writes. False, and nothing done, when the ring
  // has no room for it now. `cookie` comes back from take().
  [[nodiscard]] bool stage(std::span<const virtio::GuestBuffer> readable,
                           std::span<const virtio::GuestBuffer> writable, std::uint64_t cookie) {
    return ring_.stage(readable, writable, cookie);
  }
  // Shows the server everything staged, and kicks it if it asks for that.
  void publish();

  // The next chain that came back; none: nothing there now.
  std::optional<Used> take() { return ring_.poll_used(); }

  // Asks for a signal. True: there is something to take already, and perhaps no signal will come for it.
  [[nodiscard]] bool arm() { return ring_.enable_interrupts(); }
  // Asks for no signals, while there is something to do anyway.
  void disarm() { ring_.disable_interrupts(); }
  // Takes the signals that came.
  void drain();
  // Arms, sleeps until there is something to take, and disarms. False: nothing came within `patience`, or
  // `interrupt_fd` (-1: none) became readable or hung up.
  bool wait(std::chrono::milliseconds patience, int interrupt_fd = -1);

  // Chains that the server has.
  unsigned outstanding() const { return ring_.outstanding(); }
  // The server returned a chain that it did not have: nothing more will be taken.
  bool broken() const { return ring_.broken(); }

  // Kicks sent, and signals taken by drain() and wait(), since the queue was made.
  std::uint64_t kicks() const { return kicks_; }
  std::uint64_t interrupts() const { return interrupts_; }

 private:
  Queue(guestmem::SharedMemory::Piece memory, unsigned size, const virtio::DriverOptions& options,
        UniqueFd kick, UniqueFd call)
      : ring_(memory, size, options), kick_(std::move(kick)), call_(std::move(call)) {}

  virtio::DriverQueue ring_;
  UniqueFd kick_, call_;
  std::uint64_t kicks_ = 0;
  std::uint64_t interrupts_ = 0;
};

// Appends `piece` as a guest's kernel would lay it out: one buffer for each page that it touches.
void append_pages(const guestmem::SharedMemory::Piece& piece, std::vector<virtio::GuestBuffer>& buffers);

}  // namespace fusewire::driver
