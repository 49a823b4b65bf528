// What goes on in a queue's thread besides the calls: the reads in its io_uring.
#include <atomic>
#include <cerrno>
#include <new>
#include <utility>

#include "base/log.h"
#include "io/ring.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough {
namespace {

// Reads of one thread that wait for a disk at once. What is beyond goes to the pool.
constexpr unsigned kRingEntries = 256;

class RingWork final : public ThreadWork {
 public:
  explicit RingWork(std::unique_ptr<io::Ring> ring) : ring_(std::move(ring)) {}
  int event_fd() const override { return ring_->event_fd(); }
  bool ready() const override { return ring_->ready(); }
  bool turn() override { return ring_->turn(); }
  void finish_all() override { ring_->finish_all(); }

 private:
  std::unique_ptr<io::Ring> ring_;
};

}  // namespace

std::unique_ptr<ThreadWork> PassthroughFs::thread_work() {
  if (config_.thread_pool_size == 0) return nullptr;  // each queue waits itself
  Errno error{ENOMEM};  // for want of memory; there is a way without a ring, too
  try {
    auto ring = io::Ring::create(kRingEntries);
    if (ring) return std::make_unique<RingWork>(std::move(*ring));
    error = ring.error();
  } catch (const std::bad_alloc&) {
    error = Errno{ENOMEM};
  }
  static std::atomic_flag said;
  if (!said.test_and_set())
    log::info("no io_uring ({}): reads that miss the page cache go to threads", to_string(error));
  return nullptr;
}

}  // namespace fusewire::passthrough
