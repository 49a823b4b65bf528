#include "virtiofs-mount/exchange.h"

#include <fmt/format.h>
#include <linux/fuse.h>
#include <poll.h>

#include <algorithm>
#include <cstring>

#include "fusewire/result.h"
#include "virtiofs-mount/operations.h"
#include "virtiofs-mount/reply_check.h"

namespace fusewire::carry {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kPageSize = 4096;

std::unexpected<std::string> failed(std::string text) { return std::unexpected(std::move(text)); }

bool readable(int fd) {
  pollfd watched{fd, POLLIN, 0};
  return fd >= 0 && poll(&watched, 1, 0) == 1;
}

}  // namespace

std::size_t Exchange::memory_size() { return 3 * kPageSize; }

std::expected<Exchange, std::string> Exchange::create(driver::Server& server) {
  const auto request = server.memory().allocate(kPageSize, kPageSize);
  const auto reply = server.memory().allocate(kPageSize, kPageSize);
  if (!request || !reply) return failed("no memory for INIT");
  return Exchange(server, *request, *reply);
}

std::expected<void, std::string> Exchange::await(std::chrono::milliseconds patience, int stop_fd) {
  const auto end = std::chrono::steady_clock::now() + patience;
  // In slices, for `stop_fd`: the queue itself watches the connection.
  while (!server_.request_queue(0).wait(50ms, server_.socket_fd())) {
    if (server_.hung_up()) return failed("the server has gone");
    if (server_.request_queue(0).broken()) return failed("the server returned a chain that it did not have");
    if (readable(stop_fd)) return failed("ended by a signal");
    if (std::chrono::steady_clock::now() >= end)
      return failed(
          fmt::format("no reply within {} s", std::chrono::ceil<std::chrono::seconds>(patience).count()));
  }
  return {};
}

std::expected<std::vector<std::byte>, std::string> Exchange::call(std::span<const std::byte> request,
                                                                  std::chrono::milliseconds patience,
                                                                  int stop_fd) {
  fuse_in_header in{};
  std::memcpy(&in, request.data(), std::min(request.size(), sizeof in));
  const Operation* operation = find_operation(in.opcode);
  if (operation == nullptr || request.size() > kPageSize) return failed("no such request");
  const ReplyRoom room = reply_room(*operation, request);
  std::memcpy(request_.host, request.data(), request.size());

  std::vector<virtio::GuestBuffer> readable{{request_.guest, sizeof in}};
  if (request.size() > sizeof in)
    readable.push_back({guestmem::GuestAddress(request_.guest.get() + sizeof in),
                        static_cast<std::uint32_t>(request.size() - sizeof in)});
  std::vector<virtio::GuestBuffer> writable{{reply_.guest, sizeof(fuse_out_header)}};
  if (room.most != 0)
    writable.push_back({guestmem::GuestAddress(reply_.guest.get() + sizeof(fuse_out_header)),
                        static_cast<std::uint32_t>(room.most)});
  driver::Queue& queue = server_.request_queue(0);
  if (!queue.stage(readable, writable, 0)) return failed("the ring has no room");
  queue.publish();
  if (auto came = await(patience, stop_fd); !came) return failed(came.error());
  const auto used = queue.take();
  if (!used) return failed("the server returned a chain that it did not have");

  fuse_out_header out{};
  std::memcpy(&out, reply_.host, sizeof out);
  if (const auto fault = find_fault(out, used->length, in.unique, room))
    return failed("the reply is broken: " + *fault);
  if (out.error != 0) return failed(to_string(Errno{-out.error}));
  const std::byte* body = reply_.host + sizeof out;
  return std::vector<std::byte>(body, body + (used->length - sizeof out));
}

}  // namespace fusewire::carry
