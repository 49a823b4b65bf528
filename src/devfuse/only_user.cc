#include "devfuse/only_user.h"

#include <cerrno>
#include <span>

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

bool refuse_others(Slot& slot, uid_t owner) {
  fuse_in_header in;
  if (slot.request.copy_to(std::as_writable_bytes(std::span(&in, 1))) != sizeof in || !is_refused(in, owner))
    return false;
  slot.done(RequestId{in.unique}, EACCES, 0);
  return true;
}

}  // namespace fusewire::devfuse
