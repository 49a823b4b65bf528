#include "passthrough/host_handle.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <thread>

#include "base/check.h"

namespace fusewire::passthrough {
namespace {

// struct file_handle with room for every handle.
class KernelHandle {
 public:
  // SAFETY: the storage is aligned for a struct file_handle and begins with its members.
  struct file_handle* get() { return reinterpret_cast<struct file_handle*>(storage_); }
  std::byte* bytes() { return storage_ + sizeof(struct file_handle); }

 private:
  alignas(struct file_handle) std::byte storage_[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

}  // namespace

HostHandle::HostHandle(std::uint8_t type, std::span<const std::byte> bytes)
    : type_(type), size_(static_cast<std::uint8_t>(bytes.size())) {
  FUSEWIRE_CHECK(!bytes.empty() && bytes.size() <= bytes_.size());
  std::ranges::copy(bytes, bytes_.begin());
}

Result<HostHandle> HostHandle::ask(int fd, const char* name, int flags) {
  KernelHandle kernel;
  kernel.get()->handle_bytes = MAX_HANDLE_SZ;
  int mount_id = 0;  // the caller has it from statx
  if (::name_to_handle_at(fd, name, kernel.get(), &mount_id, flags) != 0) return fail_errno();
  const unsigned size = kernel.get()->handle_bytes;
  const int type = kernel.get()->handle_type;
  // Types are a byte on every file system (enum fid_type); above it the kernel has flags that nobody asked
  // for here.
  if (size == 0 || size > MAX_HANDLE_SZ || type < 0 || type > std::numeric_limits<std::uint8_t>::max())
    return fail(EOPNOTSUPP);
  return HostHandle(static_cast<std::uint8_t>(type), {kernel.bytes(), size});
}

Result<HostHandle> HostHandle::of(int fd) { return ask(fd, "", AT_EMPTY_PATH); }

Result<HostHandle> HostHandle::at(int directory_fd, const char* name) { return ask(directory_fd, name, 0); }

bool operator==(const HostHandle& a, const HostHandle& b) {
  return a.type_ == b.type_ && std::ranges::equal(a.bytes(), b.bytes());
}

Result<UniqueFd> HostHandle::open(int mount_fd, int flags) const {
  KernelHandle kernel;
  kernel.get()->handle_bytes = size_;
  kernel.get()->handle_type = type_;
  std::memcpy(kernel.bytes(), bytes_.data(), size_);
  // ext4 says ENOMEM while it makes a new inode under the number of one that is gone, and ESTALE the moment
  // after; a guest tries again for ESTALE only.
  constexpr int kMostAttempts = 10;
  for (int attempt = 1;; ++attempt) {
    UniqueFd opened(::open_by_handle_at(mount_fd, kernel.get(), flags | O_CLOEXEC));
    if (opened) return opened;
    if (errno != ENOMEM || attempt == kMostAttempts) return fail_errno();
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

std::byte* StoredHandle::heap() const {
  static_assert(sizeof(std::byte*) <= kRoom);
  std::byte* address = nullptr;
  std::memcpy(&address, room_.data(), sizeof(address));
  return address;
}

bool StoredHandle::store(const HostHandle& handle) {
  FUSEWIRE_CHECK(empty());
  const auto bytes = handle.bytes();
  if (bytes.size() > kRoom) {
    std::unique_ptr<std::byte[]> memory(new (std::nothrow) std::byte[bytes.size()]);
    if (!memory) return false;
    std::ranges::copy(bytes, memory.get());
    std::byte* const address = memory.release();
    std::memcpy(room_.data(), &address, sizeof(address));
  } else {
    std::ranges::copy(bytes, room_.begin());
  }
  type_ = handle.type();
  size_ = static_cast<std::uint8_t>(bytes.size());
  return true;
}

bool StoredHandle::holds(const HostHandle& handle) const {
  return type_ == handle.type() && std::ranges::equal(bytes(), handle.bytes());
}

void StoredHandle::clear() {
  if (on_heap()) const std::unique_ptr<std::byte[]> freed(heap());
  size_ = 0;
}

}  // namespace fusewire::passthrough
