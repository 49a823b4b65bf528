// Call<Op>: one decoded request on its way to the file system, and the only thing that can answer it.
//
// A Call is move-only and may travel to another thread. Its views (names, payload, reply room) die when it is
// answered.
#pragma once

#include "fusewire/reply.h"
#include "fusewire/tails.h"
#include "fusewire/wire.h"

namespace fusewire {

// fuse_in_header as the file system sees it.
struct Header {
  RequestId unique;
  NodeId node;
  GuestUid uid;
  GuestGid gid;
  std::uint32_t pid = 0;
};

template <class Op>
struct Call {
  using Operation = Op;
  Header header;
  typename Op::In in;
  typename Op::Tail tail;
  typename Op::Reply reply;
};

// The operations as types: op::Read{In, Tail, Reply, kOpcode, kName}.
namespace op {

#define FUSE_OP(method_name, Type, opcode, InType, TailType, ReplyType) \
  struct Type {                                                         \
    using In = InType;                                                  \
    using Tail = TailType;                                              \
    using Reply = ReplyType;                                            \
    static constexpr std::uint32_t kOpcode = opcode;                    \
    static constexpr const char* kName = #opcode;                       \
  };
#define FUSE_ENGINE_OP(Type, opcode, InType, ReplyType) FUSE_OP(, Type, opcode, InType, NoTail, ReplyType)
#include "fusewire/ops.def"

}  // namespace op
}  // namespace fusewire
