#include "driver/queue.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/event_fd.h"

namespace fusewire::driver {
namespace {

constexpr std::uint64_t kPageSize = 4096;

}  // namespace

Result<Queue> Queue::create(guestmem::SharedMemory::Piece memory, unsigned size,
                            const virtio::DriverOptions& options) {
  UniqueFd kick(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!kick) return fail_errno();
  UniqueFd call(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!call) return fail_errno();
  return Queue(memory, size, options, std::move(kick), std::move(call));
}

void Queue::publish() {
  ring_.publish();
  if (!ring_.kick_needed()) return;
  signal_event(kick_);
  ++kicks_;
}

void Queue::drain() {
  std::uint64_t signals = 0;
  while (::read(call_.get(), &signals, sizeof signals) < 0) {
    if (errno != EINTR) return;  // EAGAIN: none came
  }
  interrupts_ += signals;
}

bool Queue::wait(std::chrono::milliseconds patience, int interrupt_fd) {
  const auto end = std::chrono::steady_clock::now() + patience;
  std::array<pollfd, 2> events{{{call_.get(), POLLIN, 0}, {interrupt_fd, POLLIN | POLLRDHUP, 0}}};
  while (!arm()) {
    if (ring_.broken()) return false;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    const int ready = ::poll(events.data(), events.size(), static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    if (events[0].revents != 0) drain();
    // What came is taken before anybody looks at why the wait was to end.
    if (events[1].revents != 0 && !ring_.has_used()) return false;
  }
  disarm();
  return true;
}

void append_pages(const guestmem::SharedMemory::Piece& piece, std::vector<virtio::GuestBuffer>& buffers) {
  std::uint64_t address = piece.guest.get();
  for (std::size_t left = piece.size; left != 0;) {
    const std::size_t length = std::min<std::size_t>(left, kPageSize - address % kPageSize);
    buffers.push_back({guestmem::GuestAddress(address), static_cast<std::uint32_t>(length)});
    address += length;
    left -= length;
  }
}

}  // namespace fusewire::driver
