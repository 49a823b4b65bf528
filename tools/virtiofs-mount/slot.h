// Slot: guest memory for one request and its reply, laid out so that /dev/fuse is read straight into it and
// written straight out of it, and that data lies in whole pages as it does in a guest's page cache.
//
//   page 0       ... fuse_in_header, fuse_write_in: its last 80 bytes
//   page 1 ...   what follows: the data of a WRITE begins with the page
//   later        fuse_out_header: the last 16 bytes before a page; the body begins with that page
//
// A request is contiguous, and so is a reply: one system call each. Used by the thread of its queue alone;
// between stage and take the server writes into it at any time, so that whatever matters is copied out
// before.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "guestmem/shared_memory.h"
#include "virtio/driver_queue.h"
#include "virtiofs-mount/operations.h"

namespace fusewire::carry {

class Slot {
 public:
  // The guest memory that a slot for requests and replies of `pages` data pages needs; page-aligned.
  static std::size_t memory_size(std::uint32_t pages);

  Slot(guestmem::SharedMemory::Piece memory, std::uint32_t pages) : memory_(memory), pages_(pages) {}

  // Room for the next request: 80 bytes and the data pages.
  std::span<std::byte> request_room() const;

  // Takes a request of `size` bytes that now stands in request_room(), one of `operation`: copies the header,
  // and makes the room for the reply. False: it is malformed, or there is no room for its reply.
  [[nodiscard]] bool begin(std::size_t size, const Operation& operation);

  const fuse_in_header& header() const { return header_; }
  const Operation& operation() const { return *operation_; }
  const ReplyRoom& room() const { return room_; }
  std::span<const std::byte> request() const { return request_room().first(size_); }
  // The first bytes of the reply, as far as the server has got.
  fuse_out_header reply_header() const;
  std::span<std::byte> reply_body() const;

  // Appends the request as Linux cuts it: the header, the arguments with names, and data page by page.
  void append_readable(std::vector<virtio::GuestBuffer>& buffers) const;
  // Likewise the room for the reply: the header, and the body, in pages where it has them. Nothing, if there
  // is no reply.
  void append_writable(std::vector<virtio::GuestBuffer>& buffers) const;

  // When the request was read; for those who look at the traffic.
  std::chrono::steady_clock::time_point began;

 private:
  guestmem::SharedMemory::Piece piece(std::size_t offset, std::size_t size) const;

  guestmem::SharedMemory::Piece memory_;
  std::uint32_t pages_;
  fuse_in_header header_{};
  const Operation* operation_ = nullptr;
  ReplyRoom room_;
  std::size_t size_ = 0;
  std::size_t body_offset_ = 0;
};

}  // namespace fusewire::carry
