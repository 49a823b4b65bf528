#include "fusewire/slot.h"

#include <sys/uio.h>

#include <cerrno>
#include <cstring>

namespace fusewire {

void Slot::begin(Engine& engine) {
  engine_ = &engine;
  unclaim();
  unique_ = RequestId{};
  opcode_ = 0;
  lent_ = false;
  interrupted_.store(false, std::memory_order_relaxed);  // SAFETY: nobody else knows the request yet
  head_data_ = inline_head_.data();
  head_size_ = 0;
}

int Slot::done_with(RequestId unique, std::span<const iovec> body) {
  IoVecs room = reply_room;
  std::size_t size = 0;
  for (const iovec& part : body) {
    if (part.iov_len > room.size()) return done(unique, EIO, 0);
    room.copy_from({static_cast<const std::byte*>(part.iov_base), part.iov_len});
    room.drop_front(part.iov_len);
    size += part.iov_len;
  }
  return done(unique, 0, size);
}

int Slot::done_with_file(RequestId unique, const FileRange& range) {
  return done_with_rest(unique, range, 0);
}

int Slot::done_with_rest(RequestId unique, const FileRange& range, std::size_t size) {
  IoVecs room = reply_room;
  if (range.size > room.size()) return done(unique, EIO, 0);
  room.truncate(range.size);
  room.drop_front(size);
  while (!room.empty()) {
    const auto parts = room.head();
    const ssize_t n = range.offset < 0 ? readv(range.fd, parts.data(), static_cast<int>(parts.size()))
                                       : preadv(range.fd, parts.data(), static_cast<int>(parts.size()),
                                                range.offset + static_cast<std::int64_t>(size));
    if (n < 0 && errno == EINTR) continue;
    // A short reply would say that the file ends there.
    if (n < 0 && (size == 0 || range.offset >= 0)) return done(unique, errno, 0);
    if (n <= 0) break;
    size += static_cast<std::size_t>(n);
    room.drop_front(static_cast<std::size_t>(n));
  }
  return done(unique, 0, size);
}

void Slot::release_large_head() {
  head_data_ = inline_head_.data();
  head_size_ = 0;
  large_head_ = std::vector<std::byte>();  // "= {}" would keep the capacity
}

bool Slot::fetch_head(std::size_t size) {
  if (size <= head_size_) return true;
  const std::size_t more = size - head_size_;
  if (size > kMaxHead || more > request.size()) return false;
  if (size > kInlineHead && head_data_ == inline_head_.data()) {
    if (large_head_.size() < size) large_head_.resize(size);
    std::memcpy(large_head_.data(), inline_head_.data(), head_size_);
    head_data_ = large_head_.data();
  } else if (size > kInlineHead && large_head_.size() < size) {
    large_head_.resize(size);
    head_data_ = large_head_.data();
  }
  request.take_front({head_data_ + head_size_, more});
  head_size_ = size;
  return true;
}

}  // namespace fusewire
