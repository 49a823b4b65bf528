// Server: a virtio-fs server over its vhost-user socket, as a virtual machine would have it: guest memory
// that both sides see, a high-priority queue and request queues. What goes through the queues, INIT first of
// all, is the user's affair.
//
// Speaks to any server: it asks for what it is told to, and takes what the server offers of that. Made and
// destroyed by one thread; each queue may be used by a thread of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "driver/queue.h"
#include "guestmem/shared_memory.h"
#include "vhost_user/frontend.h"

namespace fusewire::driver {

struct ServerOptions {
  unsigned request_queues = 1;
  bool fewer_queues = false;  // takes as many as the server has, where it has fewer
  unsigned ring_size = 1024;  // a power of two up to 32768; QEMU's default is 128
  bool event_idx = true;      // taken if the server offers it
  bool indirect = true;       // likewise
  bool packed = false;        // likewise: packed rings instead of split ones
  // Entries of an indirect table. A chain of more buffers takes descriptors of the ring.
  unsigned indirect_entries = 272;
  // For the user's requests and replies: Server::memory() has room for this much.
  std::size_t memory_bytes = std::size_t{64} << 20;
};

class Server {
 public:
  // Connects to the server that listens at `socket`, or speaks over a connection on which nothing was said
  // yet, and goes as far as enabled rings. The errors are texts that name the step; one of them is that the
  // server has fewer queues than asked for.
  static std::expected<std::unique_ptr<Server>, std::string> connect(const std::string& socket,
                                                                     const ServerOptions& options);
  static std::expected<std::unique_ptr<Server>, std::string> connect(vhost_user::Frontend frontend,
                                                                     const ServerOptions& options);

  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Guest memory, for requests and the room for their replies.
  guestmem::SharedMemory& memory() { return memory_; }
  // FORGET, BATCH_FORGET and INTERRUPT go here (virtio 1.2, 5.11.6.2).
  Queue& hiprio() { return queues_.front(); }
  // `index` from 0.
  Queue& request_queue(unsigned index) { return queues_[index + 1]; }
  unsigned request_queues() const { return static_cast<unsigned>(queues_.size() - 1); }
  // Virtio feature bits that were negotiated.
  std::uint64_t features() const { return frontend_.features(); }
  // The connection; hangs up when the server goes away.
  int socket_fd() { return frontend_.connection().fd(); }
  // Whether it has.
  bool hung_up();

  // Takes the rings back, which waits for the requests that the server still has.
  std::expected<void, std::string> stop();

 private:
  Server(vhost_user::Frontend frontend, guestmem::SharedMemory memory)
      : frontend_(std::move(frontend)), memory_(std::move(memory)) {}
  std::expected<void, std::string> start(const ServerOptions& options);

  vhost_user::Frontend frontend_;
  guestmem::SharedMemory memory_;
  std::vector<Queue> queues_;
};

}  // namespace fusewire::driver
