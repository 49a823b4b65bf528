// BackingChannel: how a transport gives the kernel files that it reads and writes itself. A transport that
// can implements it and hands it to Engine::set_backing_channel.
#pragma once

#include <cstdint>

#include "fusewire/result.h"

namespace fusewire {

class BackingChannel {
 public:
  virtual ~BackingChannel() = default;

  // Both from any thread, and from several at once.

  // Gives the kernel the file behind `fd`, which it keeps until close(); the descriptor may be closed.
  // Returns the number by which it knows it, above 0. Errors: the kernel's; see BackingFiles::open.
  virtual Result<std::uint32_t> open(int fd) = 0;
  // ENOENT: there is no such number.
  virtual Result<void> close(std::uint32_t id) = 0;
};

}  // namespace fusewire
