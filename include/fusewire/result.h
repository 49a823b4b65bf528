// Errno and Result: how functions of fusewire report failure. Nothing here throws.
#pragma once

#include <cerrno>
#include <expected>
#include <string>

namespace fusewire {

// A Linux error number, positive as in <errno.h>.
struct Errno {
  int value = 0;
  friend bool operator==(Errno, Errno) = default;
};

// The text of strerror(3) for `error`, thread-safe. Without memory for it: "no memory".
std::string to_string(Errno error) noexcept;

template <class T>
using Result = std::expected<T, Errno>;

// For `return fail(EINVAL);` in a function that returns a Result.
inline std::unexpected<Errno> fail(int error) { return std::unexpected(Errno{error}); }
inline std::unexpected<Errno> fail(Errno error) { return std::unexpected(error); }

// For `return fail_errno();` directly after a system call that failed.
inline std::unexpected<Errno> fail_errno() { return std::unexpected(Errno{errno}); }

}  // namespace fusewire
