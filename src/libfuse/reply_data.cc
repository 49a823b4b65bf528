// fuse_reply_buf, _iov, _data and the directory entries: answers whose size varies.

#include <algorithm>
#include <cstring>
#include <exception>
#include <vector>

#include "libfuse/reply.h"
#include "libfuse/session.h"
#include "libfuse/wire_format.h"

using namespace fusewire;
using namespace fusewire::libfuse;

namespace {

// The nodes whose entries a READDIRPLUS answer hands out: all with a node id but "." and "..", which the
// kernel does not count.
std::vector<std::uint64_t> nodes_in(std::span<const std::byte> entries) {
  std::vector<std::uint64_t> nodes;
  while (entries.size() >= FUSE_NAME_OFFSET_DIRENTPLUS) {
    fuse_direntplus entry;
    std::memcpy(&entry, entries.data(), FUSE_NAME_OFFSET_DIRENTPLUS);
    const std::size_t size =
        FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + std::size_t{entry.dirent.namelen});
    if (entry.dirent.namelen == 0 || size > entries.size()) break;
    const std::string_view name = as_text(entries.subspan(FUSE_NAME_OFFSET_DIRENTPLUS, entry.dirent.namelen));
    if (entry.entry_out.nodeid != 0 && name != "." && name != "..") nodes.push_back(entry.entry_out.nodeid);
    entries = entries.subspan(size);
  }
  return nodes;
}

int answer_entries(fuse_req_t req, std::span<const std::byte> entries) {
  fuse_session& session = req->session;
  const std::vector<std::uint64_t> nodes = nodes_in(entries);
  for (const std::uint64_t node : nodes) session.known_ids->add_lookup(node);
  const int result = answer_bytes(req, entries);
  if (result != 0)
    for (const std::uint64_t node : nodes) session.known_ids->undo_lookup(node);
  return result;
}

bool hands_out_nodes(fuse_req_t req) {
  return req->opcode == FUSE_READDIRPLUS && req->session.known_ids != nullptr;
}

// Copies `from` into one piece of memory and answers with that.
int answer_copied(fuse_req_t req, fuse_bufvec* from, fuse_buf_copy_flags flags) {
  const std::size_t size = fuse_buf_size(from);
  std::vector<std::byte> memory;
  try {
    memory.resize(size);
  } catch (const std::exception&) {  // bad_alloc, or length_error
    return answer_error(req, ENOMEM);
  }
  fuse_bufvec to = FUSE_BUFVEC_INIT(size);
  to.buf[0].mem = memory.data();
  const ssize_t copied = fuse_buf_copy(&to, from, flags);
  if (copied < 0) return answer_error(req, static_cast<int>(-copied));
  const std::span<const std::byte> body = std::span(memory).first(static_cast<std::size_t>(copied));
  return hands_out_nodes(req) ? answer_entries(req, body) : answer_bytes(req, body);
}

int answer_file(fuse_req_t req, const fuse_buf& part, std::size_t skipped) {
  FileRange range{.fd = part.fd, .offset = -1, .size = part.size - skipped};
  if ((part.flags & FUSE_BUF_FD_SEEK) != 0) range.offset = part.pos + static_cast<std::int64_t>(skipped);
  auto reply = req->take_reply();
  const int error = reply ? std::move(*reply).ok(range) : ENOENT;
  req->unref();
  return -error;
}

std::size_t entry_size(std::size_t name_offset, const char* name) {
  return FUSE_DIRENT_ALIGN(name_offset + std::strlen(name));
}

// Writes a fuse_dirent and its name, padded with zeroes to `size`, which is there.
void put_dirent(std::byte* to, std::size_t size, const char* name, const struct stat& st, off_t off) {
  const std::size_t length = std::strlen(name);
  fuse_dirent entry{};
  entry.ino = st.st_ino;
  entry.off = static_cast<std::uint64_t>(off);
  entry.namelen = static_cast<std::uint32_t>(length);
  entry.type = type_of(st.st_mode);
  std::memcpy(to, &entry, FUSE_NAME_OFFSET);
  std::memcpy(to + FUSE_NAME_OFFSET, name, length);
  std::memset(to + FUSE_NAME_OFFSET + length, 0, size - FUSE_NAME_OFFSET - length);
}

}  // namespace

int fuse_reply_buf(fuse_req_t req, const char* buf, size_t size) {
  const std::span<const std::byte> body = as_bytes(std::string_view(buf == nullptr ? "" : buf, size));
  return hands_out_nodes(req) ? answer_entries(req, body) : answer_bytes(req, body);
}

int fuse_reply_iov(fuse_req_t req, const struct iovec* iov, int count) {
  const std::span<const iovec> parts(iov, static_cast<std::size_t>(std::max(count, 0)));
  if (!hands_out_nodes(req)) return answer(req, parts);
  std::vector<std::byte> all;
  try {
    for (const iovec& part : parts) {
      const auto* bytes = static_cast<const std::byte*>(part.iov_base);
      all.insert(all.end(), bytes, bytes + part.iov_len);
    }
  } catch (const std::exception&) {
    return answer_error(req, ENOMEM);
  }
  return answer_entries(req, all);
}

int fuse_reply_data(fuse_req_t req, struct fuse_bufvec* bufv, enum fuse_buf_copy_flags flags) {
  const bool one_part = bufv->idx + 1 == bufv->count && bufv->off <= bufv->buf[bufv->idx].size;
  if (!one_part || hands_out_nodes(req)) return answer_copied(req, bufv, flags);
  const fuse_buf& part = bufv->buf[bufv->idx];
  const std::size_t skipped = bufv->off;
  if ((part.flags & FUSE_BUF_IS_FD) == 0) {
    const iovec memory{static_cast<std::byte*>(part.mem) + skipped, part.size - skipped};
    return answer(req, {&memory, 1});
  }
  // A descriptor that gives less than asked before its end must be asked again, which only the copy does.
  if ((part.flags & FUSE_BUF_FD_RETRY) != 0) return answer_copied(req, bufv, flags);
  return answer_file(req, part, skipped);
}

size_t fuse_add_direntry(fuse_req_t, char* buf, size_t bufsize, const char* name, const struct stat* stbuf,
                         off_t off) {
  const std::size_t size = entry_size(FUSE_NAME_OFFSET, name);
  if (buf == nullptr || size > bufsize) return size;
  put_dirent(reinterpret_cast<std::byte*>(buf), size, name, *stbuf,
             off);  // SAFETY: bytes of the caller's buffer
  return size;
}

std::size_t fusewire::libfuse::add_direntry_plus(char* buffer, std::size_t size, const char* name,
                                                 const fuse_entry_param& entry, off_t offset,
                                                 std::uint32_t attr_flags) {
  static constexpr std::size_t kEntry = sizeof(fuse_entry_out);
  const std::size_t needed = entry_size(FUSE_NAME_OFFSET_DIRENTPLUS, name);
  if (buffer == nullptr || needed > size) return needed;
  const fuse_entry_out out = entry_of(entry, attr_flags);
  std::memcpy(buffer, &out, kEntry);
  auto* rest = reinterpret_cast<std::byte*>(buffer) + kEntry;  // SAFETY: bytes of the caller's buffer
  put_dirent(rest, needed - kEntry, name, entry.attr, offset);
  return needed;
}

size_t fuse_add_direntry_plus(fuse_req_t, char* buf, size_t bufsize, const char* name,
                              const struct fuse_entry_param* e, off_t off) {
  static const fuse_entry_param kSizeOnly{};
  return add_direntry_plus(buf, bufsize, name, e != nullptr ? *e : kSizeOnly, off, 0);
}
