// GuestQueue: a guest's driver for one queue of a virtio-fs device, for tests: it lays requests out in guest
// memory in every odd way that virtio allows, offers them, waits for the signal and checks what came back.
//
// What breaks a rule of the device's side (a used length that is not the reply's, a byte written outside the
// descriptors, a signal that never comes) is a GoogleTest failure of the running test. Used by one thread at
// a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "fuse/testing/harness.h"
#include "fusewire/unique_fd.h"
#include "guestmem/shared_memory.h"
#include "virtio/driver_queue.h"

namespace fusewire::virtiofs::testing {

using fusewire::testing::Answer;
using fusewire::testing::Request;

// How a request and the room for its reply are cut into descriptors.
enum class Cut {
  one_piece,     // one readable descriptor, one writable
  like_linux,    // header, arguments, and pages; out header, and pages
  pages,         // pages only, scattered
  split_header,  // both headers are cut in the middle
  single_bytes,  // one byte each, as many as there are descriptors for; the rest in one
  gaps,          // as like_linux, with a descriptor of no bytes between any two
};
inline constexpr Cut kAllCuts[] = {Cut::one_piece,    Cut::like_linux,   Cut::pages,
                                   Cut::split_header, Cut::single_bytes, Cut::gaps};
const char* name_of(Cut cut);

struct GuestQueueOptions {
  unsigned size = 128;
  bool event_idx = true;
  unsigned indirect_entries = 0;  // 0: only direct chains
  std::uint16_t initial_index = 0;
  std::size_t arena = 4 << 20;  // room for the requests in flight
  bool packed = false;

  virtio::DriverOptions driver() const {
    return {.event_idx = event_idx,
            .indirect_entries = indirect_entries,
            .initial_index = initial_index,
            .packed = packed};
  }
  // Of the device's features, those that such a driver takes.
  std::uint64_t accepted(std::uint64_t offered) const;
};

// How long a test waits for what has to come: long enough for a slow machine under a sanitizer.
inline constexpr std::chrono::milliseconds kPatience{30'000};

class GuestQueue {
 public:
  // A request in flight; also the cookie of its chain.
  using Ticket = std::uint64_t;

  // Lays the rings and the arena out in `memory`, which must have room and outlive the queue.
  GuestQueue(guestmem::SharedMemory& memory, const GuestQueueOptions& options);
  static std::size_t memory_size(const GuestQueueOptions& options);

  virtio::DriverQueue& driver() { return driver_; }
  const GuestQueueOptions& options() const { return options_; }
  int kick_fd() const { return kick_.get(); }
  int call_fd() const { return call_.get(); }
  int error_fd() const { return error_.get(); }

  // Requests from now on lie in this memory, as does the room for their replies, and not in the arena.
  void use_arena(guestmem::SharedMemory& memory, std::size_t size);

  // Offers the request and kicks if the device asks for it. Waits while the ring or the arena is full.
  Ticket start(const Request& request, Cut cut = Cut::like_linux);
  // The same without telling the device: publish() shows it everything that was staged.
  Ticket stage(const Request& request, Cut cut = Cut::like_linux);
  void publish();
  // Tells the device whether or not it asks for that.
  void kick();

  // The answer to a request. Fails the test and gives ETIMEDOUT when it does not come, and at once for every
  // later wait.
  Answer wait(Ticket ticket);
  Answer send(const Request& request, Cut cut = Cut::like_linux) { return wait(start(request, cut)); }
  // The answer if it is there already; and the answer that must be there, else the test fails.
  std::optional<Answer> take(Ticket ticket);
  Answer take_now(Ticket ticket);
  // Whether a chain came back within kPatience, by looking: for a ring whose driver wants no signals.
  bool wait_without_signal();
  // Waits until there is an answer that nobody has taken yet, to whichever request; false, and no failure,
  // when none comes.
  bool wait_for_any(std::chrono::milliseconds patience = kPatience);

  unsigned in_flight() const { return static_cast<unsigned>(requests_.size()); }
  // Where the request's first readable byte lies, to be scribbled on.
  std::byte* bytes_of_request(Ticket ticket);
  // Host memory of the request and its reply room as one piece: [begin, end).
  std::pair<std::byte*, std::byte*> block_of(Ticket ticket);

  // A chain that a test builds itself with driver(): its return is awaited with wait_used().
  std::uint64_t next_cookie() { return ++last_ticket_; }
  std::optional<std::uint32_t> wait_used(std::uint64_t cookie);

 private:
  struct Piece {
    std::size_t offset = 0;  // in the request's block
    std::size_t size = 0;
  };
  struct InFlight {
    std::size_t block = 0;  // its offset in the arena
    std::size_t block_size = 0;
    std::uint64_t unique = 0;
    bool wants_reply = true;
    std::vector<Piece> readable, writable;
    std::size_t gap = 0;  // bytes of guard behind each piece
  };
  struct Plan {
    std::vector<std::size_t> readable, writable;  // sizes of the pieces
  };

  Plan plan(const Request& request, std::size_t request_size, std::size_t reply_size, Cut cut) const;
  std::optional<std::size_t> allocate(std::size_t size);
  void release(std::size_t offset, std::size_t size);
  // Takes what the device has returned.
  void collect();
  Answer finish(InFlight& request, std::uint32_t used_length);
  // Sleeps until the device signals. False when it does not.
  bool wait_for_signal(std::chrono::milliseconds patience);
  Answer give_up(const char* why);

  const GuestQueueOptions options_;
  guestmem::SharedMemory::Piece arena_;
  std::map<std::size_t, std::size_t> free_;  // offset -> size
  UniqueFd kick_, call_, error_;
  virtio::DriverQueue driver_;
  std::map<Ticket, InFlight> requests_;
  std::map<Ticket, Answer> answers_;
  std::map<std::uint64_t, std::uint32_t> raw_used_;
  Ticket last_ticket_ = 0;
  bool gave_up_ = false;
};

// A piece of `memory`, which must have room for it.
guestmem::SharedMemory::Piece allocate_from(guestmem::SharedMemory& memory, std::size_t size);

// A non-blocking event counter. Waits until it is signalled, and takes the signals.
UniqueFd make_event();
bool wait_event(int fd, std::chrono::milliseconds patience = kPatience);

}  // namespace fusewire::virtiofs::testing
