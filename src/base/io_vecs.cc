#include "base/io_vecs.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace fusewire {

IoVecs::IoVecs(std::span<iovec> vectors) : vectors_(vectors) {
  for (const iovec& v : vectors_) size_ += v.iov_len;
  drop_front(0);
}

void IoVecs::drop_front(std::size_t size) {
  FUSEWIRE_CHECK(size <= size_);
  size_ -= size;
  while (!vectors_.empty() && vectors_.front().iov_len <= size) {
    size -= vectors_.front().iov_len;
    vectors_ = vectors_.subspan(1);
  }
  if (size != 0) {
    iovec& front = vectors_.front();
    front.iov_base = static_cast<std::byte*>(front.iov_base) + size;
    front.iov_len -= size;
  }
}

void IoVecs::truncate(std::size_t size) {
  if (size >= size_) return;
  size_ = size;
  std::size_t parts = 0;
  while (size != 0) {
    iovec& v = vectors_[parts++];
    v.iov_len = std::min(v.iov_len, size);
    size -= v.iov_len;
  }
  vectors_ = vectors_.first(parts);
}

std::size_t IoVecs::copy_to(std::span<std::byte> to) const {
  std::size_t copied = 0;
  for (const iovec& v : vectors_) {
    const std::size_t n = std::min(v.iov_len, to.size() - copied);
    if (n == 0 && copied == to.size()) break;
    if (n != 0) std::memcpy(to.data() + copied, v.iov_base, n);
    copied += n;
  }
  return copied;
}

std::size_t IoVecs::copy_from(std::span<const std::byte> from) const {
  std::size_t copied = 0;
  for (const iovec& v : vectors_) {
    const std::size_t n = std::min(v.iov_len, from.size() - copied);
    if (n == 0 && copied == from.size()) break;
    if (n != 0) std::memcpy(v.iov_base, from.data() + copied, n);
    copied += n;
  }
  return copied;
}

}  // namespace fusewire
