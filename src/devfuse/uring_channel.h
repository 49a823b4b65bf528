// UringChannel: a connection's requests over io_uring, one queue and thread for each processor
// (uring_queue.h). INIT, FORGET and INTERRUPT still come by reading /dev/fuse, and notifications go out by
// writing to it.
//
// create() before INIT is answered, serve() right after an answer that says FUSE_OVER_IO_URING: from then on
// the kernel sends no other requests by /dev/fuse, and what it has to send waits until all queues are there.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "devfuse/uring_queue.h"
#include "fuse/engine.h"
#include "fusewire/result.h"

namespace fusewire::devfuse {

class UringChannel {
 public:
  // `like` for each queue; its cpu counts on from 0, its number from the one given. Errors: as
  // UringQueue::start.
  static Result<std::unique_ptr<UringChannel>> create(Engine& engine, const UringQueueSettings& like);

  // See UringQueue.
  void serve();
  void pause(bool end_waits);
  void close();
  std::size_t lent() const;

 private:
  std::vector<std::unique_ptr<UringQueue>> queues_;
};

}  // namespace fusewire::devfuse
