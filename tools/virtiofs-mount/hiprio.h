// Hiprio: queue 0 of the server, for requests that have no reply: FORGET, and INTERRUPT. Every thread that
// reads /dev/fuse sends through it.
//
// Requests are copied into it (FORGETs are 48 bytes). The server has to return their chains, with length 0;
// while it has all of them, send() waits, as a guest's kernel would.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "driver/server.h"
#include "virtiofs-mount/observer.h"

namespace fusewire::carry {

class Hiprio {
 public:
  // Bytes of Server::memory() that it takes.
  static std::size_t memory_size();

  // `abandoned`: becomes true when nothing is to be waited for any more. Both must outlive this object. None:
  // memory is short.
  static std::optional<Hiprio> create(driver::Server& server, const std::atomic<bool>& abandoned);
  Hiprio(Hiprio&& other) noexcept
      : server_(other.server_), abandoned_(other.abandoned_), free_(std::move(other.free_)) {}

  // Sends one whole request. A BATCH_FORGET, of which the kernel makes as long ones as we have room for, goes
  // in pieces of a page each. False: the server has gone, or the request is malformed.
  bool send(std::span<const std::byte> request, std::span<Observer* const> observers);

 private:
  Hiprio(driver::Server& server, const std::atomic<bool>& abandoned)
      : server_(server), abandoned_(abandoned) {}

  bool send_batch(const fuse_in_header& header, std::span<const std::byte> request,
                  std::span<Observer* const> observers);
  bool send_page(std::span<const std::byte> request, std::span<Observer* const> observers);
  // Takes back what the server has done.
  void reclaim();

  driver::Server& server_;
  const std::atomic<bool>& abandoned_;
  std::mutex mutex_;  // for the queue and what follows
  std::vector<guestmem::SharedMemory::Piece> free_;
};

}  // namespace fusewire::carry
