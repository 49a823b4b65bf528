// File handles of the host (name_to_handle_at(2), open_by_handle_at(2)): they name an inode without keeping a
// descriptor open, and tell it from every other inode that its file system ever had under the same number.
//
// HostHandle is one of them in full, on the stack while it is looked at; StoredHandle is how an Inode keeps
// it. Both are values; the caller synchronises.
#pragma once

#include <fcntl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"

namespace fusewire::passthrough {

class HostHandle {
 public:
  // The handle of the inode behind `fd`. Errors: EOPNOTSUPP when its file system has none; ESTALE...
  static Result<HostHandle> of(int fd);
  // The handle of what the entry `name` of a directory means now; a symbolic link is not followed.
  static Result<HostHandle> at(int directory_fd, const char* name);

  // At most MAX_HANDLE_SZ bytes, and more than none.
  HostHandle(std::uint8_t type, std::span<const std::byte> bytes);

  std::uint8_t type() const { return type_; }  // enum fid_type
  std::span<const std::byte> bytes() const { return std::span(bytes_).first(size_); }
  friend bool operator==(const HostHandle& a, const HostHandle& b);

  // Opens the inode, which lies in the mount of `mount_fd`, with `flags`; O_CLOEXEC is added. The caller must
  // know that it is a regular file or a directory, or pass O_PATH. Errors: ESTALE when the inode is gone;
  // EPERM without CAP_DAC_READ_SEARCH.
  Result<UniqueFd> open(int mount_fd, int flags) const;

 private:
  HostHandle() = default;
  static Result<HostHandle> ask(int fd, const char* name, int flags);

  std::uint8_t type_ = 0;
  std::uint8_t size_ = 0;
  std::array<std::byte, MAX_HANDLE_SZ> bytes_;  // the first size_ of them
};

// Takes 18 bytes, and none besides for the handles of ext4, XFS, tmpfs and F2FS; longer ones, such as those
// of Btrfs (20 bytes), lie on the heap. Wants clear() before its end.
class StoredHandle {
 public:
  bool empty() const { return size_ == 0; }
  // False when memory has run out; nothing is changed then. It must be empty before.
  [[nodiscard]] bool store(const HostHandle& handle);
  // It must not be empty.
  HostHandle load() const { return {type_, bytes()}; }
  bool holds(const HostHandle& handle) const;
  void clear();

 private:
  static constexpr std::size_t kRoom = 16;
  bool on_heap() const { return size_ > kRoom; }
  std::byte* heap() const;
  std::span<const std::byte> bytes() const { return {on_heap() ? heap() : room_.data(), size_}; }

  std::uint8_t type_ = 0;
  std::uint8_t size_ = 0;
  std::array<std::byte, kRoom> room_{};  // the bytes, or the address of an array that we own
};

}  // namespace fusewire::passthrough
