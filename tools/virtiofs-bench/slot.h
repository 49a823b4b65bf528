// Slot: a place in guest memory for one request and its reply. It is written by a workload, goes through a
// queue as Linux's virtio-fs driver would send it (fs/fuse/virtio_fs.c: header, arguments and every data page
// each a buffer of its own), and is read again when it came back. Used by one thread at a time.
//
//   first page   0 fuse_in_header | 64 arguments | 2048 fuse_out_header | 2112 arguments of the reply
//   data         pages: what a request writes, or where its reply's data goes
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "driver/queue.h"
#include "fusewire/wire.h"
#include "guestmem/shared_memory.h"
#include "virtiofs-bench/expected.h"

namespace fusewire::bench {

inline constexpr std::size_t kPageSize = 4096;

// A request in words, for messages.
std::string describe(const fuse_in_header& request);

struct ReplyForm {
  int error = 0;              // as in <errno.h>; 0: none
  std::size_t body_size = 0;  // of what follows the header
};
// The form of the reply to `request` that begins with `reply`, when the device says that it wrote
// `used_length` bytes and the body had `room` bytes. Fails with what is wrong, in words, as a kernel would
// refuse it.
Expected<ReplyForm> check_reply_form(const fuse_in_header& request, const fuse_out_header& reply,
                                     std::uint32_t used_length, std::size_t room);

class Slot {
 public:
  // `memory`: page-aligned, one page and then the data's (whole ones). `index`: cookie in its queue.
  Slot(guestmem::SharedMemory::Piece memory, unsigned index);

  // Requests that begin from here on come from this user, and the group of the same number. (At first: from
  // the user and group of this process.)
  void set_user(std::uint32_t id) { header_.uid = header_.gid = id; }

  unsigned index() const { return index_; }
  std::size_t data_room() const { return data_size_; }
  std::byte* data() { return page_ + kPageSize; }
  const std::byte* data() const { return page_ + kPageSize; }

  // Writing a request: request() begins it, without arguments and with a reply of only a header.
  Slot& request(std::uint32_t opcode, NodeId node);
  template <class T>
    requires std::is_trivially_copyable_v<T>
  Slot& arg(const T& argument) {
    return append(&argument, sizeof argument);
  }
  // The text and its NUL.
  Slot& name(std::string_view text);
  // The request carries data()'s first `bytes`.
  Slot& send_data(std::size_t bytes);
  // The reply's arguments.
  template <class T>
  Slot& expect() {
    reply_arguments_ = sizeof(T);
    return *this;
  }
  // The reply's data goes to data(), up to `bytes`.
  Slot& expect_data(std::size_t bytes);

  // Stages the request under the number `unique`; false when the ring is full.
  bool stage(driver::Queue& queue, std::uint64_t unique);

  // Reading the reply. Checks its form against the length that the device gave: what is wrong, in words.
  Expected<void> check(std::uint32_t used_length);
  // Then: the error, as in <errno.h> (0: none), and the size of what follows the reply's header.
  int error() const { return error_; }
  std::size_t body_size() const { return body_size_; }
  // The reply's arguments, which expect<T>() asked for.
  template <class T>
    requires std::is_trivially_copyable_v<T>
  T reply() const {
    T value;
    std::memcpy(&value, page_ + kReplyArguments, sizeof value);
    return value;
  }

  // Fails unless the reply is the error `wanted` (0: success) of the operation `what`.
  Expected<void> expect_error(std::string_view what, int wanted) const;
  // The arguments of a reply that has to be a success with just those.
  template <class T>
  Expected<T> expect_reply(std::string_view what) const {
    if (auto right = expect_error(what, 0); !right) return failed(right.error());
    if (auto right = expect_size(what, sizeof(T)); !right) return failed(right.error());
    return reply<T>();
  }

  std::string describe() const { return bench::describe(header_); }

 private:
  static constexpr std::size_t kArguments = 64, kReply = 2048, kReplyArguments = 2112;

  Slot& append(const void* bytes, std::size_t size);
  Expected<void> expect_size(std::string_view what, std::size_t size) const;

  std::byte* page_;
  std::size_t data_size_;
  unsigned index_;
  std::vector<virtio::GuestBuffer> readable_;   // header, arguments, data pages
  std::vector<virtio::GuestBuffer> with_args_;  // reply header, arguments
  std::vector<virtio::GuestBuffer> with_data_;  // reply header, data pages

  fuse_in_header header_{};
  std::size_t arguments_ = 0, sent_data_ = 0;
  std::size_t reply_arguments_ = 0, reply_data_ = 0;
  int error_ = 0;
  std::size_t body_size_ = 0;
};

}  // namespace fusewire::bench
