#include "virtiofs-bench/target.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <latch>
#include <thread>

namespace fusewire::bench {
namespace {

constexpr unsigned kForgetDepth = 1024;
constexpr std::size_t kForgetStride = 64;
constexpr std::size_t kClientData = std::size_t{1} << 20;
constexpr unsigned kBuildDepth = 32;
constexpr std::size_t kBuildPages = 32;
// Headers and arguments of a request and its reply (FUSE_HEADER_OVERHEAD in fs/fuse/virtio_fs.c).
constexpr std::size_t kHeaderBuffers = 4;

std::size_t slot_bytes(std::size_t data) {
  return kPageSize + (data + kPageSize - 1) / kPageSize * kPageSize;
}

// The memory that the deepest case wants of one queue, and the tree's making.
std::size_t arena_bytes(const Options& options) {
  std::size_t data = 0;
  for (const WorkloadKind* kind : options.workloads) data = std::max(data, kind->data_bytes);
  return std::max(*std::ranges::max_element(options.depths) * slot_bytes(data),
                  kBuildDepth * slot_bytes(kBuildPages * kPageSize));
}

// What is asked of a server.
driver::ServerOptions wanted_server(const Options& options) {
  driver::ServerOptions wanted;
  wanted.request_queues = *std::ranges::max_element(options.queues);
  wanted.fewer_queues = true;
  wanted.ring_size = options.ring_size;
  wanted.packed = options.packed;
  wanted.memory_bytes = wanted.request_queues * (arena_bytes(options) + kPageSize) + slot_bytes(kClientData) +
                        kForgetDepth * kForgetStride + 4 * kPageSize;
  return wanted;
}

}  // namespace

Expected<std::unique_ptr<Target>> Target::open(const Options& options, std::size_t index, const Site& site) {
  auto subject = Subject::open(options, index, site, wanted_server(options));
  if (!subject) return failed(subject.error());
  std::unique_ptr<Target> target(new Target(std::move(*subject)));
  if (auto ready = target->prepare(options, index); !ready) return target->subject_->failure(ready.error());
  return target;
}

Expected<void> Target::prepare(const Options& options, std::size_t index) {
  driver::Server& server = subject_->server();
  guestmem::SharedMemory& memory = server.memory();
  for (unsigned i = 0; i < server.request_queues(); ++i) {
    const auto arena = memory.allocate(arena_bytes(options), kPageSize);
    if (!arena) return failed("no guest memory for the requests");
    arenas_.push_back(*arena);
  }
  const auto single = memory.allocate(slot_bytes(kClientData), kPageSize);
  const auto forgets = memory.allocate(kForgetDepth * kForgetStride, kForgetStride);
  if (!single || !forgets) return failed("no guest memory for the requests");
  client_ = std::make_unique<Client>(server.request_queue(0), subject_->link(), *single);
  forgets_ = std::make_unique<Forgets>(server.hiprio(), subject_->link(), *forgets,
                                       std::min(kForgetDepth, options.ring_size));

  const auto init = client_->init();
  if (!init) return failed(init.error());
  limits_ = *init;
  ring_size_ = options.ring_size;
  tree_.sizes = options.tree;
  tree_.name = fmt::format("virtiofs-bench.{}.{}", ::getpid(), index);
  tree_.data_name = fmt::format("virtiofs-bench.{}.data", ::getpid());
  auto places = build_slots();
  return TreeBuilder(*client_, server.request_queue(0), subject_->link(), *forgets_, places).build(tree_);
}

std::size_t Target::descriptors(std::size_t pages) const {
  return (subject_->server().features() & virtio::kIndirectDesc) != 0 ? 1 : pages + kHeaderBuffers;
}

std::vector<Slot> Target::build_slots() const {
  const std::size_t pages = std::min<std::size_t>(kBuildPages, ring_size_ - kHeaderBuffers);
  const auto depth = static_cast<unsigned>(ring_size_ / descriptors(pages));
  return slots(0, std::min(depth, kBuildDepth), pages * kPageSize);
}

std::vector<Slot> Target::slots(unsigned queue, unsigned depth, std::size_t data_bytes) const {
  std::vector<Slot> slots;
  slots.reserve(depth);
  const std::size_t size = slot_bytes(data_bytes);
  for (unsigned i = 0; i < depth; ++i) {
    const auto& arena = arenas_[queue];
    slots.emplace_back(guestmem::SharedMemory::Piece{guestmem::GuestAddress(arena.guest.get() + i * size),
                                                     arena.host + i * size, size},
                       i);
  }
  return slots;
}

std::string Target::obstacle(const Case& point) const {
  if (point.queues > queues()) return fmt::format("it has {} of {} request queues", queues(), point.queues);
  const std::size_t data = point.workload->data_bytes;
  const std::size_t pages = data / kPageSize;
  // A kernel without FUSE_MAX_PAGES sends 32 at most (FUSE_DEFAULT_MAX_PAGES_PER_REQ).
  const std::size_t max_pages = (limits_.flags & FUSE_MAX_PAGES) != 0 ? limits_.max_pages : 32;
  if (pages > max_pages || data > limits_.max_write)
    return fmt::format("it takes requests of up to {} KiB",
                       std::min(max_pages * kPageSize, std::size_t{limits_.max_write}) >> 10);
  // Linux keeps a request within the ring, indirect descriptors or not.
  if (pages + kHeaderBuffers > ring_size_)
    return fmt::format("{} pages do not fit into a ring of {}", pages, ring_size_);
  if (point.depth * descriptors(pages) > ring_size_)
    return fmt::format("{} requests do not fit into a ring of {}", point.depth, ring_size_);
  return {};
}

Expected<Target::Crew> Target::muster(const Case& point, const Options& options) {
  Crew crew;
  for (unsigned i = 0; i < point.queues; ++i) {
    crew.slots.push_back(slots(i, point.depth, point.workload->data_bytes));
    if (options.uid)
      for (Slot& slot : crew.slots.back()) slot.set_user(*options.uid);
    crew.workloads.push_back(point.workload->make({.tree = tree_,
                                                   .forgets = *forgets_,
                                                   .thread = i,
                                                   .threads = point.queues,
                                                   .depth = point.depth,
                                                   .readdir_bytes = options.readdir_bytes}));
    if (auto ready = crew.workloads[i]->prepare(*client_); !ready) return failed(ready.error());
  }
  return crew;
}

Expected<LoopTotals> Target::phase(const Case& point, Crew& crew, std::chrono::duration<double> length) {
  std::vector<Expected<void>> outcomes(point.queues);
  std::vector<LoopTotals> parts(point.queues);
  std::atomic<bool> stop{false};
  {
    // A thread may be slow to start: none begins before the last one has.
    std::latch all_there(point.queues);
    std::vector<std::jthread> threads;  // joined first
    threads.reserve(point.queues);
    for (unsigned i = 0; i < point.queues; ++i) {
      threads.emplace_back([&, i] {
        all_there.arrive_and_wait();
        outcomes[i] = drive({.queue = subject_->server().request_queue(i),
                             .slots = crew.slots[i],
                             .workload = *crew.workloads[i],
                             .wait = point.wait,
                             .length = std::chrono::duration_cast<Clock::duration>(length),
                             .stop = stop,
                             .link = subject_->link(),
                             .thread = i},
                            parts[i]);
        if (!outcomes[i]) stop = true;
      });
    }
  }
  LoopTotals totals;
  for (unsigned i = 0; i < point.queues; ++i) {
    if (!outcomes[i]) return failed(outcomes[i].error());
    totals.operations += parts[i].operations;
    totals.bytes += parts[i].bytes;
    totals.latency.merge(parts[i].latency);
  }
  if (auto drained = forgets_->drain(); !drained) return failed(drained.error());
  return totals;
}

Expected<RunResult> Target::run(const Case& point, const Options& options) {
  auto crew = muster(point, options);
  if (!crew) return subject_->failure(crew.error());
  if (auto warm = phase(point, *crew, options.warmup); !warm) return subject_->failure(warm.error());

  const Meter meter(*subject_);
  auto totals = phase(point, *crew, options.seconds);
  if (!totals) return subject_->failure(totals.error());
  RunResult result = meter.read();
  result.operations = totals->operations;
  result.bytes = totals->bytes;
  result.latency = totals->latency;
  for (const auto& workload : crew->workloads)
    if (auto done = workload->finish(*client_); !done) return subject_->failure(done.error());
  return result;
}

Expected<void> Target::close() {
  auto places = build_slots();
  driver::Server& server = subject_->server();
  auto done =
      TreeBuilder(*client_, server.request_queue(0), subject_->link(), *forgets_, places).remove(tree_);
  if (done) done = client_->destroy();
  if (done) done = server.stop();
  if (!done) return subject_->failure(done.error());
  return {};
}

}  // namespace fusewire::bench
