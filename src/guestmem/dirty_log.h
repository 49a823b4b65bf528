// DirtyLog: the bitmap, shared with the front-end, in which we mark each guest page that we wrote while the
// VM is being migrated (vhost-user, section "Migration"): bit n stands for the 4 KiB at guest address n *
// 4096.
//
// Held by shared_ptr. Thread-safe: bits are set with atomic operations, for the front-end clears them
// meanwhile.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>

#include "fusewire/unique_fd.h"
#include "guestmem/guest_address.h"
#include "guestmem/memory_map.h"

namespace fusewire::guestmem {

class DirtyLog {
 public:
  static constexpr std::uint64_t kPageSize = 4096;  // VHOST_LOG_PAGE, whatever the host's page size is.

  // Maps `size` bytes of log that begin at `offset` in the file (SET_LOG_BASE). `fd` is only borrowed.
  static std::expected<std::shared_ptr<DirtyLog>, std::string> map(const UniqueFd& fd, std::uint64_t size,
                                                                   std::uint64_t offset);
  ~DirtyLog();
  DirtyLog(const DirtyLog&) = delete;
  DirtyLog& operator=(const DirtyLog&) = delete;

  // Marks the pages of [address, address + length). To be called after the bytes were written: the marking is
  // a full barrier, so that who sees the bit and then reads the page reads those bytes. Pages that the log
  // has no bit for are passed over.
  void mark(GuestAddress address, std::uint64_t length);

  // Marks the first `bytes` bytes of a scatter list that `map` gave out.
  void mark_written(const MemoryMap& map, std::span<const iovec> vectors, std::size_t bytes);

 private:
  DirtyLog(void* mapping, std::size_t mapped_size, std::uint8_t* bits, std::uint64_t size)
      : mapping_(mapping), mapped_size_(mapped_size), bits_(bits), size_(size) {}

  void* const mapping_;
  const std::size_t mapped_size_;
  std::uint8_t* const bits_;
  const std::uint64_t size_;  // Bytes of log: eight pages each.
};

}  // namespace fusewire::guestmem
