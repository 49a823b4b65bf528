// Backend: the back-end's side of one vhost-user connection: reads messages, keeps the state that the
// protocol wants kept, and drives a Device. One thread runs it; nothing that comes over the socket ends the
// process. Messages about memory and about rings have a file of their own each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fusewire/unique_fd.h"
#include "guestmem/dirty_log.h"
#include "guestmem/memory_map.h"
#include "vhost_user/connection.h"
#include "vhost_user/device.h"
#include "vhost_user/messages.h"

namespace fusewire::vhost_user {

class Backend {
 public:
  enum class Ending {
    front_end_gone,  // The socket was closed between two messages: a normal end.
    stopped,         // The stop descriptor became readable.
    protocol_error,  // The front-end broke the protocol, or vanished in the middle of a message: `text` says
                     // how.
  };
  struct Outcome {
    Ending ending = Ending::front_end_gone;
    std::string text;
  };

  // Serves `device`, which outlives the Backend, to the front-end at the other end of `socket`. `stop_fd` is
  // borrowed; -1: there is none.
  Backend(UniqueFd socket, Device& device, int stop_fd);

  // Serves until the connection ends. On return the device is disconnected and holds no guest memory, and the
  // socket is closed.
  Outcome run();

  // The socket for requests to the front-end (SET_BACKEND_REQ_FD); none until it came. For the thread of
  // run() only.
  const UniqueFd& request_socket() const { return request_socket_; }

 private:
  struct Ring {
    virtio::RingSetup setup;
    bool has_size = false;
    bool has_addresses = false;
    bool running = false;
    bool kick_came = false;  // SET_VRING_KICK came, but no memory yet; `kick` may be none.
    UniqueFd kick;
  };

  // What became of a message.
  struct Verdict {
    enum class Kind {
      done,     // Acknowledge it if the front-end asked for that.
      replied,  // It has got its own reply.
      refused,  // Say no if the front-end asked; if it did not, going on does no harm.
      failed,   // Say no if the front-end asked; if it did not, it would go on without knowing: end the
                // connection.
    };
    Kind kind = Kind::done;
    std::string text;
  };
  static Verdict done() { return {}; }
  static Verdict failed(std::string text) { return {Verdict::Kind::failed, std::move(text)}; }

  // Handles one message. A text when the connection must end.
  std::optional<std::string> dispatch(Message& message);
  Verdict handle(const RequestInfo* info, Message& message);

  // One handler for every row of messages.def. Sizes and descriptor counts have been checked.
#define FUSEWIRE_VHOST_USER_REQUEST(name, ...) Verdict on_##name(Message& message);
#include "vhost_user/messages.def"
#undef FUSEWIRE_VHOST_USER_REQUEST

  std::uint64_t offered_features() const;
  std::uint64_t offered_protocol_features() const;
  bool any_running() const;
  bool packed_rings() const { return (features_ & virtio::kRingPacked) != 0; }
  // The ring with this index, or null.
  Ring* ring_at(std::uint64_t index);
  // Starts the ring if its kick has come and there is memory.
  Verdict try_start(std::size_t index);
  // The ring index in a SET_VRING_KICK, _CALL or _ERR message, if it and the descriptor agree.
  std::expected<std::size_t, std::string> vring_fd_index(const Message& message) const;
  Verdict set_map(std::expected<std::shared_ptr<const guestmem::MemoryMap>, std::string> map);
  void pass_dirty_log();
  void reset_device();
  Verdict reply(const Message& request, std::span<const std::byte> payload);
  Verdict reply_u64(const Message& request, std::uint64_t value);

  Connection connection_;
  Device& device_;
  std::vector<Ring> rings_;
  std::shared_ptr<const guestmem::MemoryMap> map_;
  std::shared_ptr<guestmem::DirtyLog> log_;
  std::uint64_t features_ = 0;           // Acked, all bits.
  std::uint64_t protocol_features_ = 0;  // Acked.
  std::uint64_t status_ = 0;
  UniqueFd request_socket_;
};

}  // namespace fusewire::vhost_user
