// Expected: how the tool reports what went wrong: in words for its user.
#pragma once

#include <expected>
#include <string>

namespace fusewire::bench {

template <class T>
using Expected = std::expected<T, std::string>;

// For `return failed(text);` in a function that returns an Expected.
inline std::unexpected<std::string> failed(std::string text) { return std::unexpected(std::move(text)); }

}  // namespace fusewire::bench
