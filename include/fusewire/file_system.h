// FileSystem: what serves the requests. One virtual method for each row of ops.def, called by the engine.
//
// Threading: methods run in parallel on the transport's threads; init() and destroy() run alone. A method
// that may take long should move the Call elsewhere: the queue that it came from waits until the method
// returns.
//
// Defaults: each method answers ENOSYS. The kernel remembers ENOSYS for good for many operations and stops
// asking (for example ACCESS, FLUSH, FSYNC, GETXATTR: treated as success or as unsupported), so leaving a
// method out is a decision. Two exceptions: forget does nothing, and batch_forget calls forget for each item.
#pragma once

#include <memory>

#include "fusewire/call.h"
#include "fusewire/negotiate.h"
#include "fusewire/result.h"
#include "fusewire/thread_work.h"

namespace fusewire {

class FileSystem {
 public:
  FileSystem() = default;
  FileSystem(const FileSystem&) = delete;
  FileSystem& operator=(const FileSystem&) = delete;
  virtual ~FileSystem() = default;

  // A kernel connects. State what is wanted of it in `negotiation`. An error refuses the mount with that
  // errno.
  virtual Result<void> init(Negotiation& negotiation);

  // The kernel is gone (DESTROY, a reboot, or the end of the session): forget every node and handle. Comes
  // once for each successful init(), with no request in flight.
  virtual void destroy();

#define FUSE_OP(method, Type, opcode, In, Tail, Reply) virtual void method(Call<op::Type> call);
#include "fusewire/ops.def"

  // A thread of the transport starts to serve calls: the work that the file system wants to do in it besides,
  // or null (the default). On that thread; it is destroyed there too, when the thread ends.
  virtual std::unique_ptr<ThreadWork> thread_work();

  // One item of BATCH_FORGET; FORGET itself comes through forget(Call) whose default calls this.
  virtual void forget_node(NodeId node, std::uint64_t lookups);
};

}  // namespace fusewire
