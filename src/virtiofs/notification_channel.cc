#include "virtiofs/notification_channel.h"

namespace fusewire::virtiofs {

Result<void> NotificationChannel::send(std::span<const iovec> message) {
  Waiting mine{.message = message, .ended = false, .result = {}};
  {
    const std::lock_guard lock(mutex_);
    if (!open_) return fail(ENOTCONN);
    waiting_.push_back(&mine);
    count_.store(waiting_.size());
  }
  wake_();
  std::unique_lock lock(mutex_);
  if (!ended_.wait_for(lock, patience_, [&mine] { return mine.ended; })) end(mine, fail(EAGAIN));
  return mine.result;
}

void NotificationChannel::open() {
  const std::lock_guard lock(mutex_);
  open_ = true;
}

void NotificationChannel::close() {
  const std::lock_guard lock(mutex_);
  open_ = false;
  while (!waiting_.empty()) end(*waiting_.front(), fail(ENOTCONN));
}

bool NotificationChannel::offer(const std::function<bool(std::span<const iovec>, std::size_t)>& take) {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty()) return false;
  Waiting& oldest = *waiting_.front();
  std::size_t size = 0;
  for (const iovec& piece : oldest.message) size += piece.iov_len;
  if (!take(oldest.message, size)) return false;
  end(oldest, {});
  return true;
}

void NotificationChannel::end(Waiting& waiting, Result<void> result) {
  std::erase(waiting_, &waiting);
  count_.store(waiting_.size());
  waiting.ended = true;
  waiting.result = result;
  ended_.notify_all();
}

}  // namespace fusewire::virtiofs
