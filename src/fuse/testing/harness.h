// Test kit for anything above the engine: build a request, send it through an Engine in plain memory, look at
// the whole reply. Used by unit tests of src/fuse and src/passthrough.
#pragma once

#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "fuse/engine.h"
#include "fusewire/bytes.h"

namespace fusewire::testing {

// The bytes of one request; each call appends.
class Request {
 public:
  Request(std::uint32_t opcode, NodeId node = kRootNode) {
    header_.opcode = opcode;
    header_.nodeid = node.get();
    header_.unique = next_unique();
    header_.pid = 4321;
  }
  Request& uid(std::uint32_t uid) { return header_.uid = uid, *this; }
  Request& gid(std::uint32_t gid) { return header_.gid = gid, *this; }
  Request& unique(std::uint64_t unique) { return header_.unique = unique, *this; }
  // Overrides fuse_in_header::len, which otherwise is right.
  Request& length(std::uint32_t length) { return length_ = length, *this; }
  Request& extensions_size(std::size_t bytes) {
    header_.total_extlen = static_cast<std::uint16_t>(bytes / 8);
    return *this;
  }
  template <class T>
  Request& arg(const T& structure) {
    return bytes(bytes_of(structure));
  }
  // The text and its NUL.
  Request& name(std::string_view text) {
    bytes(as_bytes(text));
    body_.push_back(std::byte{0});
    return *this;
  }
  Request& bytes(std::span<const std::byte> data) {
    body_.insert(body_.end(), data.begin(), data.end());
    return *this;
  }
  // Room for the reply's body in bytes (default 64 KiB); nullopt-like -1: not even for the header.
  Request& room(int body_bytes) { return room_ = body_bytes, *this; }
  int room() const { return room_; }
  // Cuts request and reply room into pieces of this size (0: one piece each).
  Request& pieces(std::size_t size) { return piece_ = size, *this; }
  std::size_t piece() const { return piece_; }
  // Which queue it comes from.
  Request& queue(unsigned queue) { return queue_ = queue, *this; }
  unsigned queue() const { return queue_; }
  // The transport would rather have parts of files of this size or more as ranges.
  Request& least_file_range(std::size_t size) { return least_file_range_ = size, *this; }
  std::size_t least_file_range() const { return least_file_range_; }
  std::uint64_t unique() const { return header_.unique; }

  std::vector<std::byte> encode() const {
    fuse_in_header header = header_;
    header.len = length_ != 0 ? length_ : static_cast<std::uint32_t>(sizeof header + body_.size());
    std::vector<std::byte> all(sizeof header + body_.size());
    std::memcpy(all.data(), &header, sizeof header);
    if (!body_.empty()) std::memcpy(all.data() + sizeof header, body_.data(), body_.size());
    return all;
  }

 private:
  static std::uint64_t next_unique() {
    static std::atomic<std::uint64_t> last{0};
    return last += 2;
  }
  fuse_in_header header_{};
  std::uint32_t length_ = 0;
  std::vector<std::byte> body_;
  int room_ = 65536;
  std::size_t piece_ = 0;
  unsigned queue_ = 1;
  std::size_t least_file_range_ = SIZE_MAX;
};

struct Answer {
  bool replied = false;  // false: the request ended without a reply
  int error = 0;
  std::uint64_t unique = 0;
  std::vector<std::byte> body;
  bool as_range = false;  // it came as the range of a file

  // The body's beginning as a structure of the protocol, zero where the body is shorter.
  template <class T>
  T as() const {
    T value{};
    if (!body.empty()) std::memcpy(&value, body.data(), std::min(sizeof value, body.size()));
    return value;
  }
  std::string_view text() const { return as_text(body); }
};

// A request in plain memory. Lives until its answer was taken.
class MemorySlot final : public Slot {
 public:
  explicit MemorySlot(const Request& from) : MemorySlot(from.encode(), from.room(), from.piece()) {
    queue = from.queue();
    least_file_range = from.least_file_range();
  }
  // The first bytes of a request: its header's length is set to how many there are, as far as it is there.
  static std::unique_ptr<MemorySlot> truncated(std::vector<std::byte> bytes) {
    const auto length = static_cast<std::uint32_t>(bytes.size());
    std::memcpy(bytes.data(), &length, std::min(sizeof length, bytes.size()));
    return std::unique_ptr<MemorySlot>(new MemorySlot(std::move(bytes), 65536, 0));
  }

  // Whether the answer is there; and the answer itself, waited for.
  bool answered() const {
    const std::lock_guard lock(mutex_);
    return done_;
  }
  Answer wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_; });
    return answer_;
  }

  int done(RequestId unique, int error, std::size_t body_size) override {
    finish({.replied = true,
            .error = error,
            .unique = unique.get(),
            .body = {body_.begin(), body_.begin() + static_cast<std::ptrdiff_t>(body_size)},
            .as_range = as_range_});
    return 0;
  }
  int done_with_file(RequestId unique, const FileRange& range) override {
    as_range_ = true;
    return Slot::done_with_file(unique, range);
  }
  void done_without_reply() override { finish({}); }

 private:
  MemorySlot(std::vector<std::byte> bytes, int room, std::size_t piece) : bytes_(std::move(bytes)) {
    body_.resize(room > 0 ? static_cast<std::size_t>(room) : 0);
    cut(bytes_, piece, request_vectors_);
    cut(body_, piece, reply_vectors_);
    request = IoVecs(request_vectors_);
    reply_room = IoVecs(reply_vectors_);
    can_reply = room >= 0;
  }
  static void cut(std::vector<std::byte>& memory, std::size_t piece, std::vector<iovec>& vectors) {
    if (piece == 0) piece = std::max<std::size_t>(memory.size(), 1);
    for (std::size_t at = 0; at < memory.size(); at += piece)
      vectors.push_back({memory.data() + at, std::min(piece, memory.size() - at)});
  }
  void finish(Answer answer) {
    const std::lock_guard lock(mutex_);
    if (done_) std::abort();  // answered twice
    done_ = true;
    answer_ = std::move(answer);
    changed_.notify_all();
  }

  std::vector<std::byte> bytes_, body_;
  std::vector<iovec> request_vectors_, reply_vectors_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  bool as_range_ = false;
  Answer answer_;
};

// An engine over `file_system`, driven like a kernel would.
class Harness {
 public:
  explicit Harness(FileSystem& file_system) : engine_(file_system) {}

  Engine& engine() { return engine_; }

  // Everything a new kernel offers but what only other transports can do.
  static constexpr std::uint64_t kAllCaps = ~(std::uint64_t{1} << 31);
  Answer init(std::uint64_t caps = kAllCaps, std::uint32_t minor = kMinor) {
    fuse_init_in in{};
    in.major = kMajor;
    in.minor = minor;
    in.max_readahead = 128 * 1024;
    in.flags = static_cast<std::uint32_t>(caps);
    in.flags2 = static_cast<std::uint32_t>(caps >> 32);
    return send(Request(FUSE_INIT).arg(in));
  }
  // Sends and waits for the end of the request.
  Answer send(const Request& request) {
    MemorySlot slot(request);
    engine_.submit(slot);
    return slot.wait();
  }
  // Sends; the answer is in the slot, now or later. The slot must live until then.
  std::unique_ptr<MemorySlot> start(const Request& request) {
    auto slot = std::make_unique<MemorySlot>(request);
    engine_.submit(*slot);
    return slot;
  }

 private:
  Engine engine_;
};

}  // namespace fusewire::testing
