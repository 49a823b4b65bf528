#include "virtiofs-mount/worker.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <array>
#include <cstring>

#include "base/log.h"
#include "virtiofs-mount/reply_check.h"

namespace fusewire::carry {
namespace {

// Requests in one go before the server is told of them.
constexpr unsigned kBatch = 32;

enum Source : std::uint32_t { kChannel, kCall, kSocket, kWake };

Result<void> add(const UniqueFd& epoll, int fd, std::uint32_t events, Source source) {
  epoll_event event{.events = events, .data = {.u32 = source}};
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno();
  return {};
}

void raise(int event_fd) {
  const std::uint64_t one = 1;
  // EAGAIN: the counter is full, and it wakes all the same.
  while (::write(event_fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

}  // namespace

Result<std::unique_ptr<Worker>> Worker::create(Shared& shared, unsigned index, devfuse::Channel channel,
                                               std::vector<Slot> slots) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno();
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno();
  std::unique_ptr<Worker> worker(
      new Worker(shared, index, std::move(channel), std::move(slots), std::move(epoll), std::move(wake)));
  if (auto watched = worker->watch(); !watched) return fail(watched.error());
  return worker;
}

Result<void> Worker::watch() {
  for (Slot& slot : slots_) free_.push_back(&slot);
  out_.resize(slots_.size());
  scratch_.resize(slots_.front().request_room().size());
  if (auto added = add(epoll_, channel_.fd(), 0, kChannel); !added) return added;
  if (auto added = add(epoll_, queue_.call_fd(), EPOLLIN, kCall); !added) return added;
  if (auto added = add(epoll_, shared_.server.socket_fd(), EPOLLRDHUP, kSocket); !added) return added;
  return add(epoll_, wake_.get(), EPOLLIN, kWake);
}

void Worker::wake() { raise(wake_.get()); }

void Worker::run() {
  serve();
  --shared_.running;
  raise(shared_.alarm_fd);
}

void Worker::serve() {
  queue_.disarm();
  for (;;) {
    if (shared_.abandoned.load() && !gone_) abandon();
    if (idle() && (unmounted_ || shared_.closing.load())) return;
    bool busy = false;
    if (gone_) {
      refuse_new();
    } else {
      busy = take_requests();
      queue_.publish();
      busy = deliver() || busy;
    }
    if (!busy) sleep();
  }
}

// -- From the kernel to the server --

bool Worker::take_requests() {
  if (unstaged_ != nullptr) stage(*std::exchange(unstaged_, nullptr));
  unsigned taken = 0;
  while (taken < kBatch && !free_.empty() && unstaged_ == nullptr && !unmounted_ && !shared_.closing.load()) {
    Slot& slot = *free_.back();
    const auto size = channel_.read(slot.request_room());
    if (!size) {
      if (size.error().value == EAGAIN) break;
      if (size.error().value != ENODEV)
        log::error("reading /dev/fuse: {}; the mount is given up", to_string(size.error()));
      unmounted_ = true;
      break;
    }
    ++taken;
    begin(slot, *size);
  }
  return taken != 0;
}

// What becomes of a request that stands in `slot`, the last free one.
void Worker::begin(Slot& slot, std::size_t size) {
  const auto bytes = slot.request_room().first(size);
  fuse_in_header header{};
  std::memcpy(&header, bytes.data(), std::min(size, sizeof header));
  const Operation* operation = find_operation(header.opcode);
  if (operation == nullptr) {
    static log::RateLimit limit;
    log::warn_limited(limit, "the kernel sent opcode {}, which is not known here: answered with ENOSYS",
                      header.opcode);
    return answer_error(header, ENOSYS);
  }
  switch (header.opcode) {
    case FUSE_INTERRUPT:
      // ENOSYS makes the kernel stop sending it. Nobody waits for an answer.
      if (!shared_.interrupts) return answer_error(header, ENOSYS);
      [[fallthrough]];
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
      shared_.hiprio->send(bytes, shared_.observers);
      return;
    default:
      break;
  }
  if (!slot.begin(size, *operation)) {
    static log::RateLimit limit;
    log::warn_limited(limit, "{} (request {}, node {}) of {} bytes has no place in a slot: answered with EIO",
                      operation->name, header.unique, header.nodeid, size);
    return answer_error(header, EIO);
  }
  free_.pop_back();
  if (!shared_.observers.empty()) {
    slot.began = std::chrono::steady_clock::now();
    for (Observer* observer : shared_.observers)
      observer->request(index_ + 1, slot.header(), slot.request(), slot.room());
  }
  stage(slot);
}

void Worker::stage(Slot& slot) {
  readable_.clear();
  writable_.clear();
  slot.append_readable(readable_);
  slot.append_writable(writable_);
  const auto number = static_cast<std::size_t>(&slot - slots_.data());
  if (queue_.stage(readable_, writable_, number)) {
    out_[number] = 1;
  } else if (queue_.outstanding() != 0) {
    unstaged_ = &slot;
  } else {
    log::error("{} needs {} descriptors, more than the ring has", slot.operation().name,
               readable_.size() + writable_.size());
    answer_error(slot.header(), EIO);
    release(slot);
  }
}

// -- From the server to the kernel --

bool Worker::deliver() {
  bool any = false;
  while (const auto used = queue_.take()) {
    any = true;
    Slot& slot = slots_[used->cookie];
    out_[used->cookie] = 0;
    pass_on(slot, used->length);
    release(slot);
  }
  if (queue_.broken()) {
    log::error("the server returned a chain on queue {} that it did not have: nothing more is expected of it",
               index_ + 1);
    abandon();
  }
  return any;
}

void Worker::pass_on(Slot& slot, std::uint32_t used) {
  if (slot.operation().body == Body::none) return;
  const fuse_in_header& request = slot.header();
  const fuse_out_header header = slot.reply_header();
  if (const auto fault = find_fault(header, used, request.unique, slot.room())) {
    static log::RateLimit limit;
    log::emit_limited(limit, log::Level::error,
                      "the server's reply to {} (request {}, node {}) is broken: {}; answered with EIO",
                      slot.operation().name, request.unique, request.nodeid, *fault);
    return answer_error(request, EIO);
  }
  const auto body = slot.reply_body().first(used - sizeof header);
  for (Observer* observer : shared_.observers)
    observer->reply(index_ + 1, request, header, body, std::chrono::steady_clock::now() - slot.began);
  // SAFETY: writev(2) only reads through the pointers. The header is the copy that was checked.
  const std::array<iovec, 2> pieces{
      {{const_cast<fuse_out_header*>(&header), sizeof header}, {body.data(), body.size()}}};
  write(request, std::span(pieces).first(body.empty() ? 1 : 2));
}

void Worker::answer_error(const fuse_in_header& request, int error) {
  fuse_out_header header{.len = sizeof header, .error = -error, .unique = request.unique};
  const iovec piece{&header, sizeof header};
  for (Observer* observer : shared_.observers) observer->failed(index_ + 1, request, error);
  write(request, {&piece, 1});
}

void Worker::write(const fuse_in_header& request, std::span<const iovec> reply) {
  const auto written = channel_.write(reply);
  if (written) return;
  const int error = written.error().value;
  // Nobody waits for it any more: a process was killed, or the mount is going.
  if (error == ENOENT || error == ENODEV || error == EPERM) return;
  static log::RateLimit limit;
  log::emit_limited(limit, log::Level::error, "the kernel rejects the reply to {} (request {}, node {}): {}",
                    name_of_opcode(request.opcode), request.unique, request.nodeid,
                    to_string(written.error()));
}

// -- The end of the server --

void Worker::abandon() {
  if (std::exchange(gone_, true)) return;
  if (!shared_.abandoned.exchange(true)) raise(shared_.alarm_fd);
  // What the server has done is done.
  while (const auto used = queue_.take()) {
    out_[used->cookie] = 0;
    pass_on(slots_[used->cookie], used->length);
    release(slots_[used->cookie]);
  }
  for (std::size_t number = 0; number < slots_.size(); ++number) {
    if (out_[number] == 0 && &slots_[number] != unstaged_) continue;
    out_[number] = 0;
    answer_error(slots_[number].header(), ENOTCONN);
    release(slots_[number]);
  }
  unstaged_ = nullptr;
}

// Not by way of a slot: the server may have gone from the socket and still write to its memory.
void Worker::refuse_new() {
  while (!unmounted_) {
    const auto size = channel_.read(scratch_);
    if (!size) {
      unmounted_ = size.error().value != EAGAIN;
      return;
    }
    fuse_in_header header{};
    std::memcpy(&header, scratch_.data(), std::min(*size, sizeof header));
    if (header.opcode != FUSE_FORGET && header.opcode != FUSE_BATCH_FORGET) answer_error(header, ENOTCONN);
  }
}

// -- Waiting --

void Worker::watch_channel(bool wanted) {
  if (wanted == channel_watched_) return;
  channel_watched_ = wanted;
  epoll_event event{.events = wanted ? std::uint32_t{EPOLLIN} : 0, .data = {.u32 = kChannel}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, channel_.fd(), &event);
}

void Worker::sleep() {
  if (!gone_ && queue_.arm()) return queue_.disarm();
  watch_channel(gone_ || (!free_.empty() && unstaged_ == nullptr && !shared_.closing.load()));
  std::array<epoll_event, 4> events;
  const int count = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
  if (!gone_) queue_.disarm();
  for (int i = 0; i < count; ++i) {
    switch (static_cast<Source>(events[static_cast<std::size_t>(i)].data.u32)) {
      case kChannel:
        // Disconnected, which is reported whether it is asked for or not; more reading would say ENODEV.
        if ((events[static_cast<std::size_t>(i)].events & EPOLLERR) != 0) {
          unmounted_ = true;
          epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, channel_.fd(), nullptr);
        }
        break;
      case kCall:
        queue_.drain();
        break;
      case kSocket:
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, shared_.server.socket_fd(), nullptr);
        abandon();
        break;
      case kWake: {
        std::uint64_t wakes = 0;
        while (::read(wake_.get(), &wakes, sizeof wakes) < 0 && errno == EINTR) {
        }
        break;
      }
    }
  }
}

}  // namespace fusewire::carry
