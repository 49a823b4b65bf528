#include "virtiofs-bench/replay_place.h"

#include "base/check.h"

namespace fusewire::bench {
namespace {

constexpr std::size_t kWriteArguments = sizeof(fuse_write_in);

std::size_t whole_pages(std::size_t bytes) { return (bytes + kPageSize - 1) / kPageSize * kPageSize; }

// Replies that Linux has the server write into pages and not into a buffer of arguments.
bool replies_with_pages(std::uint32_t opcode) {
  return opcode == FUSE_READ || opcode == FUSE_READDIR || opcode == FUSE_READDIRPLUS ||
         opcode == FUSE_READLINK;
}

}  // namespace

bool has_no_reply(std::uint32_t opcode) {
  return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT;
}

std::size_t ReplayPlace::size(std::size_t request_bytes, std::size_t reply_bytes) {
  // One page more for the request: a WRITE's data begin with a page of their own.
  return kPageSize + whole_pages(request_bytes) + kPageSize + whole_pages(reply_bytes);
}

ReplayPlace::ReplayPlace(guestmem::SharedMemory::Piece memory, std::size_t request_bytes)
    : memory_(memory), request_room_(whole_pages(request_bytes) + kPageSize) {}

virtio::GuestBuffer ReplayPlace::buffer(std::size_t offset, std::size_t length) const {
  return {guestmem::GuestAddress(memory_.guest.get() + offset), static_cast<std::uint32_t>(length)};
}

void ReplayPlace::append_pages(std::size_t offset, std::size_t length,
                               std::vector<virtio::GuestBuffer>& buffers) const {
  driver::append_pages({guestmem::GuestAddress(memory_.guest.get() + offset), memory_.host + offset, length},
                       buffers);
}

bool ReplayPlace::stage(driver::Queue& queue, const recording::Request& request,
                        std::span<const std::byte> bytes, std::uint64_t cookie) {
  FUSEWIRE_CHECK(bytes.size() >= sizeof header_ && request.size >= bytes.size());
  request_ = &request;
  std::memcpy(&header_, bytes.data(), sizeof header_);
  const bool one_buffer = has_no_reply(header_.opcode);
  const std::size_t arguments = request.size - sizeof header_;
  const bool data_apart = header_.opcode == FUSE_WRITE && arguments > kWriteArguments;
  const std::size_t begin = kPageSize;
  std::memcpy(memory_.host + begin, bytes.data(), bytes.size());

  readable_.clear();
  writable_.clear();
  if (one_buffer) {
    readable_.push_back(buffer(begin, request.size));
  } else {
    readable_.push_back(buffer(begin, sizeof header_));
    const std::size_t apart = data_apart ? kWriteArguments : arguments;
    if (apart != 0) readable_.push_back(buffer(begin + sizeof header_, apart));
    if (data_apart) append_pages(begin + kPageSize, arguments - kWriteArguments, readable_);
    std::memset(memory_.host, 0, sizeof(fuse_out_header));  // The last reply must not pass for this one.
    writable_.push_back(buffer(0, sizeof(fuse_out_header)));
    const std::size_t replied = kPageSize + request_room_;
    if (request.room != 0 && replies_with_pages(header_.opcode))
      append_pages(replied, request.room, writable_);
    else if (request.room != 0)
      writable_.push_back(buffer(replied, request.room));
  }
  return queue.stage(readable_, writable_, cookie);
}

Expected<void> ReplayPlace::check(std::uint32_t used_length) {
  fuse_out_header out;
  std::memcpy(&out, memory_.host, sizeof out);
  const auto form = check_reply_form(header_, out, used_length, request_->room);
  if (!form) return failed(form.error());
  error_ = form->error;
  body_size_ = form->body_size;
  return {};
}

}  // namespace fusewire::bench
