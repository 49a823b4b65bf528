// Observer: somebody who looks at the traffic between the kernel and the server (--trace, --record).
#pragma once

#include <linux/fuse.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "virtiofs-mount/operations.h"

namespace fusewire::carry {

// Called by every queue's thread, so that it has to be thread-safe. The spans are memory that the server can
// write to: what is decided on a byte has to be decided on a copy of it.
class Observer {
 public:
  virtual ~Observer() = default;
  // A request that is about to go to the server. `queue`: 0 is hiprio, request queues follow.
  virtual void request(unsigned queue, const fuse_in_header& header, std::span<const std::byte> request,
                       const ReplyRoom& room) = 0;
  // What came back for it, after it was found right.
  virtual void reply(unsigned queue, const fuse_in_header& request, const fuse_out_header& header,
                     std::span<const std::byte> body, std::chrono::nanoseconds latency) = 0;
  // It was answered with `error` by us: the server has gone, or its reply was broken.
  virtual void failed(unsigned queue, const fuse_in_header& request, int error) = 0;
};

}  // namespace fusewire::carry
