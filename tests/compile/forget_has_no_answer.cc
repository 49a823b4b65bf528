// FORGET has no answer, not even an error.
#include "fusewire/call.h"

#ifdef WRONG
using Op = fusewire::op::Forget;
#else
using Op = fusewire::op::Getattr;
#endif

void serve(fusewire::Call<Op> call) { std::move(call.reply).error(ENOENT); }
