// UniqueFd: the owner of one file descriptor. Outside system call wrappers every descriptor in fusewire lives
// in one.
#pragma once

#include <unistd.h>

#include <utility>

namespace fusewire {

class UniqueFd {
 public:
  UniqueFd() = default;
  // Takes ownership of `fd`; a negative number means "none".
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  // The descriptor, still owned by this object; -1 when there is none.
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

  // Gives the descriptor up to the caller.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

  // Closes what is owned and owns `fd` instead. close(2) errors are not reported: on Linux the descriptor is
  // gone whatever close says, and data errors are reported by fsync and flush.
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace fusewire
