#include "fuse/slot.h"

#include <cstring>

namespace fusewire {

void Slot::begin(Session& session) {
  session_ = &session;
  unique_ = RequestId{};
  opcode_ = 0;
  interrupted_.store(false, std::memory_order_relaxed);  // SAFETY: nobody else knows the request yet
  head_data_ = inline_head_.data();
  head_size_ = 0;
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
