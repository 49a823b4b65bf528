// Trace: --trace, one line on standard error for each request and each reply.
//
//   0.002153 #6 > FUSE_LOOKUP node=1 uid=0 gid=0 pid=812 "name"
//   0.002201 #6 < FUSE_LOOKUP ok 128 bytes node=2 mode=100644 size=5 (48 us)
//
// Thread-safe. It copies what it looks at, because the server can write to it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "virtiofs-mount/observer.h"

namespace fusewire::carry {

// `text` between double quotes, with what cannot be printed as \xNN.
std::string quoted(std::string_view text);

// A request in words, decoded by its row of the op table: "FUSE_LOOKUP node=1 uid=0 gid=0 pid=812 "name"".
// `caps`: what INIT settled, which decides on layouts. What is too short for its operation is said to be
// malformed.
std::string describe_request(std::span<const std::byte> request, std::uint64_t caps);

// A successful reply's body: " node=2 mode=100644 size=5"; empty, if there is nothing to say.
std::string describe_reply(std::uint32_t opcode, std::span<const std::byte> body);

class Trace final : public Observer {
 public:
  // `print` gets whole lines, without their end, from any thread.
  explicit Trace(std::function<void(const std::string&)> print) : print_(std::move(print)) {}

  void request(unsigned queue, const fuse_in_header& header, std::span<const std::byte> request,
               const ReplyRoom& room) override;
  void reply(unsigned queue, const fuse_in_header& request, const fuse_out_header& header,
             std::span<const std::byte> body, std::chrono::nanoseconds latency) override;
  void failed(unsigned queue, const fuse_in_header& request, int error) override;

 private:
  std::string stamp(std::uint64_t unique) const;

  const std::function<void(const std::string&)> print_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::atomic<std::uint64_t> caps_{0};
};

}  // namespace fusewire::carry
