// INIT on its way through: what the kernel offers as a virtio guest would offer it, and the server's answer
// as something that this kernel asked for and our slots can carry.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fusewire/result.h"
#include "fusewire/wire.h"

namespace fusewire::carry {

// What INIT settled, as far as it concerns us.
struct Settled {
  std::uint32_t max_write = 4096;
  // Pages of the largest request or reply.
  std::uint32_t max_pages = 32;
  std::uint32_t minor = 0;
  std::uint64_t caps = 0;  // as in enum class Cap

  bool has(Cap cap) const { return (caps & static_cast<std::uint64_t>(cap)) != 0; }
};

// The kernel's INIT, for the server: a whole request again. EPROTO: `request` is no INIT.
//
// Cleared: passthrough, io_uring and splice, which are /dev/fuse's own; the request time-out and RESEND,
// which ask for things that only the kernel's other end can do. Added: FUSE_SUBMOUNTS, which every virtio
// guest offers.
Result<std::vector<std::byte>> init_for_server(std::span<const std::byte> request);

// The server's fuse_init_out, for the kernel that sent `request`: only what it asked for (and we did not
// clear), and sizes up to `max_pages` pages, which is all that we have room for. `settled` tells what it came
// to. EPROTO: another major version, or no INIT at all.
Result<fuse_init_out> init_for_kernel(std::span<const std::byte> request, std::span<const std::byte> body,
                                      std::uint32_t max_pages, Settled& settled);

}  // namespace fusewire::carry
