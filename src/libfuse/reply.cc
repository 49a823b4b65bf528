// fuse_reply_*: answers of a fixed shape. Each gives the request back, whatever it returns: 0, or -errno when
// the kernel did not take the answer (-ENOENT: nobody waits for it any more).

#include "libfuse/reply.h"

#include <fcntl.h>

#include <cstring>

#include "libfuse/session.h"
#include "libfuse/wire_format.h"

namespace fusewire::libfuse {

int answer(fuse_req_t req, std::span<const iovec> body) {
  auto reply = req->take_reply();
  const int error = reply ? std::move(*reply).ok(body) : ENOENT;
  req->unref();
  return -error;
}

int answer_bytes(fuse_req_t req, std::span<const std::byte> body) {
  // SAFETY: iovec has no const; the body is only read.
  const iovec vector{const_cast<std::byte*>(body.data()), body.size()};
  return answer(req, {&vector, body.empty() ? std::size_t{0} : std::size_t{1}});
}

int answer_error(fuse_req_t req, int error) {
  static constexpr int kErrors = 512;  // the kernel takes no others
  if (error < 0 || error >= kErrors) {
    fuse_log(FUSE_LOG_ERR, "fuse: bad error value: %i\n", error);
    error = ERANGE;
  }
  if (error == ENOSYS && req->session.known_ids && (req->opcode == FUSE_OPEN || req->opcode == FUSE_OPENDIR))
    req->session.known_ids->allow_zero_handle();
  auto reply = req->take_reply();
  const int refused = reply ? std::move(*reply).error_code(error) : ENOENT;
  req->unref();
  return -refused;
}

}  // namespace fusewire::libfuse

using namespace fusewire;
using namespace fusewire::libfuse;

namespace {

bool knows_backing(fuse_req_t req) { return (req->session.conn.want_ext & FUSE_CAP_PASSTHROUGH) != 0; }

// Answers with an entry or a handle that the guest may use from the answer on.
template <class Body>
int answer_new(fuse_req_t req, const Body& body, std::uint64_t node, const HandleId* handle) {
  KnownIds* ids = req->session.known_ids.get();
  if (ids == nullptr) return answer_bytes(req, bytes_of(body));
  if (node != 0) ids->add_lookup(node);
  if (handle != nullptr) ids->add_handle(*handle);
  const int result = answer_bytes(req, bytes_of(body));
  if (result != 0) {
    if (node != 0) ids->undo_lookup(node);
    if (handle != nullptr) ids->undo_handle(*handle);
  }
  return result;
}

}  // namespace

int fusewire::libfuse::answer_entry(fuse_req_t req, const fuse_entry_param& entry, std::uint32_t attr_flags) {
  return answer_new(req, entry_of(entry, attr_flags), entry.ino, nullptr);
}

int fusewire::libfuse::answer_create(fuse_req_t req, const fuse_entry_param& entry,
                                     const fuse_file_info& file, std::uint32_t attr_flags) {
  const HandleId handle{entry.ino, file.fh};
  const CreateOut body{.entry = entry_of(entry, attr_flags), .open = open_of(file, knows_backing(req))};
  return answer_new(req, body, entry.ino, &handle);
}

extern "C" {

int fuse_reply_err(fuse_req_t req, int err) { return answer_error(req, err); }

void fuse_reply_none(fuse_req_t req) {
  req->take_reply();
  req->unref();
}

int fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param* e) { return answer_entry(req, *e, 0); }

int fuse_reply_create(fuse_req_t req, const struct fuse_entry_param* e, const struct fuse_file_info* fi) {
  return answer_create(req, *e, *fi, 0);
}

int fuse_reply_open(fuse_req_t req, const struct fuse_file_info* fi) {
  const HandleId handle{req->node, fi->fh, req->opcode == FUSE_OPENDIR};
  return answer_new(req, open_of(*fi, knows_backing(req)), 0, &handle);
}

int fuse_reply_attr(fuse_req_t req, const struct stat* attr, double attr_timeout) {
  const Timeout timeout(attr_timeout);
  fuse_attr_out out{};
  out.attr_valid = timeout.seconds;
  out.attr_valid_nsec = timeout.nanoseconds;
  out.attr = attr_of(*attr);
  return answer_bytes(req, bytes_of(out));
}

int fuse_reply_readlink(fuse_req_t req, const char* link) {
  return answer_bytes(req, as_bytes(std::string_view(link)));
}

int fuse_reply_write(fuse_req_t req, size_t count) {
  if (req->opcode == FUSE_COPY_FILE_RANGE_64)
    return answer_bytes(req, bytes_of(CopyFileRangeOut{.bytes_copied = count}));
  return answer_bytes(req, bytes_of(fuse_write_out{.size = static_cast<std::uint32_t>(count), .padding = 0}));
}

int fuse_reply_statfs(fuse_req_t req, const struct statvfs* stbuf) {
  return answer_bytes(req, bytes_of(fuse_statfs_out{.st = statfs_of(*stbuf)}));
}

int fuse_reply_xattr(fuse_req_t req, size_t count) {
  return answer_bytes(req,
                      bytes_of(fuse_getxattr_out{.size = static_cast<std::uint32_t>(count), .padding = 0}));
}

int fuse_reply_lock(fuse_req_t req, const struct flock* lock) {
  fuse_lk_out out{};
  out.lk.type = static_cast<std::uint32_t>(lock->l_type);
  if (lock->l_type != F_UNLCK) {
    out.lk.start = static_cast<std::uint64_t>(lock->l_start);
    out.lk.end = lock->l_len == 0 ? static_cast<std::uint64_t>(INT64_MAX)
                                  : static_cast<std::uint64_t>(lock->l_start + lock->l_len - 1);
  }
  out.lk.pid = static_cast<std::uint32_t>(lock->l_pid);
  return answer_bytes(req, bytes_of(out));
}

int fuse_reply_bmap(fuse_req_t req, uint64_t idx) {
  return answer_bytes(req, bytes_of(fuse_bmap_out{.block = idx}));
}

int fuse_reply_poll(fuse_req_t req, unsigned revents) {
  return answer_bytes(req, bytes_of(fuse_poll_out{.revents = revents, .padding = 0}));
}

int fuse_reply_lseek(fuse_req_t req, off_t off) {
  return answer_bytes(req, bytes_of(fuse_lseek_out{.offset = static_cast<std::uint64_t>(off)}));
}

int fuse_reply_statx(fuse_req_t req, int flags, struct statx* statx, double attr_timeout) {
  const Timeout timeout(attr_timeout);
  StatxOut out{};
  out.attr_valid = timeout.seconds;
  out.attr_valid_nsec = timeout.nanoseconds;
  out.flags = static_cast<std::uint32_t>(flags);
  // The kernel's fuse_statx is struct statx as it was when it was made: the same bytes.
  static_assert(sizeof(*statx) >= sizeof out.stat);
  std::memcpy(&out.stat, statx, offsetof(StatxAttr, spare2));
  return answer_bytes(req, bytes_of(out));
}

}  // extern "C"
