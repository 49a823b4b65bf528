// A Call is handed on by move: who keeps a reference has nothing to answer with. (A second answer through a
// moved-from reply is what clang-tidy's bugprone-use-after-move finds.)
#include "fusewire/call.h"

void hand_on(fusewire::Call<fusewire::op::Fsync> call);

void serve(fusewire::Call<fusewire::op::Fsync> call) {
#ifdef WRONG
  hand_on(call);
#else
  hand_on(std::move(call));
#endif
}
