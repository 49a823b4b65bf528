// Frontend: the front-end's side of one vhost-user connection (what QEMU does), for tests and for the tools
// which drive a daemon without a VM. Blocking; used by one thread. Where REPLY_ACK was negotiated every
// request waits for its acknowledgement, so that a success here means that the back-end has done it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fusewire/unique_fd.h"
#include "guestmem/memory_map.h"
#include "guestmem/shared_memory.h"
#include "vhost_user/connection.h"
#include "vhost_user/messages.h"
#include "virtio/ring.h"

namespace fusewire::vhost_user {

class Frontend {
 public:
  // Errors are texts that name the request.
  template <class T>
  using Expected = std::expected<T, std::string>;

  // One region of guest memory to share. `fd` is borrowed.
  struct SharedRegion {
    guestmem::RegionDescription description;
    int fd = -1;
  };
  static SharedRegion share(const guestmem::SharedMemory& memory) {
    return {memory.description(), memory.fd().get()};
  }

  // Connects to the daemon that listens at `path`.
  static Expected<Frontend> connect(const std::string& path);
  // Speaks over a connected socket.
  explicit Frontend(UniqueFd socket) : connection_(std::move(socket)) {}

  // SET_OWNER and the whole negotiation: of the features offered, takes those in the masks (and, if offered,
  // the protocol features' own bit). Fails when the back-end does not offer VIRTIO_F_VERSION_1 and it is
  // asked for.
  Expected<void> negotiate(std::uint64_t features, std::uint64_t protocol_features = ~std::uint64_t{0});
  // What negotiate() found and took.
  std::uint64_t offered_features() const { return offered_features_; }
  std::uint64_t offered_protocol_features() const { return offered_protocol_features_; }
  std::uint64_t features() const { return features_; }
  std::uint64_t protocol_features() const { return protocol_features_; }
  bool has(ProtocolFeature feature) const { return (protocol_features_ & bit(feature)) != 0; }

  // The single steps of it.
  Expected<std::uint64_t> get_features();
  Expected<void> set_features(std::uint64_t features);
  Expected<std::uint64_t> get_protocol_features();
  Expected<void> set_protocol_features(std::uint64_t features);
  Expected<void> set_owner();
  Expected<void> reset_owner();
  Expected<void> reset_device();

  Expected<void> set_mem_table(std::span<const SharedRegion> regions);
  Expected<std::uint64_t> get_max_mem_slots();
  Expected<void> add_mem_reg(const SharedRegion& region);
  // `stray_fd`: a descriptor to send along, as some front-ends do.
  Expected<void> rem_mem_reg(const guestmem::RegionDescription& description, int stray_fd = -1);
  Expected<void> set_log_base(std::uint64_t size, std::uint64_t offset, int fd);

  // NUM, ADDR, BASE, CALL, ERR and KICK of one ring, which starts it; descriptors are borrowed, -1: none
  // (error: not sent).
  Expected<void> start_ring(unsigned index, const virtio::RingSetup& ring, int kick, int call,
                            int error = -1);
  Expected<void> set_vring_num(unsigned index, std::uint32_t size);
  Expected<void> set_vring_addr(unsigned index, const virtio::RingSetup& ring);
  Expected<void> set_vring_base(unsigned index, std::uint32_t base);
  Expected<void> set_vring_kick(unsigned index, int fd);
  Expected<void> set_vring_call(unsigned index, int fd);
  Expected<void> set_vring_err(unsigned index, int fd);
  Expected<void> set_vring_enable(unsigned index, bool enabled);
  // Stops the ring; where it goes on (RingSetup::base).
  Expected<std::uint32_t> get_vring_base(unsigned index);

  Expected<std::uint64_t> get_queue_num();
  Expected<std::vector<std::byte>> get_config(std::uint32_t offset, std::uint32_t size);
  Expected<void> set_config(std::uint32_t offset, std::span<const std::byte> bytes);
  Expected<void> set_status(std::uint64_t status);
  Expected<std::uint64_t> get_status();
  Expected<void> set_backend_req_fd(int fd);

  // For what the methods above do not do.
  Connection& connection() { return connection_; }

 private:
  Expected<void> request(Request request, std::span<const std::byte> payload, std::span<const int> fds = {});
  Expected<Message> request_reply(Request request, std::span<const std::byte> payload,
                                  std::span<const int> fds = {});
  Expected<std::uint64_t> request_u64(Request request);
  Expected<void> send_vring_fd(Request kind, unsigned index, int fd);
  // What came of handing the message to the connection, or of waiting for its reply there.
  Expected<void> outcome(Request request, Connection::Io io) const;
  Expected<void> send(Request request, std::span<const std::byte> payload, std::span<const int> fds);
  Expected<Message> receive_reply(Request request);

  Connection connection_;
  std::uint64_t offered_features_ = 0;
  std::uint64_t offered_protocol_features_ = 0;
  std::uint64_t features_ = 0;
  std::uint64_t protocol_features_ = 0;
};

}  // namespace fusewire::vhost_user
