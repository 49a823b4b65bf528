#include "fusewire/io_vecs.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace fusewire {

IoVecs::IoVecs(std::span<iovec> vectors) : vectors_(vectors) {
  for (const iovec& v : vectors_) size_ += v.iov_len;
  drop_empty();
}

void IoVecs::drop_front(std::size_t size) {
  FUSEWIRE_CHECK(size <= size_);
  while (size != 0) {
    const std::size_t here = std::min(size, vectors_.front().iov_len);
    drop_from_first(here);
    size -= here;
  }
}

void IoVecs::take_front(std::span<std::byte> to) {
  FUSEWIRE_CHECK(to.size() <= size_);
  while (!to.empty()) {
    const std::size_t here = std::min(to.size(), vectors_.front().iov_len);
    std::memcpy(to.data(), vectors_.front().iov_base, here);
    drop_from_first(here);
    to = to.subspan(here);
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
