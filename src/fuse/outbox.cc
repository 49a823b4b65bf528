#include "fuse/outbox.h"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "fusewire/notifier.h"

namespace fusewire {

Outbox::~Outbox() { FUSEWIRE_CHECK(!thread_.joinable()); }

void Outbox::set_channel(NotificationChannel* channel) {
  std::unique_lock lock(mutex_);
  if (channel == channel_) return;
  channel_ = channel;
  changed_.wait(lock, [this] { return senders_ == 0; });
}

void Outbox::stop() {
  set_channel(nullptr);
  std::deque<Message> dropped;  // the notifiers may end with them: not under the lock
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped.swap(messages_);
    queued_bytes_ = 0;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

Result<void> Outbox::admits(std::size_t size) {
  const std::lock_guard lock(mutex_);
  if (channel_ == nullptr) return fail(ENOSYS);
  if (size > channel_->max_size()) return fail(EMSGSIZE);
  return {};
}

Result<void> Outbox::send(std::span<const iovec> message) {
  NotificationChannel* channel = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (channel_ == nullptr) return fail(ENOSYS);
    channel = channel_;
    ++senders_;
  }
  const Result<void> sent = channel->send(message);
  const std::lock_guard lock(mutex_);
  --senders_;
  changed_.notify_all();
  return sent;
}

Result<void> Outbox::post(Message message) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return fail(ENOTCONN);
  if (messages_.size() >= Notifier::kMaxQueued) return fail(EAGAIN);
  // One message may be longer than the bound, if it is the only one.
  if (!messages_.empty() && message.bytes.size() > Notifier::kMaxQueuedBytes - queued_bytes_)
    return fail(EAGAIN);
  if (!ensure_thread()) return fail(EAGAIN);
  const std::size_t size = message.bytes.size();
  messages_.push_back(std::move(message));
  queued_bytes_ += size;
  changed_.notify_all();
  return {};
}

void Outbox::wake() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

bool Outbox::ensure_thread() {
  if (thread_.joinable()) return true;
  // Signals are for the threads that expect them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    log::error("there can be no thread that sends notifications: {}", error.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread_.joinable();
}

// ---- the thread ----

void Outbox::run() {
  pthread_setname_np(pthread_self(), "fsnotify");
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] {
      return stopping_ ||
             (!messages_.empty() && messages_.front().from->state() != Notifier::State::initializing);
    });
    if (stopping_) return;
    {
      Message message = std::move(messages_.front());
      messages_.pop_front();
      queued_bytes_ -= std::min(queued_bytes_, message.bytes.size());
      lock.unlock();
      deliver(message);
    }
    lock.lock();
  }
}

void Outbox::deliver(const Message& message) {
  if (message.from->state() == Notifier::State::gone) return;
  // SAFETY: the channel only reads what the pieces point to.
  const iovec piece{.iov_base = const_cast<std::byte*>(message.bytes.data()),
                    .iov_len = message.bytes.size()};
  const Result<void> sent = send({&piece, 1});
  if (sent) return;
  if (message.retrieve != 0) return message.from->fail_retrieve(message.retrieve, sent.error());
  // Usual: what is to be invalidated is not cached.
  if (sent.error().value == ENOENT) return;
  static log::RateLimit limit;
  log::warn_limited(limit, "a notification was not delivered: {}", to_string(sent.error()));
}

}  // namespace fusewire
