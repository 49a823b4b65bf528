// What later versions added around a request: backing files, and answers written in place.

#include <cerrno>

#include "libfuse/request.h"
#include "libfuse/session.h"

using namespace fusewire;
using namespace fusewire::libfuse;

extern "C" {

int fuse_passthrough_open(fuse_req_t req, int fd) {
  auto& channel = req->session.backing_files;
  const auto id = channel ? channel->open(fd) : fail(EOPNOTSUPP);
  if (id) return static_cast<int>(*id);
  fuse_log(FUSE_LOG_ERR, "fuse: the kernel does not take the backing file: %s\n",
           to_string(id.error()).c_str());
  return 0;
}

int fuse_passthrough_close(fuse_req_t req, int backing_id) {
  auto& channel = req->session.backing_files;
  const auto closed = channel ? channel->close(static_cast<std::uint32_t>(backing_id)) : fail(ENOTCONN);
  if (closed) return 0;
  errno = closed.error().value;
  return -1;
}

bool fuse_req_is_uring(fuse_req_t req) {
  const fuse_session& session = req->session;
  return session.serves_guest() || session.engine->over_io_uring();
}

int fuse_req_get_payload(fuse_req_t req, char** payload, size_t* payload_sz, void** mr) {
  const auto room = req->reply_room();
  if (!room || room->vectors().size() != 1) return -EINVAL;
  *payload = static_cast<char*>(room->vectors().front().iov_base);
  *payload_sz = room->size();
  if (mr != nullptr) *mr = nullptr;
  return 0;
}

}  // extern "C"
