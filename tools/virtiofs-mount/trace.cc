#include "virtiofs-mount/trace.h"

#include <fmt/format.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <vector>

#include "fuse/decode.h"
#include "fusewire/bytes.h"
#include "fusewire/call.h"

namespace fusewire::carry {
namespace {

// The most of a request or reply that is looked at.
constexpr std::size_t kMaxLook = std::size_t{128} * 1024;

// -- Arguments, one overload for each structure: what tells one request from another --

std::string text_of(const NoArgs&) { return ""; }
std::string text_of(const fuse_forget_in& in) { return fmt::format(" nlookup={}", in.nlookup); }
std::string text_of(const fuse_getattr_in& in) {
  return (in.getattr_flags & FUSE_GETATTR_FH) != 0 ? fmt::format(" fh={}", in.fh) : "";
}
std::string text_of(const StatxIn& in) {
  return fmt::format("{} mask={:#x}",
                     (in.getattr_flags & FUSE_GETATTR_FH) != 0 ? fmt::format(" fh={}", in.fh) : "",
                     in.sx_mask);
}
std::string text_of(const fuse_setattr_in& in) {
  std::string text;
  if (in.valid & FATTR_FH) text += fmt::format(" fh={}", in.fh);
  if (in.valid & FATTR_MODE) text += fmt::format(" mode={:o}", in.mode);
  if (in.valid & FATTR_UID) text += fmt::format(" uid={}", in.uid);
  if (in.valid & FATTR_GID) text += fmt::format(" gid={}", in.gid);
  if (in.valid & FATTR_SIZE) text += fmt::format(" size={}", in.size);
  if (in.valid & (FATTR_ATIME | FATTR_ATIME_NOW)) text += " atime";
  if (in.valid & (FATTR_MTIME | FATTR_MTIME_NOW)) text += " mtime";
  if (in.valid & FATTR_CTIME) text += " ctime";
  return text + fmt::format(" valid={:#x}", in.valid);
}
std::string text_of(const fuse_mknod_in& in) {
  return fmt::format(" mode={:o} rdev={} umask={:o}", in.mode, in.rdev, in.umask);
}
std::string text_of(const fuse_mkdir_in& in) {
  return fmt::format(" mode={:o} umask={:o}", in.mode, in.umask);
}
std::string text_of(const fuse_rename_in& in) { return fmt::format(" newdir={}", in.newdir); }
std::string text_of(const fuse_rename2_in& in) {
  return fmt::format(" newdir={} flags={:#x}", in.newdir, in.flags);
}
std::string text_of(const fuse_link_in& in) { return fmt::format(" oldnode={}", in.oldnodeid); }
std::string text_of(const fuse_open_in& in) { return fmt::format(" flags={:#o}", in.flags); }
std::string text_of(const fuse_create_in& in) {
  return fmt::format(" flags={:#o} mode={:o} umask={:o}", in.flags, in.mode, in.umask);
}
std::string text_of(const fuse_read_in& in) {
  return fmt::format(" fh={} offset={} size={}", in.fh, in.offset, in.size);
}
std::string text_of(const fuse_write_in& in) {
  return fmt::format(" fh={} offset={} size={}{}", in.fh, in.offset, in.size,
                     (in.write_flags & FUSE_WRITE_CACHE) != 0 ? " cached" : "");
}
std::string text_of(const fuse_release_in& in) { return fmt::format(" fh={} flags={:#o}", in.fh, in.flags); }
std::string text_of(const fuse_flush_in& in) {
  return fmt::format(" fh={} owner={:#x}", in.fh, in.lock_owner);
}
std::string text_of(const fuse_fsync_in& in) {
  return fmt::format(" fh={}{}", in.fh, (in.fsync_flags & 1) != 0 ? " data only" : "");
}
std::string text_of(const fuse_setxattr_in& in) {
  return fmt::format(" size={} flags={:#x}", in.size, in.flags);
}
std::string text_of(const fuse_getxattr_in& in) { return fmt::format(" size={}", in.size); }
std::string text_of(const fuse_lk_in& in) {
  return fmt::format(" fh={} owner={:#x} {}..{} type={}{}", in.fh, in.owner, in.lk.start, in.lk.end,
                     in.lk.type, (in.lk_flags & FUSE_LK_FLOCK) != 0 ? " flock" : "");
}
std::string text_of(const fuse_access_in& in) { return fmt::format(" mask={}", in.mask); }
std::string text_of(const fuse_init_in& in) {
  return fmt::format(" 7.{} max_readahead={} flags={:#x} flags2={:#x}", in.minor, in.max_readahead, in.flags,
                     in.flags2);
}
std::string text_of(const cuse_init_in& in) { return fmt::format(" {}.{}", in.major, in.minor); }
std::string text_of(const fuse_interrupt_in& in) { return fmt::format(" of=#{}", in.unique); }
std::string text_of(const fuse_bmap_in& in) {
  return fmt::format(" block={} blocksize={}", in.block, in.blocksize);
}
std::string text_of(const fuse_ioctl_in& in) {
  return fmt::format(" fh={} cmd={:#x} in={} out={}", in.fh, in.cmd, in.in_size, in.out_size);
}
std::string text_of(const fuse_poll_in& in) { return fmt::format(" fh={} events={:#x}", in.fh, in.events); }
std::string text_of(const fuse_notify_retrieve_in& in) {
  return fmt::format(" offset={} size={}", in.offset, in.size);
}
std::string text_of(const fuse_batch_forget_in& in) { return fmt::format(" count={}", in.count); }
std::string text_of(const fuse_fallocate_in& in) {
  return fmt::format(" fh={} offset={} length={} mode={:#x}", in.fh, in.offset, in.length, in.mode);
}
std::string text_of(const fuse_lseek_in& in) {
  return fmt::format(" fh={} offset={} whence={}", in.fh, in.offset, in.whence);
}
std::string text_of(const fuse_copy_file_range_in& in) {
  return fmt::format(" fh={} offset={} to node={} fh={} offset={} length={}", in.fh_in, in.off_in,
                     in.nodeid_out, in.fh_out, in.off_out, in.len);
}
std::string text_of(const fuse_setupmapping_in& in) {
  return fmt::format(" fh={} offset={} length={}", in.fh, in.foffset, in.len);
}
std::string text_of(const fuse_removemapping_in& in) { return fmt::format(" count={}", in.count); }
std::string text_of(const fuse_syncfs_in&) { return ""; }

// -- Tails --

std::string text_of(const LookupName& tail) { return " " + quoted(tail.name); }
std::string text_of(const EntryName& tail) { return " " + quoted(tail.name); }
std::string text_of(const NewEntry& tail) { return " " + quoted(tail.name); }
std::string text_of(const UnnamedEntry&) { return ""; }
std::string text_of(const XattrName& tail) { return " " + quoted(tail.name); }
std::string text_of(const XattrPair& tail) { return " " + quoted(tail.name); }
std::string text_of(const EntryNames& tail) {
  return fmt::format(" {} to {}", quoted(tail.old_name), quoted(tail.new_name));
}
std::string text_of(const SymlinkNames& tail) {
  return fmt::format(" {} to {}", quoted(tail.name), quoted(tail.target));
}
std::string text_of(const ForgetList& tail) {
  constexpr std::size_t kShown = 8;
  std::string text;
  for (std::size_t i = 0; i < std::min(tail.items.size(), kShown); ++i)
    text += fmt::format(" {}:{}", tail.items[i].nodeid, tail.items[i].nlookup);
  return tail.items.size() > kShown ? text + " ..." : text;
}
std::string text_of(const MappingList&) { return ""; }

std::uint32_t count_of(const fuse_setxattr_in& in) { return in.size; }
std::uint32_t count_of(const fuse_batch_forget_in& in) { return in.count; }
std::uint32_t count_of(const fuse_removemapping_in& in) { return in.count; }

bool has(std::uint64_t caps, Cap cap) { return (caps & static_cast<std::uint64_t>(cap)) != 0; }

constexpr const char* kMalformed = " MALFORMED";

// What follows fuse_in_header.
template <class Op>
std::string text_of_rest(const fuse_in_header& header, std::span<const std::byte> bytes, std::uint64_t caps) {
  using In = typename Op::In;
  using Tail = typename Op::Tail;
  ByteReader rest(bytes);
  In in{};
  if constexpr (!std::is_empty_v<In>) {
    // Two structures are shorter from some kernels: the rest is zero.
    std::size_t size = sizeof in;
    if (Op::kOpcode == FUSE_SETXATTR && !has(caps, Cap::setxattr_ext)) size = FUSE_COMPAT_SETXATTR_IN_SIZE;
    if (Op::kOpcode == FUSE_INIT) size = std::min(size, bytes.size());
    const auto args = rest.take(size);
    if (!args) return kMalformed;
    std::memcpy(&in, args->data(), args->size());
  }
  std::string text = text_of(in);
  if constexpr (!std::is_same_v<Tail, NoTail> && !std::is_same_v<Tail, Payload>) {
    Tail tail;
    bool decoded = false;
    if constexpr (requires { decode_counted(rest, count_of(in), tail); }) {
      decoded = decode_counted(rest, count_of(in), tail);
    } else {
      const DecodeContext context{.extensions_size = std::size_t{header.total_extlen} * 8,
                                  .security_ctx = has(caps, Cap::security_ctx)};
      decoded = decode_tail(rest, context, tail);
    }
    text += decoded ? text_of(tail) : kMalformed;
  }
  return text;
}

using TextOfRest = std::string (*)(const fuse_in_header&, std::span<const std::byte>, std::uint64_t);

TextOfRest find_text(std::uint32_t opcode) {
  switch (opcode) {
#define FUSE_OP(method, Type, opcode, In, Tail, Reply) \
  case opcode:                                         \
    return &text_of_rest<op::Type>;
#define FUSE_ENGINE_OP(Type, opcode, In, Reply) FUSE_OP(, Type, opcode, In, NoTail, Reply)
#include "fusewire/ops.def"
    default:
      return nullptr;
  }
}

// -- Replies --

std::string text_of(const fuse_attr& attr) { return fmt::format(" mode={:o} size={}", attr.mode, attr.size); }
std::string text_of(const fuse_entry_out& out) {
  return out.nodeid == 0 ? " no entry" : fmt::format(" node={}{}", out.nodeid, text_of(out.attr));
}
std::string text_of(const fuse_open_out& out) {
  return fmt::format(" fh={} flags={:#x}", out.fh, out.open_flags);
}

std::string text_of(const fuse_attr_out& out) { return text_of(out.attr); }
std::string text_of(const CreateOut& out) { return text_of(out.entry) + text_of(out.open); }
std::string text_of(const fuse_write_out& out) { return fmt::format(" size={}", out.size); }
std::string text_of(const CopyFileRangeOut& out) { return fmt::format(" size={}", out.bytes_copied); }
std::string text_of(const fuse_lseek_out& out) { return fmt::format(" offset={}", out.offset); }
std::string text_of(const fuse_poll_out& out) { return fmt::format(" revents={:#x}", out.revents); }
std::string text_of(const fuse_bmap_out& out) { return fmt::format(" block={}", out.block); }
std::string text_of(const fuse_ioctl_out& out) { return fmt::format(" result={}", out.result); }
std::string text_of(const fuse_lk_out& out) {
  return fmt::format(" {}..{} type={} pid={}", out.lk.start, out.lk.end, out.lk.type, out.lk.pid);
}
std::string text_of(const fuse_statfs_out& out) {
  return fmt::format(" blocks={} bfree={} bsize={}", out.st.blocks, out.st.bfree, out.st.bsize);
}
std::string text_of(const StatxOut& out) {
  return fmt::format(" mode={:o} size={}", out.stat.mode, out.stat.size);
}
std::string text_of(const fuse_init_out& out) {
  return fmt::format(" 7.{} flags={:#x} flags2={:#x} max_write={} max_pages={} max_background={}", out.minor,
                     out.flags, out.flags2, out.max_write, out.max_pages, out.max_background);
}

template <class Out>
std::string text_from(std::span<const std::byte> body) {
  const auto out = ByteReader(body).read<Out>();
  return out ? text_of(*out) : "";
}

// Bytes of a request or reply, by value.
std::vector<std::byte> copy(std::span<const std::byte> bytes) {
  const auto part = bytes.first(std::min(bytes.size(), kMaxLook));
  return {part.begin(), part.end()};
}

}  // namespace

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') {
      result += '\\';
      result += letter;
    } else if (letter >= ' ' && letter <= '~') {
      result += letter;
    } else {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(letter));
    }
  }
  return result + '"';
}

std::string describe_request(std::span<const std::byte> request, std::uint64_t caps) {
  const auto header = ByteReader(request).read<fuse_in_header>();
  if (!header) return "no request";
  std::string text = fmt::format("{} node={} uid={} gid={} pid={}", name_of_opcode(header->opcode),
                                 header->nodeid, header->uid, header->gid, header->pid);
  if (const TextOfRest rest = find_text(header->opcode))
    text += rest(*header, request.subspan(sizeof(fuse_in_header)), caps);
  return text;
}

std::string describe_reply(std::uint32_t opcode, std::span<const std::byte> body) {
  switch (opcode) {
    case FUSE_LOOKUP:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_SYMLINK:
    case FUSE_LINK:
      return text_from<fuse_entry_out>(body);
    case FUSE_GETATTR:
    case FUSE_SETATTR:
      return text_from<fuse_attr_out>(body);
    case FUSE_OPEN:
    case FUSE_OPENDIR:
      return text_from<fuse_open_out>(body);
    case FUSE_CREATE:
    case FUSE_TMPFILE:
      return text_from<CreateOut>(body);
    case FUSE_WRITE:
    case FUSE_COPY_FILE_RANGE:
      return text_from<fuse_write_out>(body);
    case FUSE_COPY_FILE_RANGE_64:
      return text_from<CopyFileRangeOut>(body);
    case FUSE_STATFS:
      return text_from<fuse_statfs_out>(body);
    case FUSE_STATX:
      return text_from<StatxOut>(body);
    case FUSE_GETLK:
      return text_from<fuse_lk_out>(body);
    case FUSE_LSEEK:
      return text_from<fuse_lseek_out>(body);
    case FUSE_POLL:
      return text_from<fuse_poll_out>(body);
    case FUSE_BMAP:
      return text_from<fuse_bmap_out>(body);
    case FUSE_IOCTL:
      return text_from<fuse_ioctl_out>(body);
    case FUSE_INIT:
      return text_from<fuse_init_out>(body);
    case FUSE_READLINK:
      return " " + quoted(as_text(body));
    default:
      return "";
  }
}

std::string Trace::stamp(std::uint64_t unique) const {
  const std::chrono::duration<double> since = std::chrono::steady_clock::now() - start_;
  return fmt::format("{:.6f} #{}", since.count(), unique);
}

void Trace::request(unsigned, const fuse_in_header& header, std::span<const std::byte> request,
                    const ReplyRoom&) {
  // SAFETY: relaxed, INIT is over before there is a second thread.
  print_(fmt::format("{} > {}", stamp(header.unique),
                     describe_request(copy(request), caps_.load(std::memory_order_relaxed))));
}

void Trace::reply(unsigned, const fuse_in_header& request, const fuse_out_header& header,
                  std::span<const std::byte> body, std::chrono::nanoseconds latency) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(latency).count();
  const std::vector<std::byte> bytes = copy(body);
  std::string outcome;
  if (header.error != 0) {
    const char* name = strerrorname_np(-header.error);
    outcome = name != nullptr ? name : fmt::format("error {}", -header.error);
  } else {
    outcome = fmt::format("ok {} bytes{}", body.size(), describe_reply(request.opcode, bytes));
  }
  if (const auto init = ByteReader(bytes).read<fuse_init_out>(); request.opcode == FUSE_INIT && init)
    caps_.store(init->flags | std::uint64_t{init->flags2} << 32, std::memory_order_relaxed);
  print_(
      fmt::format("{} < {} {} ({} us)", stamp(header.unique), name_of_opcode(request.opcode), outcome, us));
}

void Trace::failed(unsigned, const fuse_in_header& request, int error) {
  const char* name = strerrorname_np(error);
  print_(fmt::format("{} ! {} answered with {} here", stamp(request.unique), name_of_opcode(request.opcode),
                     name != nullptr ? name : "an error"));
}

}  // namespace fusewire::carry
