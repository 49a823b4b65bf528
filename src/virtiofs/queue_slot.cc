#include "virtiofs/queue_slot.h"

#include <algorithm>

#include "fusewire/bytes.h"
#include "virtiofs/queue_worker.h"

namespace fusewire::virtiofs {

void QueueSlot::prepare(const std::shared_ptr<const guestmem::MemoryMap>& map) {
  // Comparing first saves the reference count's two atomic operations: the slot usually holds this map
  // already.
  if (map_ != map) map_ = map;
  used_length_ = 0;
  request = IoVecs(chain_.readable, chain_.readable_size);
  can_reply = chain_.writable_size >= sizeof(fuse_out_header);
  if (!can_reply) {
    reply_room = IoVecs();
    return;
  }
  reply_vectors_.assign(chain_.writable.begin(), chain_.writable.end());
  reply_room = IoVecs(reply_vectors_, chain_.writable_size);
  reply_room.drop_front(sizeof(fuse_out_header));
}

void QueueSlot::prefetch() const {
  if (!chain_.readable.empty()) __builtin_prefetch(chain_.readable.front().iov_base, 0);
  constexpr std::size_t kWritten = 2;  // the out header, and a fixed body
  for (std::size_t i = 0; i < std::min(kWritten, chain_.writable.size()); ++i)
    __builtin_prefetch(chain_.writable[i].iov_base, 1);
}

void QueueSlot::release_excess() {
  // More than the pages of a request of Linux.
  constexpr std::size_t kKeptRanges = 512;
  for (std::vector<iovec>* ranges : {&chain_.readable, &chain_.writable, &reply_vectors_})
    if (ranges->capacity() > kKeptRanges) *ranges = std::vector<iovec>();  // "= {}" keeps the capacity
  release_large_head();
}

void QueueSlot::write_header(RequestId unique, int error, std::size_t body_size) {
  const std::size_t total = sizeof(fuse_out_header) + body_size;
  const fuse_out_header header{
      .len = static_cast<std::uint32_t>(total), .error = -error, .unique = unique.get()};
  auto rest = bytes_of(header);
  for (const iovec& range : chain_.writable) {
    const std::size_t n = std::min(range.iov_len, rest.size());
    if (n != 0) std::memcpy(range.iov_base, rest.data(), n);
    rest = rest.subspan(n);
    if (rest.empty()) break;
  }
  used_length_ = static_cast<std::uint32_t>(total);
}

int QueueSlot::done(RequestId unique, int error, std::size_t body_size) {
  write_header(unique, error, body_size);
  worker_.complete(*this);
  return 0;
}

void QueueSlot::done_without_reply() {
  used_length_ = 0;
  worker_.complete(*this);
}

bool QueueSlot::end_given_up() {
  if (lent()) return false;
  if (can_reply) write_header(unique(), EIO, 0);
  return true;
}

void QueueSlot::let_go() {
  if (let_go_.exchange(true)) delete this;
}

}  // namespace fusewire::virtiofs
