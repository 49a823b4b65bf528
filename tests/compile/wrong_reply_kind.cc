// LOOKUP is answered with an entry, not with attributes.
#include "fusewire/call.h"

void serve(fusewire::Call<fusewire::op::Lookup> call) {
#ifdef WRONG
  std::move(call.reply).ok(fuse_attr_out{});
#else
  std::move(call.reply).ok(fuse_entry_out{});
#endif
}
