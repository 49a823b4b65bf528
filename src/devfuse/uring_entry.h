// UringEntry: one of the places in which the kernel puts requests of one processor's queue, and takes the
// answers (FUSE over io_uring).
//
// Request and reply share the payload's memory: what a file system still reads of the request is gone when it
// writes the reply. Names, arguments and attribute values are copied before; the data of an IOCTL is, too; a
// WRITE's data is read before the answer.
//
// An entry is the queue's, or on loan to the engine from Engine::submit to done(). One whose request the
// engine has given up belongs to whoever keeps the Call, and dies with that.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "devfuse/uring_wire.h"
#include "fusewire/slot.h"

namespace fusewire::devfuse {

class UringQueue;

class UringEntry final : public Slot {
 public:
  // `home` must outlive every request but those that are given up. `index` is the home's. Throws
  // std::bad_alloc.
  UringEntry(UringQueue& home, unsigned index, std::size_t payload_room);
  ~UringEntry() override;

  unsigned index() const { return index_; }
  // The two pieces of memory that the kernel wants to know.
  const std::array<iovec, 2>& memory() const { return memory_; }
  // Of the request that the kernel has put in.
  std::uint64_t commit_id() const { return headers_->state.commit_id; }

  // Makes what the kernel has put in a request for Engine::submit.
  void accept();
  // Slot. The answer goes out when the queue's thread comes to it, which is after the callback that it may be
  // in; what the kernel says to it is not known then.
  int done(RequestId unique, int error, std::size_t body_size) override;
  void done_without_reply() override;
  void given_up() override { delete this; }

 private:
  UringQueue& home_;
  const unsigned index_;
  std::byte* mapping_ = nullptr;
  std::size_t mapping_size_ = 0;
  UringHeaders* headers_ = nullptr;  // in the mapping
  std::array<iovec, 2> memory_{};
  std::uint64_t unique_ = 0;
  std::vector<std::byte> ioctl_data_;
  // What request and reply_room are views of.
  std::array<iovec, 3> request_vector_{};
  std::array<iovec, 1> reply_vector_{};
};

}  // namespace fusewire::devfuse
