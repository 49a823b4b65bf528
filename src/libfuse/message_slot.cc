#include "libfuse/message_slot.h"

#include <sys/uio.h>
#include <unistd.h>

#include <climits>
#include <new>

#include "fusewire/bytes.h"

namespace fusewire::libfuse {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kBeforeWriteData = sizeof(fuse_in_header) + sizeof(fuse_write_in);

Pages pages(std::size_t size) { return Pages(new (std::align_val_t{kPage}) std::byte[size]); }

}  // namespace

void FreePages::operator()(std::byte* memory) const { operator delete[](memory, std::align_val_t{kPage}); }

Result<std::size_t> MessageChannel::read(int fd, std::span<std::byte> room) const {
  errno = 0;  // a program's function may fail without a word
  const ssize_t got =
      is_custom() ? io_.read(fd, room.data(), room.size(), userdata_) : ::read(fd, room.data(), room.size());
  if (got < 0) return fail(errno != 0 ? errno : EIO);
  return static_cast<std::size_t>(got);
}

Result<void> MessageChannel::write(int fd, std::span<const iovec> message) const {
  const int count = static_cast<int>(message.size());
  ssize_t sent = 0;
  errno = 0;
  if (is_custom()) {
    // The function may change the list as it gets on.
    std::vector<iovec> own(message.begin(), message.end());
    sent = io_.writev(fd, own.data(), count, userdata_);
  } else {
    sent = ::writev(fd, message.data(), count);
  }
  if (sent < 0) return fail(errno != 0 ? errno : EIO);
  return {};
}

MessageSlot::MessageSlot(SlotPool& pool, std::size_t size) : pool_(pool), size_(size), body_(pages(size)) {}

std::span<std::byte> MessageSlot::room() {
  if (message_ == nullptr) message_ = pages(size_ + kPage);
  return {message_.get() + kPage - kBeforeWriteData, size_};
}

void MessageSlot::begin(int fd, std::span<std::byte> message) {
  fd_ = fd;
  references_ = 2;
  request_vector_ = {message.data(), message.size()};
  body_vector_ = {body_.get(), size_};
  request = IoVecs({&request_vector_, 1});
  reply_room = IoVecs({&body_vector_, 1});
  can_reply = true;
}

void MessageSlot::unref() {
  if (references_.fetch_sub(1) != 1) return;
  release_large_head();
  pool_.give_back(this);
}

int MessageSlot::send(RequestId unique, int error, std::span<const iovec> body) {
  std::size_t size = sizeof(fuse_out_header);
  for (const iovec& part : body) size += part.iov_len;
  fuse_out_header header{.len = static_cast<std::uint32_t>(size), .error = -error, .unique = unique.get()};
  std::vector<iovec> message{{&header, sizeof header}};
  message.insert(message.end(), body.begin(), body.end());
  const auto sent = pool_.channel().write(fd_, message);
  unref();
  return sent ? 0 : sent.error().value;
}

int MessageSlot::done(RequestId unique, int error, std::size_t body_size) {
  const iovec body{body_.get(), body_size};
  return send(unique, error, {&body, body_size == 0 ? std::size_t{0} : std::size_t{1}});
}

int MessageSlot::done_with(RequestId unique, std::span<const iovec> body) {
  if (body.size() >= UIO_MAXIOV) return Slot::done_with(unique, body);
  return send(unique, 0, body);
}

MessageSlot* SlotPool::take() {
  std::unique_ptr<MessageSlot> slot;
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      slot = std::move(free_.back());
      free_.pop_back();
    }
  }
  if (slot == nullptr) slot = std::make_unique<MessageSlot>(*this, size_);
  return slot.release();
}

void SlotPool::give_back(MessageSlot* slot) {
  std::unique_ptr<MessageSlot> owned(slot);
  const std::lock_guard lock(mutex_);
  if (free_.size() < kKept) free_.push_back(std::move(owned));
}

}  // namespace fusewire::libfuse
