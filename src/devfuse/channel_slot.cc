#include "devfuse/channel_slot.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <optional>

#include "base/log.h"
#include "devfuse/reply_pipe.h"
#include "fusewire/bytes.h"

namespace fusewire::devfuse {
namespace {

// What stands in front of a WRITE's data. The data begins on a page, as O_DIRECT wants it.
constexpr std::size_t kWriteHead = sizeof(fuse_in_header) + sizeof(fuse_write_in);

// Below this the copy is cheaper than the system calls for a pipe.
constexpr std::size_t kLeastSplice = std::size_t{128} * 1024;

// Replies that are not data: the longest are lists of extended attributes (64 KiB) and directories.
constexpr std::size_t kLeastReply = std::size_t{128} * 1024;

std::size_t rounded(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit; }

// With these the kernel has not looked at the reply yet: one without a body needs no memory.
bool wants_memory(int refused) { return refused == ENOMEM || refused == EAGAIN; }

// `refused`: 0, or the errno for a reply of `size` bytes. Some only say that nobody waits for it any more.
void report(int refused, std::size_t size) {
  if (refused == 0 || refused == ENOENT || refused == ENODEV || refused == EPERM || refused == EBADF) return;
  static log::RateLimit limit;
  log::warn_limited(limit, "the kernel refused a reply of {} bytes: {}", size, to_string(Errno{refused}));
}

}  // namespace

std::size_t payload_room(std::size_t max_write) {
  return rounded(std::max(max_write, kLeastReply), static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
}

ChannelSlot::ChannelSlot(SlotPool& pool, std::size_t max_write) : pool_(pool) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  request_room_ = payload_room(max_write) + kWriteHead;
  reply_size_ = payload_room(max_write);
  const std::size_t head = rounded(kWriteHead, page);
  // Memory that is never touched costs nothing, which a heap would not promise.
  mapping_size_ = head + (request_room_ - kWriteHead) + reply_size_;
  void* mapping = mmap(nullptr, mapping_size_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<std::byte*>(mapping);
  request_data_ = mapping_ + head - kWriteHead;
  reply_data_ = request_data_ + request_room_;
  if (pool.splices()) least_file_range = kLeastSplice;
}

ChannelSlot::~ChannelSlot() { munmap(mapping_, mapping_size_); }

Result<bool> ChannelSlot::receive() {
  const auto size = pool_.channel().read(room());
  if (!size) {
    if (size.error().value == EAGAIN) return false;
    return fail(size.error().value);
  }
  accept({request_data_, *size});
  return true;
}

void ChannelSlot::accept(std::span<const std::byte> bytes) {
  // SAFETY: the engine only reads what `request` lists.
  request_vector_[0] = {const_cast<std::byte*>(bytes.data()), bytes.size()};
  reply_vector_[0] = {reply_data_, reply_size_};
  request = IoVecs(request_vector_);
  reply_room = IoVecs(reply_vector_);
  can_reply = true;
}

int ChannelSlot::send(std::span<iovec> reply, RequestId unique, std::size_t body_size, int error) {
  fuse_out_header out{};
  out.unique = unique.get();
  out.error = -error;
  out.len = static_cast<std::uint32_t>(sizeof out + body_size);
  reply[0] = {&out, sizeof out};
  auto sent = pool_.channel().write(reply);
  if (!sent && wants_memory(sent.error().value)) {
    out.error = -(error != 0 ? error : EIO);
    out.len = sizeof out;
    sent = pool_.channel().write(reply.first(1));
  }
  const int refused = sent ? 0 : sent.error().value;
  report(refused, out.len);
  return refused;
}

int ChannelSlot::done(RequestId unique, int error, std::size_t body_size) {
  std::array<iovec, 2> reply{iovec{}, {reply_data_, body_size}};
  const int refused = send(std::span(reply).first(body_size != 0 ? 2 : 1), unique, body_size, error);
  give_back();
  return refused;
}

int ChannelSlot::done_with(RequestId unique, std::span<const iovec> body) {
  std::size_t size = 0;
  for (const iovec& part : body) size += part.iov_len;
  // More parts than one system call takes, or more bytes than was asked for.
  if (body.size() >= UIO_MAXIOV || size > reply_size_) return Slot::done_with(unique, body);
  static constexpr std::size_t kFew = 8;
  std::array<iovec, kFew + 1> few;
  std::vector<iovec> many;
  if (body.size() > kFew) many.resize(body.size() + 1);
  const std::span<iovec> reply = many.empty() ? std::span(few).first(body.size() + 1) : std::span(many);
  std::ranges::copy(body, reply.begin() + 1);
  const int refused = send(reply, unique, size, 0);
  give_back();
  return refused;
}

int ChannelSlot::done_with_file(RequestId unique, const FileRange& range) {
  if (range.size >= least_file_range && range.size <= reply_size_) {
    if (const auto sent = splice(unique, range)) return *sent;
  }
  return Slot::done_with_file(unique, range);
}

std::optional<int> ChannelSlot::splice(RequestId unique, const FileRange& range) {
  ReplyPipe* pipe = ReplyPipe::of_this_thread();
  if (pipe == nullptr || !pipe->fits(range.size)) return std::nullopt;
  fuse_out_header out{};
  out.unique = unique.get();
  out.len = static_cast<std::uint32_t>(sizeof out + range.size);
  const auto filled = pipe->fill(bytes_of(out), range);
  if (!filled) return std::nullopt;
  if (*filled == range.size) {
    const int refused = pipe->send(pool_.channel().fd(), out.len);
    if (wants_memory(refused)) return done(unique, EIO, 0);
    report(refused, out.len);
    give_back();
    return refused;
  }
  // The file ended, or cannot give more at once. What is in the pipe is gone from a file that has a position
  // of its own; it goes out as bytes.
  const auto drained = pipe->drain(sizeof out, std::span(reply_data_, *filled));
  if (!drained) return done(unique, drained.error().value, 0);
  return range.offset < 0 ? done(unique, 0, *filled) : done_with_rest(unique, range, *filled);
}

void ChannelSlot::done_without_reply() { give_back(); }

void ChannelSlot::give_back() { pool_.give_back(*this); }

SlotPool::~SlotPool() {
  for (ChannelSlot* slot : free_) delete slot;
}

ChannelSlot* SlotPool::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      ChannelSlot* slot = free_.back();
      free_.pop_back();
      ++lent_;
      slot->release_head();
      return slot;
    }
  }
  try {
    auto made = std::make_unique<ChannelSlot>(*this, max_write_);
    const std::lock_guard lock(mutex_);
    free_.reserve(lent_ + 1);  // so that giving back needs no memory
    ++lent_;
    return made.release();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void SlotPool::give_back(ChannelSlot& slot) {
  const std::lock_guard lock(mutex_);
  free_.push_back(&slot);
  --lent_;
}

std::size_t SlotPool::lent() {
  const std::lock_guard lock(mutex_);
  return lent_;
}

}  // namespace fusewire::devfuse
