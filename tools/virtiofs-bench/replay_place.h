// ReplayPlace: where one recorded request lies in guest memory while the server has it. Like a Slot, but for
// requests of any operation, as bytes.
//
//   first page | fuse_out_header 0
//   request    | whole pages: header and arguments, the data of a WRITE from a page's beginning
//   reply      | whole pages
#pragma once

#include <span>
#include <vector>

#include "driver/queue.h"
#include "fusewire/wire.h"
#include "recording/record.h"
#include "virtiofs-bench/loop.h"

namespace fusewire::bench {

class ReplayPlace {
 public:
  // The memory of a place for such requests.
  static std::size_t size(std::size_t request_bytes, std::size_t reply_bytes);
  // `memory`: page-aligned, size() bytes.
  ReplayPlace(guestmem::SharedMemory::Piece memory, std::size_t request_bytes);

  // Writes the request and stages it, under its own number; false when the ring is full. Its first bytes are
  // `bytes`; the rest (a WRITE's data) is what lies there.
  bool stage(driver::Queue& queue, const recording::Request& request, std::span<const std::byte> bytes,
             std::uint64_t cookie);
  // Looks at the form of a reply of which the device says that it wrote `used_length` bytes.
  Expected<void> check(std::uint32_t used_length);
  int error() const { return error_; }
  std::span<const std::byte> body() const { return {reply(), body_size_}; }

  const recording::Request& request() const { return *request_; }
  std::uint32_t opcode() const { return header_.opcode; }
  Clock::time_point sent{};

 private:
  std::byte* reply() const { return memory_.host + kPageSize + request_room_; }
  virtio::GuestBuffer buffer(std::size_t offset, std::size_t length) const;
  void append_pages(std::size_t offset, std::size_t length, std::vector<virtio::GuestBuffer>& buffers) const;

  guestmem::SharedMemory::Piece memory_;
  std::size_t request_room_;
  std::vector<virtio::GuestBuffer> readable_, writable_;
  const recording::Request* request_ = nullptr;
  fuse_in_header header_{};
  int error_ = 0;
  std::size_t body_size_ = 0;
};

// Whether the server sends no reply to requests of this kind.
bool has_no_reply(std::uint32_t opcode);

}  // namespace fusewire::bench
