// A name of a request as the system calls take it.
#pragma once

#include <string_view>

namespace fusewire::passthrough {

// `name` must be out of a tail or its extensions: those have a NUL right behind them (fuse/tails.h).
inline const char* c_string(std::string_view name) { return name.data(); }

}  // namespace fusewire::passthrough
