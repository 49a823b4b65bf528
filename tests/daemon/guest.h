// MockGuest: a virtual machine as the daemon sees one: a front-end on its socket, guest memory, and a driver
// for each queue. No kernel: tests choose every request and how it is laid out.
//
// Used by one thread, but for the queues: each of them may be used by a thread of its own.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "daemon/daemon_process.h"
#include "fuse/testing/harness.h"
#include "guestmem/shared_memory.h"
#include "vhost_user/frontend.h"
#include "virtiofs/testing/guest_queue.h"

namespace fusewire::tests {

using testing::Answer;
using testing::Request;
using virtiofs::testing::Cut;
using virtiofs::testing::GuestQueue;
using virtiofs::testing::GuestQueueOptions;

// Everything that a new kernel offers in INIT.
inline constexpr std::uint64_t kAllCaps = ~(std::uint64_t{1} << 31);

struct GuestOptions {
  unsigned request_queues = 1;  // queue 0, hiprio, comes on top
  GuestQueueOptions queue{};
  Cut cut = Cut::like_linux;
  std::uint64_t caps = kAllCaps;
  bool dirty_log = false;   // log all writes from the start
  bool start_rings = true;  // and enable them,
  bool initialize = true;   // and send INIT on queue 1
};

class MockGuest {
 public:
  // Where guest memory begins.
  static constexpr guestmem::GuestAddress kMemoryBase{0x40000000};

  // Connects to the daemon and goes as far as the options say. What fails on the way is a failure of the
  // test.
  MockGuest(DaemonProcess& daemon, const GuestOptions& wanted = {});
  ~MockGuest();

  vhost_user::Frontend& frontend() { return *frontend_; }
  guestmem::SharedMemory& memory() { return memory_; }
  GuestQueue& queue(unsigned index) { return *queues_[index]; }
  unsigned queue_count() const { return static_cast<unsigned>(queues_.size()); }

  // INIT on queue 1; keeps the reply.
  Answer initialize(std::uint64_t caps = kAllCaps, std::uint32_t minor = kMinor,
                    std::uint32_t major = kMajor);
  const fuse_init_out& init_reply() const { return init_reply_; }

  // On the request's queue, cut as the options say.
  Answer send(const Request& request) { return queue(request.queue()).send(request, options_.cut); }
  GuestQueue::Ticket start(const Request& request) {
    return queue(request.queue()).start(request, options_.cut);
  }
  Answer wait(GuestQueue::Ticket ticket, unsigned index = 1) { return queue(index).wait(ticket); }

  // Configures the ring and starts it where it stands; does not enable it.
  void start_ring(unsigned index);
  void enable_ring(unsigned index, bool enabled = true);
  // GET_VRING_BASE. start_ring() goes on there.
  std::uint32_t stop_ring(unsigned index);
  void set_base(unsigned index, std::uint32_t base) { base_[index] = base; }

  // More memory (at most 8 GiB above the first), not yet known to the daemon; and telling it.
  guestmem::SharedMemory& make_memory(std::uint64_t gigabyte, std::size_t size);
  void plug(guestmem::SharedMemory& memory);
  void unplug(guestmem::SharedMemory& memory);

  // The dirty log: whether the page is marked; takes all marks back.
  bool is_dirty(guestmem::GuestAddress address) const;
  void clear_dirty_log();
  // LOG_ALL and the rings' logging on or off while the rings run, as at a migration's begin and end.
  void set_logging(bool on);

 private:
  virtio::RingSetup ring_setup(unsigned index);

  const GuestOptions options_;
  std::unique_ptr<vhost_user::Frontend> frontend_;
  guestmem::SharedMemory memory_;
  guestmem::SharedMemory log_;
  std::vector<std::unique_ptr<guestmem::SharedMemory>> more_;
  std::vector<std::unique_ptr<GuestQueue>> queues_;
  std::vector<std::uint32_t> base_;
  bool logging_ = false;
  fuse_init_out init_reply_{};
};

}  // namespace fusewire::tests
