#include "virtiofs-bench/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <unordered_map>

#include "fusewire/bytes.h"
#include "fusewire/result.h"
#include "recording/identifiers.h"
#include "recording/reader.h"
#include "virtiofs-bench/replay_place.h"

namespace fusewire::bench {
namespace {

using recording::Identifier;

// The most that a request or reply of Linux can have: 256 pages and what goes with them.
constexpr std::size_t kMaxBytes = std::size_t{260} * kPageSize;
constexpr unsigned kMaxDepth = 1024;
constexpr unsigned kUnanswered = 256;  // requests without reply that are under way at a time

std::string_view operation_name(std::uint32_t opcode) {
  switch (opcode) {
#define FUSE_OP(method, Type, number, In, Tail, Reply) \
  case number:                                         \
    return #Type;
#define FUSE_ENGINE_OP(Type, number, In, Reply) \
  case number:                                  \
    return #Type;
#include "fusewire/ops.def"
    default:
      return "an unknown operation";
  }
}

std::string words(int error) { return error == 0 ? "success" : to_string(Errno{error}); }

std::uint32_t opcode_of(const recording::Request& request) {
  fuse_in_header header{};
  std::memcpy(&header, request.bytes.data(), std::min(request.bytes.size(), sizeof header));
  return header.opcode;
}

bool possible(const recording::Request& request) {
  return request.bytes.size() >= sizeof(fuse_in_header) && request.size >= request.bytes.size() &&
         request.size <= kMaxBytes && request.room <= kMaxBytes;
}

bool reads_directory(std::uint32_t opcode) { return opcode == FUSE_READDIR || opcode == FUSE_READDIRPLUS; }

// Where a reader of the directory goes on after this reply; 0: it was empty.
std::uint64_t last_position(std::uint32_t opcode, std::span<const std::byte> body) {
  const std::size_t before = opcode == FUSE_READDIRPLUS ? sizeof(fuse_entry_out) : 0;
  std::uint64_t position = 0;
  while (body.size() >= before + sizeof(fuse_dirent)) {
    fuse_dirent entry;
    std::memcpy(&entry, body.data() + before, sizeof entry);
    const std::size_t size = FUSE_DIRENT_ALIGN(before + sizeof entry + entry.namelen);
    if (size > body.size()) break;
    position = entry.off;
    body = body.subspan(size);
  }
  return position;
}

class Replayer {
 public:
  Replayer(Subject& subject, const Recording& recording, Wait wait)
      : subject_(subject), recording_(recording), waiter_(queue(), subject.link(), wait) {}

  Expected<ReplayResult> run() {
    if (auto made = make_places(); !made) return failed(made.error());
    const Meter meter(subject_);
    for (const recording::Record& record : recording_.records) {
      if (subject_.link().interrupted) break;
      const auto* request = std::get_if<recording::Request>(&record);
      auto done = request != nullptr ? send(*request) : settle(std::get<recording::Reply>(record));
      if (!done) return failed(done.error());
    }
    while (queue().outstanding() != 0)
      if (auto taken = take(); !taken) return failed(taken.error());
    if (auto drained = drain_unanswered(0); !drained) return failed(drained.error());
    const RunResult cost = meter.read();
    result_.run.seconds = cost.seconds;
    result_.run.cpu_seconds = cost.cpu_seconds;
    result_.run.kicks = cost.kicks;
    result_.run.interrupts = cost.interrupts;
    result_.run.footprint = cost.footprint;
    return std::move(result_);
  }

 private:
  driver::Queue& queue() { return subject_.server().request_queue(0); }
  driver::Queue& hiprio() { return subject_.server().hiprio(); }

  Expected<void> make_places() {
    const auto make = [&](unsigned count, std::vector<ReplayPlace>& places, std::vector<unsigned>& free) {
      for (unsigned i = 0; i < count; ++i) {
        const auto memory = subject_.server().memory().allocate(
            ReplayPlace::size(recording_.request_bytes, recording_.reply_bytes), kPageSize);
        if (!memory) return false;
        places.emplace_back(*memory, recording_.request_bytes);
        free.push_back(i);
      }
      return true;
    };
    if (!make(recording_.depth, places_, free_) || !make(kUnanswered, unanswered_, free_unanswered_))
      return failed("no guest memory for the requests");
    return {};
  }

  // The request's bytes with this server's identifiers in them; none: it refers to what this server has not.
  std::optional<std::vector<std::byte>> translated(const recording::Request& request) {
    std::vector<std::byte> bytes = request.bytes;
    bool known = true;
    recording::map_identifiers(bytes, [&](Identifier::Kind kind, std::uint64_t value) {
      if (kind == Identifier::Kind::node && value == FUSE_ROOT_ID) return value;
      const auto& map = kind == Identifier::Kind::node ? nodes_ : handles_;
      const auto found = map.find(value);
      known = known && found != map.end();
      return found == map.end() ? value : found->second;
    });
    if (!known) return std::nullopt;
    constexpr std::size_t kArguments = sizeof(fuse_in_header);
    if (reads_directory(opcode_of(request)) && bytes.size() >= kArguments + sizeof(fuse_read_in)) {
      fuse_read_in in;
      std::memcpy(&in, bytes.data() + kArguments, sizeof in);
      if (in.offset != 0) in.offset = positions_[in.fh];
      std::memcpy(bytes.data() + kArguments, &in, sizeof in);
    }
    return bytes;
  }

  Expected<void> send(const recording::Request& request) {
    const auto bytes = translated(request);
    if (!bytes) {
      ++result_.differences[fmt::format("{}: not sent, for it refers to what this server did not give out",
                                        operation_name(opcode_of(request)))];
      return {};
    }
    if (has_no_reply(opcode_of(request))) return send_unanswered(request, *bytes);
    if (free_.empty()) return failed("the recording's replies do not belong to its requests");
    const unsigned index = free_.back();
    ReplayPlace& place = places_[index];
    if (!place.stage(queue(), request, *bytes, index))
      return failed("the ring has no room for the recording");
    free_.pop_back();
    in_flight_[request.unique] = index;
    place.sent = Clock::now();
    queue().publish();
    if (place.opcode() == FUSE_WRITE && request.size > sizeof(fuse_in_header) + sizeof(fuse_write_in))
      result_.run.bytes += request.size - sizeof(fuse_in_header) - sizeof(fuse_write_in);
    return {};
  }

  Expected<void> send_unanswered(const recording::Request& request, std::span<const std::byte> bytes) {
    if (auto drained = drain_unanswered(kUnanswered - 1); !drained) return drained;
    const unsigned index = free_unanswered_.back();
    if (!unanswered_[index].stage(hiprio(), request, bytes, index))
      return failed("the high-priority queue has no room for the recording");
    free_unanswered_.pop_back();
    hiprio().publish();
    ++result_.run.operations;
    return {};
  }

  // Until at most `most` requests without reply are under way.
  Expected<void> drain_unanswered(unsigned most) {
    for (;;) {
      while (const auto used = hiprio().take())
        free_unanswered_.push_back(static_cast<unsigned>(used->cookie));
      if (hiprio().outstanding() <= most) return {};
      if (auto waited = wait_for_used(hiprio(), subject_.link()); !waited) return waited;
    }
  }

  // Waits for a reply, and looks at all that have come.
  Expected<void> take() {
    auto used = queue().take();
    while (!used) {
      if (auto waited = waiter_.wait(); !waited) return waited;
      used = queue().take();
    }
    const auto now = Clock::now();
    for (; used; used = queue().take()) {
      ReplayPlace& place = places_[used->cookie];
      if (auto right = place.check(used->length); !right)
        return failed(fmt::format("{}: {}", operation_name(place.opcode()), right.error()));
      if (place.opcode() == FUSE_INIT && place.error() != 0)
        return failed(fmt::format("INIT: {}", words(place.error())));
      ++result_.run.operations;
      result_.run.latency.add(static_cast<std::uint64_t>((now - place.sent).count()));
      if (place.opcode() == FUSE_READ) result_.run.bytes += place.body().size();
      answered_[place.request().unique] = static_cast<unsigned>(used->cookie);
      in_flight_.erase(place.request().unique);
    }
    return {};
  }

  // A recorded reply: what follows it in the recording may be sent once ours has come.
  Expected<void> settle(const recording::Reply& recorded) {
    while (in_flight_.contains(recorded.unique))
      if (auto taken = take(); !taken) return taken;
    const auto found = answered_.find(recorded.unique);
    if (found == answered_.end()) return {};  // It was not sent.
    ReplayPlace& place = places_[found->second];
    if (place.error() != recorded.error)
      ++result_.differences[fmt::format("{}: {}, not {}", operation_name(place.opcode()),
                                        words(place.error()), words(recorded.error))];
    else if (recorded.error == 0)
      learn(place, recorded);
    free_.push_back(found->second);
    answered_.erase(found);
    return {};
  }

  // What this server calls what the recorded one gave out.
  void learn(const ReplayPlace& place, const recording::Reply& recorded) {
    const auto ours = recording::identifiers_in_reply(place.opcode(), place.body());
    const bool by_name = place.opcode() == FUSE_READDIRPLUS;
    for (std::size_t i = 0; i < recorded.identifiers.size(); ++i) {
      const Identifier& theirs = recorded.identifiers[i];
      auto match = by_name ? std::ranges::find(ours, theirs.name, &Identifier::name)
                           : ours.begin() + static_cast<std::ptrdiff_t>(std::min(i, ours.size()));
      if (match == ours.end() || match->kind != theirs.kind) continue;
      (theirs.kind == Identifier::Kind::node ? nodes_ : handles_)[theirs.value] = match->value;
    }
    if (!reads_directory(place.opcode())) return;
    const std::uint64_t position = last_position(place.opcode(), place.body());
    const auto handle = handle_of(place.request());
    if (position != 0 && handle) positions_[*handle] = position;
  }

  // This server's handle in a recorded request that begins its arguments with one.
  std::optional<std::uint64_t> handle_of(const recording::Request& request) const {
    std::uint64_t handle = 0;
    if (request.bytes.size() < sizeof(fuse_in_header) + sizeof handle) return std::nullopt;
    std::memcpy(&handle, request.bytes.data() + sizeof(fuse_in_header), sizeof handle);
    const auto found = handles_.find(handle);
    return found == handles_.end() ? std::nullopt : std::optional(found->second);
  }

  Subject& subject_;
  const Recording& recording_;
  Waiter waiter_;
  ReplayResult result_;
  std::vector<ReplayPlace> places_, unanswered_;
  std::vector<unsigned> free_, free_unanswered_;
  std::unordered_map<std::uint64_t, unsigned> in_flight_, answered_;  // places by unique
  std::unordered_map<std::uint64_t, std::uint64_t> nodes_, handles_;  // recorded to ours
  std::unordered_map<std::uint64_t, std::uint64_t> positions_;        // by our handle
};

}  // namespace

Expected<Recording> load_recording(const std::string& path) {
  auto reader = recording::Reader::open(path);
  if (!reader) return failed(reader.error());
  Recording loaded;
  std::size_t waiting = 0;
  for (;;) {
    auto next = reader->next();
    if (!next) return failed(next.error());
    std::optional<recording::Record>& record = *next;
    if (!record) break;
    const auto* request = std::get_if<recording::Request>(&*record);
    if (request != nullptr && !possible(*request))
      return failed(fmt::format("{}: request {} has an impossible size", path, request->unique));
    if (loaded.records.empty() && (request == nullptr || opcode_of(*request) != FUSE_INIT)) break;
    if (request != nullptr) {
      loaded.request_bytes = std::max<std::size_t>(loaded.request_bytes, request->size);
      loaded.reply_bytes = std::max<std::size_t>(loaded.reply_bytes, request->room);
      waiting += has_no_reply(opcode_of(*request)) ? 0 : 1;
      loaded.depth =
          std::max(loaded.depth, static_cast<unsigned>(std::min<std::size_t>(waiting, kMaxDepth + 1)));
    } else if (waiting != 0) {
      --waiting;
    }
    loaded.records.push_back(std::move(*record));
  }
  if (loaded.records.empty()) return failed(path + " does not begin with INIT");
  if (loaded.depth > kMaxDepth)
    return failed(fmt::format("{} has more than {} requests at a time", path, kMaxDepth));
  return loaded;
}

driver::ServerOptions wanted_for(const Recording& recording, const Options& options) {
  driver::ServerOptions wanted;
  wanted.ring_size = options.ring_size;
  wanted.packed = options.packed;
  wanted.memory_bytes = (std::size_t{recording.depth} + kUnanswered) *
                            (ReplayPlace::size(recording.request_bytes, recording.reply_bytes) + kPageSize) +
                        4 * kPageSize;
  return wanted;
}

Expected<ReplayResult> replay(Subject& subject, const Recording& recording, Wait wait) {
  auto result = Replayer(subject, recording, wait).run();
  if (!result) return subject.failure(result.error());
  return result;
}

}  // namespace fusewire::bench
