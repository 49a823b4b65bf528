#include "devfuse/uring_entry.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "devfuse/uring_queue.h"
#include "fusewire/bytes.h"

namespace fusewire::devfuse {

UringEntry::UringEntry(UringQueue& home, unsigned index, std::size_t payload_room)
    : home_(home), index_(index) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  // The payload begins on a page, as O_DIRECT wants it. What is never touched costs no memory.
  mapping_size_ = page + payload_room;
  void* mapping = mmap(nullptr, mapping_size_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<std::byte*>(mapping);
  headers_ = new (mapping_) UringHeaders{};
  memory_ = {iovec{mapping_, sizeof(UringHeaders)}, iovec{mapping_ + page, payload_room}};
}

UringEntry::~UringEntry() { munmap(mapping_, mapping_size_); }

void UringEntry::accept() {
  // Only now: a callback may look at its request's names after the answer.
  release_large_head();
  ioctl_data_ = std::vector<std::byte>();  // "= {}" would keep the capacity
  fuse_in_header in;
  std::memcpy(&in, headers_->in_out.data(), sizeof in);
  unique_ = in.unique;
  const std::size_t payload = std::min<std::size_t>(headers_->state.payload_size, memory_[1].iov_len);
  // The header's length counts all three parts.
  const std::size_t others = sizeof in + payload;
  const std::size_t operation =
      std::min(in.len > others ? in.len - others : std::size_t{0}, headers_->operation.size());
  request_vector_ = {iovec{headers_->in_out.data(), sizeof in}, iovec{headers_->operation.data(), operation},
                     iovec{memory_[1].iov_base, payload}};
  if (in.opcode == FUSE_IOCTL && payload != 0) {
    const auto* data = static_cast<const std::byte*>(memory_[1].iov_base);
    ioctl_data_.assign(data, data + payload);
    request_vector_[2].iov_base = ioctl_data_.data();
  }
  reply_vector_ = {memory_[1]};
  request = IoVecs(request_vector_);
  reply_room = IoVecs(reply_vector_);
  can_reply = true;
}

int UringEntry::done(RequestId unique, int error, std::size_t body_size) {
  fuse_out_header out{};
  out.unique = unique.get();
  out.error = -error;
  out.len = static_cast<std::uint32_t>(sizeof out + body_size);
  std::memcpy(headers_->in_out.data(), &out, sizeof out);
  headers_->state.payload_size = static_cast<std::uint32_t>(body_size);
  home_.answer(*this);
  return 0;
}

// The kernel wants each entry back: the answer to what has none is empty.
void UringEntry::done_without_reply() { done(RequestId{unique_}, 0, 0); }

}  // namespace fusewire::devfuse
