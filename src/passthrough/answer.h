// answer(): ends a call with a Result. The one place that makes errors of the host fit for the guest.
#pragma once

#include <type_traits>
#include <utility>

#include "fusewire/result.h"

namespace fusewire::passthrough {

// "Too many open files" is the daemon's limit, not that of the guest's process.
inline Errno for_guest(Errno error) { return error.value == EMFILE ? Errno{ENFILE} : error; }

// Sends result's value, or its error. `call` is used up.
template <class Call, class Out>
void answer(Call& call, const Result<Out>& result) {
  if (!result) {
    std::move(call.reply).error(for_guest(result.error()));
  } else if constexpr (std::is_void_v<Out>) {
    std::move(call.reply).ok();
  } else {
    std::move(call.reply).ok(*result);
  }
}

}  // namespace fusewire::passthrough
