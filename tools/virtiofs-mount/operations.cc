#include "virtiofs-mount/operations.h"

#include <array>
#include <cstring>
#include <type_traits>

#include "fusewire/call.h"

namespace fusewire::carry {
namespace {

// The kernel gives READLINK a page, and keeps the last byte for a NUL (fuse_readlink_page).
constexpr std::size_t kReadlinkRoom = 4095;
// fuse_init_out up to protocol 7.22 (FUSE_COMPAT_22_INIT_OUT_SIZE).
constexpr std::size_t kLeastInitOut = 24;

template <class Reply>
constexpr Body body_of() {
  if (std::is_same_v<Reply, ReplyNone>) return Body::none;
  if (std::is_same_v<Reply, ReplyData>) return Body::data;
  if (std::is_same_v<Reply, ReplyXattr>) return Body::xattr;
  if (std::is_same_v<Reply, ReplyIoctl>) return Body::ioctl;
  if (std::is_same_v<Reply, ReplyInit>) return Body::init;
  return Body::fixed;
}

template <class Op>
constexpr Operation operation_of() {
  constexpr bool kData = std::is_same_v<typename Op::Reply, ReplyData>;
  constexpr bool kPayload = std::is_same_v<typename Op::Tail, Payload>;
  return {.opcode = Op::kOpcode,
          .name = Op::kName,
          .args_size = std::is_empty_v<typename Op::In> ? 0 : sizeof(typename Op::In),
          .body = body_of<typename Op::Reply>(),
          .body_size = Op::Reply::kBodySize,
          .payload = kPayload,
          .paged_reply = kData || std::is_same_v<typename Op::Reply, ReplyIoctl>};
}

constexpr Operation kOperations[] = {
#define FUSE_OP(method, Type, opcode, In, Tail, Reply) operation_of<op::Type>(),
#define FUSE_ENGINE_OP(Type, opcode, In, Reply) operation_of<op::Type>(),
#include "fusewire/ops.def"
};

// By opcode; CUSE's one is far away, and no kernel sends it to a file system.
constexpr auto kByOpcode = [] {
  std::array<const Operation*, FUSE_COPY_FILE_RANGE_64 + 1> table{};
  for (const Operation& operation : kOperations)
    if (operation.opcode < table.size()) table[operation.opcode] = &operation;
  return table;
}();

// The arguments, as far as they are there.
template <class Args>
Args arguments(std::span<const std::byte> request) {
  Args args{};
  if (request.size() > sizeof(fuse_in_header)) {
    const auto rest = request.subspan(sizeof(fuse_in_header));
    std::memcpy(&args, rest.data(), std::min(rest.size(), sizeof args));
  }
  return args;
}

}  // namespace

std::span<const Operation> operations() { return kOperations; }

const Operation* find_operation(std::uint32_t opcode) {
  return opcode < kByOpcode.size() ? kByOpcode[opcode] : nullptr;
}

const char* name_of_opcode(std::uint32_t opcode) {
  const Operation* operation = find_operation(opcode);
  return operation != nullptr ? operation->name : "an unknown opcode";
}

ReplyRoom reply_room(const Operation& operation, std::span<const std::byte> request) {
  switch (operation.body) {
    case Body::none:
      return {};
    case Body::fixed:
      return {operation.body_size, operation.body_size};
    case Body::init:
      return {kLeastInitOut, operation.body_size};
    case Body::data:
      if (operation.args_size == 0) return {0, kReadlinkRoom};
      return {0, arguments<fuse_read_in>(request).size};
    case Body::xattr: {
      const std::uint32_t size = arguments<fuse_getxattr_in>(request).size;
      if (size == 0) return {sizeof(fuse_getxattr_out), sizeof(fuse_getxattr_out)};
      return {0, size};
    }
    case Body::ioctl:
      return {operation.body_size, operation.body_size + arguments<fuse_ioctl_in>(request).out_size};
  }
  return {};
}

}  // namespace fusewire::carry
