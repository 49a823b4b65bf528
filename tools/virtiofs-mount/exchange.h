// One request and its reply over the first request queue, while nothing else uses that: INIT before the mount
// is served, DESTROY after it.
#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <span>
#include <string>
#include <vector>

#include "driver/server.h"

namespace fusewire::carry {

class Exchange {
 public:
  // Bytes of Server::memory() that it takes.
  static std::size_t memory_size();
  // `server` must outlive this object.
  static std::expected<Exchange, std::string> create(driver::Server& server);

  // Sends `request` (at most a page) and waits for the reply. The result is the reply's body; of a reply that
  // is an error, or broken, or does not come, the error is a text. Ends early when `stop_fd` becomes
  // readable.
  std::expected<std::vector<std::byte>, std::string> call(std::span<const std::byte> request,
                                                          std::chrono::milliseconds patience, int stop_fd);

 private:
  Exchange(driver::Server& server, guestmem::SharedMemory::Piece request, guestmem::SharedMemory::Piece reply)
      : server_(server), request_(request), reply_(reply) {}
  std::expected<void, std::string> await(std::chrono::milliseconds patience, int stop_fd);

  driver::Server& server_;
  guestmem::SharedMemory::Piece request_, reply_;
};

}  // namespace fusewire::carry
