// SharedMemory: the driver's side of guest memory, for tests and for the tools that speak to a daemon without
// a VM. A memfd that plays one region of a guest, with a bump allocator for rings, requests and replies.
//
// Not thread-safe, except that any thread may use the bytes it was given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "guestmem/memory_map.h"

namespace fusewire::guestmem {

class SharedMemory {
 public:
  // A piece of the arena, by both its names.
  struct Piece {
    GuestAddress guest;
    std::byte* host = nullptr;
    std::size_t size = 0;
  };

  // `size` bytes of zeros (rounded up to whole pages) that the guest sees at `guest`, which must be
  // page-aligned.
  static Result<SharedMemory> create(GuestAddress guest, std::size_t size);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  const UniqueFd& fd() const { return fd_; }
  std::size_t size() const { return size_; }
  // What SET_MEM_TABLE and ADD_MEM_REG say of this memory. Its user address is our own pointer to it.
  RegionDescription description() const;

  // The next `size` free bytes, aligned to `alignment` (a power of two, at most a page) in the guest as in
  // the host; nullopt when the arena is full. They are zero unless clear() gave them out a second time.
  std::optional<Piece> allocate(std::size_t size, std::size_t alignment = 16);
  // Takes back everything at once. What the pieces pointed to stays mapped.
  void clear() { used_ = 0; }
  std::size_t used() const { return used_; }

  // Between the two names of a byte of this memory; CHECKs that it is one.
  std::byte* host(GuestAddress address) const;
  GuestAddress guest(const void* host) const;

 private:
  SharedMemory() = default;

  UniqueFd fd_;
  GuestAddress guest_;
  std::byte* host_ = nullptr;
  std::size_t size_ = 0;
  std::size_t used_ = 0;
};

}  // namespace fusewire::guestmem
