#include "virtiofs/testing/guest_queue.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <thread>

#include "base/check.h"

namespace fusewire::virtiofs::testing {
namespace {

using virtio::GuestBuffer;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kGuard = 64;
constexpr std::byte kGuardByte{0xee};
constexpr std::byte kUnwritten{0xdd};

std::size_t sum(const std::vector<std::size_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
}

// `size` bytes as pieces of at most `piece`.
void cut_evenly(std::size_t size, std::size_t piece, std::vector<std::size_t>& to) {
  for (; size > piece; size -= piece) to.push_back(piece);
  if (size != 0) to.push_back(size);
}

// Joins pieces at the end until there are at most `most`, which is at least 1.
void join_tail(std::vector<std::size_t>& pieces, std::size_t most) {
  if (pieces.size() <= most) return;
  const std::size_t rest =
      std::accumulate(pieces.begin() + static_cast<std::ptrdiff_t>(most) - 1, pieces.end(), std::size_t{0});
  pieces.resize(most - 1);
  pieces.push_back(rest);
}

std::vector<std::size_t> cut_side(std::size_t size, std::size_t header, Cut cut, std::size_t most) {
  std::vector<std::size_t> pieces;
  header = std::min(header, size);
  switch (cut) {
    case Cut::one_piece:
      pieces.push_back(size);
      break;
    case Cut::pages:
      cut_evenly(size, kPage, pieces);
      break;
    case Cut::split_header:
      cut_evenly(std::min(header / 2 + 1, size), kPage, pieces);
      cut_evenly(size - sum(pieces), kPage - 7, pieces);
      break;
    case Cut::single_bytes:
      pieces.assign(std::min(size, most), 1);
      if (size > pieces.size() && !pieces.empty()) pieces.back() += size - pieces.size();
      break;
    case Cut::like_linux:
    case Cut::gaps:
      if (header != 0) pieces.push_back(header);
      cut_evenly(size - header, kPage, pieces);
      break;
  }
  if (cut == Cut::gaps && most >= 3) {
    join_tail(pieces, (most + 1) / 2);
    std::vector<std::size_t> with_gaps;
    for (const std::size_t piece : pieces) {
      if (!with_gaps.empty()) with_gaps.push_back(0);
      with_gaps.push_back(piece);
    }
    return with_gaps;
  }
  join_tail(pieces, most);
  return pieces;
}

}  // namespace

const char* name_of(Cut cut) {
  switch (cut) {
    case Cut::one_piece:
      return "OnePiece";
    case Cut::like_linux:
      return "LikeLinux";
    case Cut::pages:
      return "Pages";
    case Cut::split_header:
      return "SplitHeader";
    case Cut::single_bytes:
      return "SingleBytes";
    case Cut::gaps:
      return "Gaps";
  }
  return "?";
}

guestmem::SharedMemory::Piece allocate_from(guestmem::SharedMemory& memory, std::size_t size) {
  const auto piece = memory.allocate(size, kPage);
  FUSEWIRE_CHECK(piece.has_value());
  return *piece;
}

UniqueFd make_event() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  FUSEWIRE_CHECK(event.get() >= 0);
  return event;
}

bool wait_event(int fd, std::chrono::milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    pollfd watched{fd, POLLIN, 0};
    const int count = ::poll(&watched, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (count < 0 && errno == EINTR) continue;
    if (count != 1) return false;
    std::uint64_t counter = 0;
    return ::read(fd, &counter, sizeof counter) == sizeof counter;
  }
}

std::uint64_t GuestQueueOptions::accepted(std::uint64_t offered) const {
  if (!event_idx) offered &= ~virtio::kEventIdx;
  if (indirect_entries == 0) offered &= ~virtio::kIndirectDesc;
  if (!packed) offered &= ~virtio::kRingPacked;
  return offered;
}

std::size_t GuestQueue::memory_size(const GuestQueueOptions& options) {
  return virtio::DriverQueue::memory_size(options.size, options.driver()) + options.arena + 2 * kPage;
}

GuestQueue::GuestQueue(guestmem::SharedMemory& memory, const GuestQueueOptions& options)
    : options_(options),
      kick_(make_event()),
      call_(make_event()),
      error_(make_event()),
      driver_(allocate_from(memory, virtio::DriverQueue::memory_size(options.size, options.driver())),
              options.size, options.driver()) {
  use_arena(memory, options.arena);
}

void GuestQueue::use_arena(guestmem::SharedMemory& memory, std::size_t size) {
  FUSEWIRE_CHECK(requests_.empty());
  arena_ = allocate_from(memory, size);
  free_ = {{0, size}};
}

std::optional<std::size_t> GuestQueue::allocate(std::size_t size) {
  const auto found = std::ranges::find_if(free_, [size](const auto& range) { return range.second >= size; });
  if (found == free_.end()) return std::nullopt;
  const auto [offset, room] = *found;
  free_.erase(found);
  if (room > size) free_.emplace(offset + size, room - size);
  return offset;
}

void GuestQueue::release(std::size_t offset, std::size_t size) {
  auto at = free_.emplace(offset, size).first;
  if (const auto next = std::next(at); next != free_.end() && at->first + at->second == next->first) {
    at->second += next->second;
    free_.erase(next);
  }
  if (at == free_.begin()) return;
  const auto previous = std::prev(at);
  if (previous->first + previous->second != at->first) return;
  previous->second += at->second;
  free_.erase(at);
}

// A chain has at most as many buffers as the ring, or one indirect table, has descriptors. The side with more
// bytes gets what the other leaves.
GuestQueue::Plan GuestQueue::plan(const Request& request, std::size_t request_size, std::size_t reply_size,
                                  Cut cut) const {
  const std::size_t most = std::max<std::size_t>(options_.size, options_.indirect_entries);
  const bool has_reply = request.room() >= 0 && reply_size != 0;
  if (!has_reply) return {cut_side(request_size, sizeof(fuse_in_header), cut, most), {}};
  const std::size_t small_share = std::max<std::size_t>(most / 4, 1);
  Plan plan;
  if (request_size >= reply_size) {
    plan.writable = cut_side(reply_size, sizeof(fuse_out_header), cut, small_share);
    plan.readable = cut_side(request_size, sizeof(fuse_in_header), cut, most - plan.writable.size());
  } else {
    plan.readable = cut_side(request_size, sizeof(fuse_in_header), cut, small_share);
    plan.writable = cut_side(reply_size, sizeof(fuse_out_header), cut, most - plan.readable.size());
  }
  return plan;
}

GuestQueue::Ticket GuestQueue::stage(const Request& request, Cut cut) {
  const Ticket ticket = ++last_ticket_;
  if (gave_up_) return ticket;
  const std::vector<std::byte> bytes = request.encode();
  const std::size_t reply_size =
      request.room() < 0 ? 0 : sizeof(fuse_out_header) + static_cast<std::size_t>(request.room());
  const Plan cuts = plan(request, bytes.size(), reply_size, cut);

  InFlight in_flight;
  in_flight.unique = request.unique();
  in_flight.wants_reply = reply_size != 0;
  // Pieces lie in the block in reverse order with guards between them, so that nothing may be inferred from
  // where they lie.
  in_flight.gap = kGuard;
  const std::size_t count = cuts.readable.size() + cuts.writable.size();
  in_flight.block_size = (bytes.size() + reply_size + (count + 1) * in_flight.gap + 15) & ~std::size_t{15};

  std::optional<std::size_t> block;
  const bool indirect = count > 1 && count <= options_.indirect_entries;
  while (!(block = allocate(in_flight.block_size)) || driver_.free_descriptors() < (indirect ? 1 : count)) {
    if (block) release(*block, in_flight.block_size);
    if (requests_.empty()) {
      ADD_FAILURE() << "a chain of " << count << " descriptors and " << in_flight.block_size
                    << " bytes does not fit this queue";
      gave_up_ = true;
      return ticket;
    }
    publish();
    if (!wait_for_signal(kPatience)) {
      give_up("the ring is full and nothing comes back");
      return ticket;
    }
    collect();
  }
  in_flight.block = *block;
  std::memset(arena_.host + *block, static_cast<int>(kGuardByte), in_flight.block_size);

  std::size_t offset = in_flight.block_size - in_flight.gap;
  const auto place = [&](const std::vector<std::size_t>& sizes, std::vector<Piece>& pieces) {
    std::vector<GuestBuffer> buffers;
    for (const std::size_t size : sizes) {
      if (size == 0) {  // may point anywhere
        buffers.push_back({guestmem::GuestAddress(~std::uint64_t{0}), 0});
        continue;
      }
      offset -= size;
      pieces.push_back({offset, size});
      buffers.push_back(
          {guestmem::GuestAddress(arena_.guest.get() + *block + offset), static_cast<std::uint32_t>(size)});
      offset -= in_flight.gap;
    }
    return buffers;
  };
  const auto readable = place(cuts.readable, in_flight.readable);
  const auto writable = place(cuts.writable, in_flight.writable);
  std::size_t done = 0;
  for (const Piece& piece : in_flight.readable) {
    std::memcpy(arena_.host + *block + piece.offset, bytes.data() + done, piece.size);
    done += piece.size;
  }
  for (const Piece& piece : in_flight.writable)
    std::memset(arena_.host + *block + piece.offset, static_cast<int>(kUnwritten), piece.size);

  FUSEWIRE_CHECK(driver_.stage(readable, writable, ticket));
  requests_.emplace(ticket, std::move(in_flight));
  return ticket;
}

void GuestQueue::publish() {
  driver_.publish();
  if (driver_.kick_needed()) kick();
}

void GuestQueue::kick() {
  const std::uint64_t one = 1;
  EXPECT_EQ(::write(kick_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
}

GuestQueue::Ticket GuestQueue::start(const Request& request, Cut cut) {
  const Ticket ticket = stage(request, cut);
  publish();
  return ticket;
}

void GuestQueue::collect() {
  while (const auto used = driver_.poll_used()) {
    const auto found = requests_.find(used->cookie);
    if (found == requests_.end()) {
      raw_used_[used->cookie] = used->length;
      continue;
    }
    answers_[used->cookie] = finish(found->second, used->length);
    release(found->second.block, found->second.block_size);
    requests_.erase(found);
  }
  EXPECT_FALSE(driver_.broken()) << "the device returned a chain that it did not have";
}

// virtio 1.2, 5.11.6, and what Linux makes of it: the used length is that of the reply, and the out header's.
Answer GuestQueue::finish(InFlight& request, std::uint32_t used_length) {
  const std::byte* block = arena_.host + request.block;
  std::size_t guarded = 0;
  for (std::size_t i = 0; i < request.gap; ++i) guarded += block[request.block_size - 1 - i] != kGuardByte;
  for (const auto* pieces : {&request.readable, &request.writable})
    for (const Piece& piece : *pieces)
      for (std::size_t i = 1; i <= request.gap; ++i) guarded += block[piece.offset - i] != kGuardByte;
  EXPECT_EQ(guarded, 0u) << "bytes outside of the chain were written";

  std::vector<std::byte> reply;
  for (const Piece& piece : request.writable)
    reply.insert(reply.end(), block + piece.offset, block + piece.offset + piece.size);
  if (used_length == 0) return {};
  if (used_length < sizeof(fuse_out_header) || used_length > reply.size()) {
    ADD_FAILURE() << "a used length of " << used_length << " for a room of " << reply.size();
    return {.replied = true, .error = EIO, .unique = 0, .body = {}};
  }
  fuse_out_header header;
  std::memcpy(&header, reply.data(), sizeof header);
  EXPECT_EQ(header.len, used_length);
  EXPECT_EQ(header.unique, request.unique);
  EXPECT_LE(header.error, 0);
  if (header.error != 0) {
    EXPECT_EQ(header.len, sizeof header);
  }
  return {.replied = true,
          .error = -header.error,
          .unique = header.unique,
          .body = {reply.begin() + sizeof header, reply.begin() + used_length}};
}

bool GuestQueue::wait_for_signal(std::chrono::milliseconds patience) {
  // As a driver does it: asks for a signal, looks once more, sleeps.
  if (driver_.enable_interrupts()) return true;
  return wait_event(call_.get(), patience);
}

Answer GuestQueue::give_up(const char* why) {
  gave_up_ = true;
  ADD_FAILURE() << why << (driver_.has_used() ? " (but there is a used chain: the signal is lost)" : "");
  return {.replied = false, .error = ETIMEDOUT, .unique = 0, .body = {}};
}

std::optional<Answer> GuestQueue::take(Ticket ticket) {
  collect();
  const auto found = answers_.find(ticket);
  if (found == answers_.end()) return std::nullopt;
  Answer answer = std::move(found->second);
  answers_.erase(found);
  return answer;
}

Answer GuestQueue::take_now(Ticket ticket) {
  if (auto answer = take(ticket)) return *std::move(answer);
  return give_up("the answer is not there yet");
}

Answer GuestQueue::wait(Ticket ticket) {
  for (;;) {
    if (auto answer = take(ticket)) return std::move(*answer);
    if (gave_up_) return {.replied = false, .error = ETIMEDOUT, .unique = 0, .body = {}};
    if (!requests_.contains(ticket)) return give_up("no such request is in flight");
    if (!wait_for_signal(kPatience)) return give_up("no answer");
  }
}

bool GuestQueue::wait_without_signal() {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!driver_.has_used()) {
    if (gave_up_ || std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

bool GuestQueue::wait_for_any(std::chrono::milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    collect();
    if (!answers_.empty() || !raw_used_.empty()) return true;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    (void)wait_for_signal(left);
  }
}

std::optional<std::uint32_t> GuestQueue::wait_used(std::uint64_t cookie) {
  for (;;) {
    collect();
    if (const auto found = raw_used_.find(cookie); found != raw_used_.end()) {
      const std::uint32_t length = found->second;
      raw_used_.erase(found);
      return length;
    }
    if (gave_up_) return std::nullopt;
    if (!wait_for_signal(kPatience)) {
      give_up("a chain does not come back");
      return std::nullopt;
    }
  }
}

std::byte* GuestQueue::bytes_of_request(Ticket ticket) {
  const InFlight& request = requests_.at(ticket);
  return arena_.host + request.block + request.readable.front().offset;
}

std::pair<std::byte*, std::byte*> GuestQueue::block_of(Ticket ticket) {
  const InFlight& request = requests_.at(ticket);
  std::byte* begin = arena_.host + request.block;
  return {begin, begin + request.block_size};
}

}  // namespace fusewire::virtiofs::testing
