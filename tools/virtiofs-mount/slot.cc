#include "virtiofs-mount/slot.h"

#include <cstring>

#include "driver/queue.h"

namespace fusewire::carry {
namespace {

constexpr std::size_t kPageSize = 4096;
constexpr std::size_t kHead = sizeof(fuse_in_header) + sizeof(fuse_write_in);
constexpr std::size_t kRequest = kPageSize - kHead;  // where a request begins
// Beyond the data: page 0, the page that ends with fuse_out_header, and what an IOCTL may have on both sides
// (16 KiB, _IOC_SIZEBITS) or a request have in front of its reply's pages (a 64 KiB xattr never meets a large
// reply).
constexpr std::size_t kMorePages = 8;

}  // namespace

std::size_t Slot::memory_size(std::uint32_t pages) { return (pages + kMorePages) * kPageSize; }

std::span<std::byte> Slot::request_room() const {
  return {memory_.host + kRequest, kHead + pages_ * kPageSize};
}

bool Slot::begin(std::size_t size, const Operation& operation) {
  operation_ = &operation;
  size_ = size;
  if (size < sizeof header_) return false;
  std::memcpy(&header_, memory_.host + kRequest, sizeof header_);
  if (header_.len != size) return false;
  room_ = reply_room(operation, request());
  // The first page that has fuse_out_header's size of free bytes in front of it.
  const std::size_t end = kRequest + size + sizeof(fuse_out_header);
  body_offset_ = (end + kPageSize - 1) / kPageSize * kPageSize;
  return room_.most <= memory_.size - body_offset_;
}

guestmem::SharedMemory::Piece Slot::piece(std::size_t offset, std::size_t size) const {
  return {guestmem::GuestAddress(memory_.guest.get() + offset), memory_.host + offset, size};
}

fuse_out_header Slot::reply_header() const {
  fuse_out_header header;
  std::memcpy(&header, memory_.host + body_offset_ - sizeof header, sizeof header);
  return header;
}

std::span<std::byte> Slot::reply_body() const { return {memory_.host + body_offset_, room_.most}; }

void Slot::append_readable(std::vector<virtio::GuestBuffer>& buffers) const {
  const auto append = [&](std::size_t from, std::size_t to) {
    if (to > from)
      buffers.push_back({piece(kRequest + from, 0).guest, static_cast<std::uint32_t>(to - from)});
  };
  append(0, sizeof header_);
  const std::size_t args_end = sizeof header_ + operation_->args_size;
  if (!operation_->payload || args_end >= size_) return append(sizeof header_, size_);
  append(sizeof header_, args_end);
  driver::append_pages(piece(kRequest + args_end, size_ - args_end), buffers);
}

void Slot::append_writable(std::vector<virtio::GuestBuffer>& buffers) const {
  if (operation_->body == Body::none) return;
  buffers.push_back({piece(body_offset_ - sizeof(fuse_out_header), 0).guest, sizeof(fuse_out_header)});
  if (room_.most == 0) return;
  if (operation_->paged_reply) {
    driver::append_pages(piece(body_offset_, room_.most), buffers);
  } else {
    buffers.push_back({piece(body_offset_, 0).guest, static_cast<std::uint32_t>(room_.most)});
  }
}

}  // namespace fusewire::carry
