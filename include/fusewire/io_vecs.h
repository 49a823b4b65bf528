// IoVecs: a scatter list over an iovec array that somebody else owns (a request slot). Consuming it changes
// that array in place, so that the rest can be given to preadv(2) and its kin without another copy of the
// list.
//
// The memory behind the list may be guest memory, which the guest rewrites at any time: read a byte at most
// once.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>

namespace fusewire {

class IoVecs {
 public:
  IoVecs() = default;
  explicit IoVecs(std::span<iovec> vectors);
  // The same where the sum of the lengths is known already.
  IoVecs(std::span<iovec> vectors, std::size_t size) : vectors_(vectors), size_(size) { drop_empty(); }

  // Bytes in the list.
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // The list as it stands, without empty parts at its front. It may have more parts than the 1024
  // (UIO_MAXIOV) that one system call takes: see head().
  std::span<iovec> vectors() const { return vectors_; }
  // At most UIO_MAXIOV parts of the list's beginning.
  std::span<iovec> head() const {
    return vectors_.first(vectors_.size() < UIO_MAXIOV ? vectors_.size() : UIO_MAXIOV);
  }

  // Removes `size` bytes (at most size()) from the front.
  void drop_front(std::size_t size);
  // Moves the first `to.size()` bytes (at most size()) to `to`.
  void take_front(std::span<std::byte> to);
  // Cuts the list to its first `size` bytes; a longer `size` changes nothing.
  void truncate(std::size_t size);
  // Copies up to `to.size()` bytes from the front without consuming them. Returns the bytes copied.
  std::size_t copy_to(std::span<std::byte> to) const;
  // Copies `from` over the front without consuming it. Returns the bytes copied: min(from.size(), size()).
  std::size_t copy_from(std::span<const std::byte> from) const;

 private:
  void drop_empty() {
    while (!vectors_.empty() && vectors_.front().iov_len == 0) vectors_ = vectors_.subspan(1);
  }
  // Removes `size` bytes, which the first part has.
  void drop_from_first(std::size_t size) {
    iovec& first = vectors_.front();
    first.iov_base = static_cast<std::byte*>(first.iov_base) + size;
    first.iov_len -= size;
    size_ -= size;
    drop_empty();
  }

  std::span<iovec> vectors_;
  std::size_t size_ = 0;
};

}  // namespace fusewire
