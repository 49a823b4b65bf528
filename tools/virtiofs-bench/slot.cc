#include "virtiofs-bench/slot.h"

#include <fmt/format.h>
#include <unistd.h>

#include "base/check.h"
#include "fusewire/result.h"

namespace fusewire::bench {

std::string describe(const fuse_in_header& request) {
  return fmt::format("request {} (opcode {}, node {})", request.unique, request.opcode, request.nodeid);
}

Expected<ReplyForm> check_reply_form(const fuse_in_header& request, const fuse_out_header& reply,
                                     std::uint32_t used_length, std::size_t room) {
  const auto wrong = [&](const std::string& text) { return failed(describe(request) + ": " + text); };
  if (used_length < sizeof reply || reply.len != used_length || used_length > sizeof reply + room)
    return wrong(fmt::format("the device says that it wrote {} bytes, its reply {}, and there is room for {}",
                             used_length, reply.len, sizeof reply + room));
  if (reply.unique != request.unique)
    return wrong(fmt::format("the reply is to request {}, not {}", reply.unique, request.unique));
  if (reply.error > 0 || reply.error <= -512)
    return wrong(fmt::format("the reply's error is {}", reply.error));
  if (reply.error != 0 && reply.len != sizeof reply)
    return wrong(
        fmt::format("error {} comes with a body of {} bytes", -reply.error, reply.len - sizeof reply));
  return ReplyForm{-reply.error, used_length - sizeof reply};
}

Slot::Slot(guestmem::SharedMemory::Piece memory, unsigned index)
    : page_(memory.host), data_size_(memory.size - kPageSize), index_(index) {
  FUSEWIRE_CHECK(memory.guest.get() % kPageSize == 0 && memory.size % kPageSize == 0 && memory.size != 0);
  const auto at = [&](std::size_t offset, std::size_t length) {
    return virtio::GuestBuffer{guestmem::GuestAddress(memory.guest.get() + offset),
                               static_cast<std::uint32_t>(length)};
  };
  readable_ = {at(0, sizeof(fuse_in_header)), at(kArguments, 0)};
  with_args_ = {at(kReply, sizeof(fuse_out_header)), at(kReplyArguments, 0)};
  with_data_ = {at(kReply, sizeof(fuse_out_header))};
  const guestmem::SharedMemory::Piece pages{guestmem::GuestAddress(memory.guest.get() + kPageSize), data(),
                                            data_size_};
  driver::append_pages(pages, readable_);
  driver::append_pages(pages, with_data_);
  header_.uid = ::geteuid();
  header_.gid = ::getegid();
  header_.pid = static_cast<std::uint32_t>(::getpid());
}

Slot& Slot::request(std::uint32_t opcode, NodeId node) {
  header_.opcode = opcode;
  header_.nodeid = node.get();
  arguments_ = sent_data_ = reply_arguments_ = reply_data_ = 0;
  return *this;
}

Slot& Slot::append(const void* bytes, std::size_t size) {
  FUSEWIRE_CHECK(kArguments + arguments_ + size <= kReply);
  std::memcpy(page_ + kArguments + arguments_, bytes, size);
  arguments_ += size;
  return *this;
}

Slot& Slot::name(std::string_view text) {
  append(text.data(), text.size());
  return append("", 1);
}

Slot& Slot::send_data(std::size_t bytes) {
  FUSEWIRE_CHECK(bytes % kPageSize == 0 && bytes <= data_size_ && arguments_ != 0);
  sent_data_ = bytes;
  return *this;
}

Slot& Slot::expect_data(std::size_t bytes) {
  FUSEWIRE_CHECK(bytes % kPageSize == 0 && bytes <= data_size_);
  reply_data_ = bytes;
  return *this;
}

bool Slot::stage(driver::Queue& queue, std::uint64_t unique) {
  header_.unique = unique;
  header_.len = static_cast<std::uint32_t>(sizeof header_ + arguments_ + sent_data_);
  std::memcpy(page_, &header_, sizeof header_);
  std::memset(page_ + kReply, 0, sizeof(fuse_out_header));  // The last reply must not pass for this one.
  readable_[1].length = static_cast<std::uint32_t>(arguments_);
  with_args_[1].length = static_cast<std::uint32_t>(reply_arguments_);
  const std::span readable(readable_);
  const std::span writable(reply_data_ != 0 ? with_data_ : with_args_);
  return queue.stage(readable.first(arguments_ == 0 ? 1 : 2 + sent_data_ / kPageSize),
                     writable.first(1 + (reply_data_ != 0        ? reply_data_ / kPageSize
                                         : reply_arguments_ != 0 ? 1
                                                                 : 0)),
                     index_);
}

Expected<void> Slot::check(std::uint32_t used_length) {
  fuse_out_header out;
  std::memcpy(&out, page_ + kReply, sizeof out);
  const auto form = check_reply_form(header_, out, used_length, reply_arguments_ + reply_data_);
  if (!form) return failed(form.error());
  error_ = form->error;
  body_size_ = form->body_size;
  return {};
}

Expected<void> Slot::expect_error(std::string_view what, int wanted) const {
  if (error_ == wanted) return {};
  const auto words = [](int error) { return error == 0 ? std::string("success") : to_string(Errno{error}); };
  return failed(
      fmt::format("{} was answered with {}, where {} is right", what, words(error_), words(wanted)));
}

Expected<void> Slot::expect_size(std::string_view what, std::size_t size) const {
  if (body_size_ == size) return {};
  return failed(fmt::format("{}: the reply has {} bytes, where {} are right", what, body_size_, size));
}

}  // namespace fusewire::bench
