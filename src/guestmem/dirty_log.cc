#include "guestmem/dirty_log.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <limits>

#include "guestmem/file_mapping.h"

namespace fusewire::guestmem {

std::expected<std::shared_ptr<DirtyLog>, std::string> DirtyLog::map(const UniqueFd& fd, std::uint64_t size,
                                                                    std::uint64_t offset) {
  const auto mapping = map_file(fd, offset, size);
  if (!mapping) return std::unexpected("dirty log: " + mapping.error());
  // SAFETY: the log is an array of bytes that its file covers, and it is accessed only as atomic bytes.
  auto* bits = reinterpret_cast<std::uint8_t*>(mapping->data);
  return std::shared_ptr<DirtyLog>(new DirtyLog(mapping->mapping, mapping->mapped_size, bits, size));
}

DirtyLog::~DirtyLog() { munmap(mapping_, mapped_size_); }

void DirtyLog::mark(GuestAddress address, std::uint64_t length) {
  if (length == 0) return;
  const std::uint64_t begin = address.get();
  const std::uint64_t last = length - 1 > std::numeric_limits<std::uint64_t>::max() - begin
                                 ? std::numeric_limits<std::uint64_t>::max()
                                 : begin + (length - 1);
  std::uint64_t page = begin / kPageSize;
  const std::uint64_t last_page = last / kPageSize;
  while (page <= last_page) {
    const std::uint64_t index = page / 8;
    if (index >= size_) return;
    // The bits of all wanted pages in this byte at once.
    const std::uint64_t first_bit = page % 8;
    const std::uint64_t last_bit = std::min<std::uint64_t>(7, first_bit + (last_page - page));
    const auto mask = static_cast<std::uint8_t>((0xffu << first_bit) & (0xffu >> (7 - last_bit)));
    // Always a read-modify-write, even where the bit is set already: the front-end may be about to clear it,
    // and would then copy the page without the bytes that we wrote before this, were we to skip the barrier.
    std::atomic_ref(bits_[index]).fetch_or(mask, std::memory_order_seq_cst);
    page += last_bit - first_bit + 1;
  }
}

void DirtyLog::mark_written(const MemoryMap& map, std::span<const iovec> vectors, std::size_t bytes) {
  for (const iovec& vector : vectors) {
    if (bytes == 0) return;
    const std::size_t here = std::min(bytes, vector.iov_len);
    if (const auto address = map.guest_address(vector.iov_base)) mark(*address, here);
    bytes -= here;
  }
}

}  // namespace fusewire::guestmem
