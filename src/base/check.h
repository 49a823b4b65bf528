// CHECK(condition): aborts with file, line and condition when our own logic is broken. Never for what a peer
// sent.
#pragma once

namespace fusewire {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace fusewire

#define FUSEWIRE_CHECK(condition)                               \
  do {                                                          \
    if (!(condition)) [[unlikely]]                              \
      ::fusewire::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)
