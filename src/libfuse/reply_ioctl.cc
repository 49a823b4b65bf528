// fuse_reply_ioctl and its kin.

#include <array>
#include <cerrno>
#include <exception>
#include <vector>

#include "libfuse/reply.h"
#include "libfuse/wire_format.h"

using namespace fusewire;
using namespace fusewire::libfuse;

namespace {

std::vector<fuse_ioctl_iovec> wire_vectors(const iovec* vectors, std::size_t count) {
  std::vector<fuse_ioctl_iovec> out(count);
  for (std::size_t i = 0; i < count; ++i)
    out[i] = {.base = reinterpret_cast<std::uintptr_t>(vectors[i].iov_base),  // SAFETY: only a number
              .len = vectors[i].iov_len};
  return out;
}

iovec part_of(const std::vector<fuse_ioctl_iovec>& vectors) {
  // SAFETY: iovec has no const; the body is only read.
  return {const_cast<fuse_ioctl_iovec*>(vectors.data()), vectors.size() * sizeof(fuse_ioctl_iovec)};
}

}  // namespace

int fuse_reply_ioctl_retry(fuse_req_t req, const struct iovec* in_iov, size_t in_count,
                           const struct iovec* out_iov, size_t out_count) {
  if (in_count > FUSE_IOCTL_MAX_IOV || out_count > FUSE_IOCTL_MAX_IOV ||
      in_count + out_count > FUSE_IOCTL_MAX_IOV)
    return answer_error(req, EINVAL);
  fuse_ioctl_out out{.result = 0,
                     .flags = FUSE_IOCTL_RETRY,
                     .in_iovs = static_cast<std::uint32_t>(in_count),
                     .out_iovs = static_cast<std::uint32_t>(out_count)};
  const auto in = wire_vectors(in_iov, in_count);
  const auto output = wire_vectors(out_iov, out_count);
  const std::array<iovec, 3> body{iovec{&out, sizeof out}, part_of(in), part_of(output)};
  return answer(req, body);
}

int fuse_reply_ioctl(fuse_req_t req, int result, const void* buf, size_t size) {
  // SAFETY: iovec has no const; the body is only read.
  const iovec data{const_cast<void*>(buf), size};
  return fuse_reply_ioctl_iov(req, result, &data, size == 0 ? 0 : 1);
}

int fuse_reply_ioctl_iov(fuse_req_t req, int result, const struct iovec* iov, int count) {
  fuse_ioctl_out out{.result = result, .flags = 0, .in_iovs = 0, .out_iovs = 0};
  std::vector<iovec> body;
  try {
    body.push_back({&out, sizeof out});
    if (count > 0) body.insert(body.end(), iov, iov + count);
  } catch (const std::exception&) {
    return answer_error(req, ENOMEM);
  }
  return answer(req, body);
}
