#include "devfuse/only_user.h"

namespace fusewire::devfuse {

bool is_refused(const fuse_in_header& request, uid_t owner) {
  if (request.uid == owner || request.uid == 0) return false;
  switch (request.opcode) {
    case FUSE_INIT:
    case FUSE_DESTROY:
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
    case FUSE_NOTIFY_REPLY:
    case FUSE_READ:
    case FUSE_WRITE:
    case FUSE_FLUSH:
    case FUSE_FSYNC:
    case FUSE_RELEASE:
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
    case FUSE_FSYNCDIR:
    case FUSE_RELEASEDIR:
      return false;
    default:
      return true;
  }
}

}  // namespace fusewire::devfuse
