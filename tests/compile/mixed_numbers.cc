// A node id is not a file handle, though both are 64 bits wide.
#include "fusewire/call.h"

void close(fusewire::FileHandle handle);

void serve(fusewire::Call<fusewire::op::Release> call) {
#ifdef WRONG
  close(call.header.node);
#else
  close(fusewire::FileHandle{call.in.fh});
#endif
}
