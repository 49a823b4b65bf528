// A name of a request as system calls and C programs take it.
#pragma once

#include <string_view>

namespace fusewire {

// `name` must be out of a tail or its extensions: those have a NUL right behind them (tails.h).
inline const char* c_string(std::string_view name) { return name.data(); }

}  // namespace fusewire
