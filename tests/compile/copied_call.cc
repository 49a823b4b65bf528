// There is one reply to a request, so a reply cannot be copied.
#include <optional>

#include "fusewire/call.h"

std::optional<fusewire::ReplyEmpty> kept;

void serve(fusewire::Call<fusewire::op::Flush> call) {
#ifdef WRONG
  kept.emplace(call.reply);
#else
  kept.emplace(std::move(call.reply));
#endif
}
