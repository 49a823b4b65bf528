// Dispatch: the op table as code. For each row of ops.def: fetch and decode the arguments, build the Call,
// call the FileSystem's method.

#include <array>
#include <cstring>
#include <exception>
#include <type_traits>

#include "base/log.h"
#include "fuse/decode.h"
#include "fuse/engine.h"

namespace fusewire {
namespace {

// The FileSystem method that serves Op.
template <class Op>
void invoke(FileSystem& file_system, Call<Op>&& call);
#define FUSE_OP(method, Type, opcode, In, Tail, Reply)                      \
  template <>                                                               \
  void invoke<op::Type>(FileSystem & file_system, Call<op::Type> && call) { \
    file_system.method(std::move(call));                                    \
  }
#include "fusewire/ops.def"

// How many bytes the arguments announce that their tail has, where a tail is counted.
std::uint32_t tail_size(const fuse_write_in& in) { return in.size; }
std::uint32_t tail_size(const fuse_ioctl_in& in) { return in.in_size; }
std::uint32_t tail_size(const fuse_setxattr_in& in) { return in.size; }
std::uint32_t tail_size(const fuse_batch_forget_in& in) { return in.count; }
std::uint32_t tail_size(const fuse_removemapping_in& in) { return in.count; }

// How many bytes the arguments allow the reply to have, where the request says.
std::size_t reply_limit(const fuse_read_in& in) { return in.size; }
std::size_t reply_limit(const fuse_getxattr_in& in) { return in.size; }
std::size_t reply_limit(const fuse_ioctl_in& in) { return in.out_size; }
std::size_t reply_limit(const NoArgs&) { return 4096; }  // READLINK: PATH_MAX

template <class Reply, class In>
Reply make_reply(Slot& slot, const In& arguments) {
  if constexpr (std::is_constructible_v<Reply, Slot&, std::size_t>) {
    return Reply(slot, reply_limit(arguments));
  } else {
    return Reply(slot);
  }
}

}  // namespace

// SETXATTR has two layouts: without FUSE_SETXATTR_EXT the kernel sends the first 8 bytes only.
template <class Op>
bool Engine::fetch_arguments(Slot& slot, typename Op::In& arguments) {
  if constexpr (!std::is_empty_v<typename Op::In>) {
    std::size_t size = sizeof arguments;
    if constexpr (std::is_same_v<Op, op::Setxattr>) {
      if (!setxattr_ext_) size = FUSE_COMPAT_SETXATTR_IN_SIZE;
    }
    if (!slot.fetch_head(sizeof(fuse_in_header) + size)) return false;
    std::memcpy(&arguments, slot.head().data() + sizeof(fuse_in_header), size);
  }
  return true;
}

template <class Op>
bool Engine::fetch_tail(Slot& slot, const fuse_in_header& in, const typename Op::In& arguments,
                        typename Op::Tail& tail) {
  using Tail = typename Op::Tail;
  if constexpr (std::is_same_v<Tail, NoTail>) {
    return true;
  } else if constexpr (std::is_same_v<Tail, Payload>) {
    const std::size_t size = tail_size(arguments);
    if (slot.request.size() < size) return false;
    slot.lent_ = size != 0;
    tail.data = slot.request;
    tail.data.truncate(size);
    return true;
  } else {
    const std::size_t fetched = slot.head().size();
    if (!slot.fetch_head(fetched + slot.request.size())) return false;
    ByteReader rest(slot.head().subspan(fetched));
    if constexpr (requires { decode_counted(rest, tail_size(arguments), tail); }) {
      return decode_counted(rest, tail_size(arguments), tail);
    } else {
      const DecodeContext context{.extensions_size = std::size_t{in.total_extlen} * 8,
                                  .security_ctx = security_ctx_};
      return decode_tail(rest, context, tail);
    }
  }
}

template <class Op>
void Engine::serve(Slot& slot, const fuse_in_header& in) {
  in_flight_.enter(slot);
  // SAFETY: relaxed, the flag changes only while no request is in flight, and entering took that section's
  // lock.
  if (!initialized_.load(std::memory_order_relaxed)) {
    in_flight_.leave(slot);
    return answer_error(slot, EIO);
  }
  if (pending_count_.load() != 0) meet_pending_interrupts(slot);
  call_file_system<Op>(slot, in);
}

template <class Op>
void Engine::call_file_system(Slot& slot, const fuse_in_header& in) {
  bool has_reply_object = false;
  try {
    typename Op::In arguments{};
    typename Op::Tail tail{};
    if (!fetch_arguments<Op>(slot, arguments) || !fetch_tail<Op>(slot, in, arguments, tail)) {
      in_flight_.leave(slot);
      return answer_malformed(slot, "bad arguments");
    }
    auto reply = make_reply<typename Op::Reply>(slot, arguments);
    has_reply_object = true;
    invoke<Op>(file_system_, Call<Op>{.header = {.unique = RequestId{in.unique},
                                                 .node = NodeId{in.nodeid},
                                                 .uid = GuestUid{in.uid},
                                                 .gid = GuestGid{in.gid},
                                                 .pid = in.pid},
                                      .in = arguments,
                                      .tail = tail,
                                      .reply = std::move(reply)});
  } catch (const std::exception& exception) {
    const int error = error_of(exception, Op::kName);
    if (has_reply_object) return;  // dropped on the way here, it has answered
    in_flight_.leave(slot);
    answer_error(slot, error);
  }
}

template <class Op>
constexpr Engine::Row Engine::row_of(Serve serve) {
  return {.opcode = Op::kOpcode,
          .name = Op::kName,
          .has_reply = Op::Reply::kHasReply,
          .reply_size = Op::Reply::kBodySize,
          .serve = serve};
}

const Engine::Row* Engine::find_row(std::uint32_t opcode) {
  static constexpr std::size_t kRows = FUSE_COPY_FILE_RANGE_64 + 1;
  static constexpr Row kCuseInit = row_of<op::CuseInit>(&Engine::serve<op::CuseInit>);
  static constexpr auto kTable = [] {
    std::array<Row, kRows> table{};
    const auto add = [&table](const Row& row) {
      if (row.opcode < kRows) table[row.opcode] = row;
    };
#define FUSE_OP(method, Type, opcode, In, Tail, Reply) add(row_of<op::Type>(&Engine::serve<op::Type>));
#include "fusewire/ops.def"
    add(row_of<op::Init>(&Engine::serve_init));
    add(row_of<op::Destroy>(&Engine::serve_destroy));
    add(row_of<op::Interrupt>(&Engine::serve_interrupt));
    add(row_of<op::NotifyReply>(&Engine::serve_notify_reply));
    return table;
  }();
  if (opcode < kRows) return kTable[opcode].serve != nullptr ? &kTable[opcode] : nullptr;
  return opcode == CUSE_INIT ? &kCuseInit : nullptr;
}

}  // namespace fusewire
