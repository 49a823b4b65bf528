#include "guestmem/shared_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "base/check.h"

namespace fusewire::guestmem {

Result<SharedMemory> SharedMemory::create(GuestAddress guest, std::size_t size) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  if (size == 0 || size > SIZE_MAX - page || guest.get() % page != 0) return fail(EINVAL);
  SharedMemory memory;
  memory.guest_ = guest;
  memory.fd_.reset(memfd_create("fusewire-guest", MFD_CLOEXEC));
  if (!memory.fd_) return fail_errno();
  size = (size + page - 1) & ~(page - 1);
  if (ftruncate(memory.fd_.get(), static_cast<off_t>(size)) != 0) return fail_errno();
  void* mapping =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory.fd_.get(), 0);
  if (mapping == MAP_FAILED) return fail_errno();
  memory.host_ = static_cast<std::byte*>(mapping);
  memory.size_ = size;
  return memory;
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : fd_(std::move(other.fd_)),
      guest_(other.guest_),
      host_(std::exchange(other.host_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      used_(std::exchange(other.used_, 0)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(guest_, other.guest_);
  std::swap(host_, other.host_);
  std::swap(size_, other.size_);
  std::swap(used_, other.used_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (host_ != nullptr) munmap(host_, size_);
}

RegionDescription SharedMemory::description() const {
  // SAFETY: our address of the memory, as a number that the back-end gives back in no form but translated.
  return {guest_, size_, reinterpret_cast<std::uintptr_t>(host_), 0};
}

std::optional<SharedMemory::Piece> SharedMemory::allocate(std::size_t size, std::size_t alignment) {
  FUSEWIRE_CHECK(alignment != 0 && (alignment & (alignment - 1)) == 0);
  const std::size_t padding = (alignment - used_ % alignment) % alignment;
  if (padding > size_ - used_ || size > size_ - used_ - padding) return std::nullopt;
  const std::size_t begin = used_ + padding;
  used_ = begin + size;
  return Piece{GuestAddress(guest_.get() + begin), host_ + begin, size};
}

std::byte* SharedMemory::host(GuestAddress address) const {
  FUSEWIRE_CHECK(address.get() >= guest_.get() && address.get() - guest_.get() < size_);
  return host_ + (address.get() - guest_.get());
}

GuestAddress SharedMemory::guest(const void* host) const {
  const auto* byte = static_cast<const std::byte*>(host);
  FUSEWIRE_CHECK(byte >= host_ && byte < host_ + size_);
  return GuestAddress(guest_.get() + static_cast<std::uint64_t>(byte - host_));
}

}  // namespace fusewire::guestmem
