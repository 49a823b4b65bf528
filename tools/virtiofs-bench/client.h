// Client: single requests, one after the other, for what happens around the measurements: INIT, the tree,
// open files. And Forgets, the high-priority queue, which the kernel sends FORGET on. Both are used while no
// other thread uses the same queue; Forgets may be shared by threads.
#pragma once

#include <atomic>
#include <mutex>
#include <string_view>
#include <vector>

#include "driver/server.h"
#include "virtiofs-bench/expected.h"
#include "virtiofs-bench/slot.h"

namespace fusewire::bench {

// What every wait for the server looks at.
struct Link {
  int socket_fd = -1;                    // hangs up when the server goes away
  const std::atomic<bool>& interrupted;  // the user wants to stop, and will not wait long
};

// Waits until `queue` has something to take. Fails when the server goes away, breaks the ring, or is silent
// for half a minute (two seconds when the user is waiting).
Expected<void> wait_for_used(driver::Queue& queue, const Link& link);
// Fails when the server has gone away.
Expected<void> still_there(const Link& link);

class Client {
 public:
  // `memory` as Slot's.
  Client(driver::Queue& queue, const Link& link, guestmem::SharedMemory::Piece memory)
      : queue_(queue), link_(link), slot_(memory, 0) {}

  // Where the next request is written, and its reply read.
  Slot& slot() { return slot_; }
  // Sends what was written and waits. A reply that is an error is no failure here: see slot().error().
  Expected<void> send();
  // Likewise; an error reply is a failure that says what was attempted.
  Expected<void> call(std::string_view what);

  // INIT as Linux sends it to a virtio-fs server without DAX. The limits that come back hold for what
  // follows.
  Expected<fuse_init_out> init();
  Expected<fuse_entry_out> mkdir(NodeId parent, std::string_view name);
  Expected<CreateOut> create(NodeId parent, std::string_view name);
  Expected<FileHandle> open(NodeId node);
  Expected<void> release(NodeId node, FileHandle handle);
  Expected<void> unlink(NodeId parent, std::string_view name);
  Expected<void> rmdir(NodeId parent, std::string_view name);
  Expected<void> destroy();

 private:
  driver::Queue& queue_;
  Link link_;
  Slot slot_;
  std::uint64_t unique_ = 0;
};

class Forgets {
 public:
  // `memory`: room for `depth` requests of 64 bytes.
  Forgets(driver::Queue& queue, const Link& link, guestmem::SharedMemory::Piece memory, unsigned depth);

  // Stages a FORGET of `lookups` references to `node`; waits while the queue is full. publish() shows what
  // was staged.
  Expected<void> add(NodeId node, std::uint64_t lookups);
  void publish();
  // Waits until the server has taken all.
  Expected<void> drain();

  // SAFETY of the counters: read when no thread is at work.
  const driver::Queue& queue() const { return queue_; }

 private:
  void take();

  std::mutex mutex_;
  driver::Queue& queue_;
  Link link_;
  guestmem::SharedMemory::Piece memory_;
  std::vector<unsigned> free_;
  std::uint64_t unique_ = std::uint64_t{1} << 63;
};

}  // namespace fusewire::bench
