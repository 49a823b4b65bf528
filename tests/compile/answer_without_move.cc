// Answering consumes the reply, and says so.
#include "fusewire/call.h"

void serve(fusewire::Call<fusewire::op::Unlink> call) {
#ifdef WRONG
  call.reply.ok();
#else
  std::move(call.reply).ok();
#endif
}
