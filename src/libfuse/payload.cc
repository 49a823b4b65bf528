// What later versions added around a request: backing files, and answers written in place.

#include <sys/ioctl.h>

#include <cerrno>

#include "libfuse/request.h"
#include "libfuse/session.h"

using namespace fusewire;
using namespace fusewire::libfuse;

namespace {

// struct fuse_backing_map and its commands (protocol 7.40).
struct BackingMap {
  std::int32_t fd;
  std::uint32_t flags;
  std::uint64_t padding;
};
static_assert(sizeof(BackingMap) == 16);
constexpr unsigned long kBackingOpen = _IOW(FUSE_DEV_IOC_MAGIC, 1, BackingMap);
constexpr unsigned long kBackingClose = _IOW(FUSE_DEV_IOC_MAGIC, 2, std::uint32_t);

}  // namespace

extern "C" {

int fuse_passthrough_open(fuse_req_t req, int fd) {
  BackingMap map{.fd = fd, .flags = 0, .padding = 0};
  const int id = req->session.device ? ioctl(req->session.channel.fd(), kBackingOpen, &map) : -1;
  if (id > 0) return id;
  fuse_log(FUSE_LOG_ERR, "fuse: the kernel does not take the backing file\n");
  return 0;
}

int fuse_passthrough_close(fuse_req_t req, int backing_id) {
  if (!req->session.device) {
    errno = ENOTCONN;
    return -1;
  }
  const auto id = static_cast<std::uint32_t>(backing_id);
  return ioctl(req->session.channel.fd(), kBackingClose, &id) < 0 ? -1 : 0;
}

bool fuse_req_is_uring(fuse_req_t req) { return req->session.serves_guest(); }

int fuse_req_get_payload(fuse_req_t req, char** payload, size_t* payload_sz, void** mr) {
  const auto room = req->reply_room();
  if (!room || room->vectors().size() != 1) return -EINVAL;
  *payload = static_cast<char*>(room->vectors().front().iov_base);
  *payload_sz = room->size();
  if (mr != nullptr) *mr = nullptr;
  return 0;
}

}  // extern "C"
