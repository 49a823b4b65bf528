#include "passthrough/inode_slab.h"

#include <sys/mman.h>

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "base/check.h"

namespace fusewire::passthrough {
namespace {

constexpr std::size_t kPage = 4096;
constexpr int kGenerationShift = 32;

// Zeroed memory, aligned to its size. Null when there is none.
std::byte* map_aligned(std::size_t size) {
  void* const mapped = ::mmap(nullptr, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(mapped);
  // SAFETY: the address as a number, for its alignment only.
  const std::size_t before = (size - reinterpret_cast<std::uintptr_t>(begin) % size) % size;
  if (before != 0) ::munmap(begin, before);
  ::munmap(begin + before + size, size - before);
  return begin + before;
}

}  // namespace

InodeSlab::~InodeSlab() {
  for (std::size_t i = 0; i < live_.size(); ++i)
    ::munmap(chunks_[i].load(std::memory_order_acquire), kChunkSize);
}

InodeSlab::Chunk& InodeSlab::chunk_of(const Inode& inode) {
  // SAFETY: chunks are aligned to their size, and a Chunk stands at the beginning of each. Its memory is
  // never const, whatever the inode is seen as.
  const auto* const at = reinterpret_cast<const std::byte*>(&inode);
  const auto* const begin = at - reinterpret_cast<std::uintptr_t>(at) % kChunkSize;
  return *reinterpret_cast<Chunk*>(const_cast<std::byte*>(begin));
}

Inode* InodeSlab::place(Chunk& chunk, std::uint32_t number) {
  // SAFETY: places follow one another from the beginning of the chunk on; the first is the Chunk itself.
  return reinterpret_cast<Inode*>(reinterpret_cast<std::byte*>(&chunk) + number * sizeof(Inode));
}

std::uint32_t InodeSlab::number_of(const Inode& inode) {
  const Chunk& chunk = chunk_of(inode);
  // SAFETY: two addresses within one mapping.
  const auto* const begin = reinterpret_cast<const std::byte*>(&chunk);
  const auto offset = static_cast<std::size_t>(reinterpret_cast<const std::byte*>(&inode) - begin);
  return chunk.number * kPlaces + static_cast<std::uint32_t>(offset / sizeof(Inode));
}

NodeId InodeSlab::node_of(const Inode& inode) {
  return NodeId{(std::uint64_t{inode.generation_} << kGenerationShift) | number_of(inode)};
}

Inode* InodeSlab::place_of(NodeId node) const {
  return place_at(static_cast<std::uint32_t>(node.get() & 0xffff'ffff));
}

Inode* InodeSlab::place_at(std::uint32_t number) const {
  const std::size_t index = number / kPlaces;
  const std::uint32_t in_chunk = number % kPlaces;
  if (index >= kMostChunks || in_chunk == 0) return nullptr;
  Chunk* const chunk = chunks_[index].load(std::memory_order_acquire);
  if (chunk == nullptr || in_chunk >= chunk->begun.load(std::memory_order_acquire)) return nullptr;
  return place(*chunk, in_chunk);
}

Result<void> InodeSlab::add_chunk() {
  const std::size_t number = live_.size();
  if (number == kMostChunks) return fail(ENFILE);
  std::byte* const memory = map_aligned(kChunkSize);
  if (memory == nullptr) return fail(ENOMEM);
  auto* const chunk = new (memory) Chunk{.slab = this,
                                         .number = static_cast<std::uint32_t>(number),
                                         .begun = 1,
                                         .first_free = 0,
                                         .first_generation = 0,
                                         .next_generation = 1};
  live_.push_back(0);
  if (number == 0) {
    // The root's place counts as taken always.
    FUSEWIRE_CHECK(take_from(*chunk) == place(*chunk, kRootPlace));
  }
  chunks_[number].store(chunk, std::memory_order_release);
  return {};
}

Inode* InodeSlab::take_from(Chunk& locked) {
  ++live_[locked.number];
  if (locked.first_free != 0) {
    Inode* const inode = place(locked, locked.first_free);
    locked.first_free = static_cast<std::uint32_t>(inode->ino_);  // the next one: see put_back()
    return inode;
  }
  const std::uint32_t number = locked.begun.load(std::memory_order_relaxed);
  auto* const inode = new (place(locked, number)) Inode(locked.first_generation);
  locked.begun.store(number + 1, std::memory_order_release);
  return inode;
}

// The memory for a new chunk, once in 16383 inodes, is the only system call under the lock.
Result<Inode*> InodeSlab::take() {
  const std::lock_guard lock(mutex_);
  while (lowest_with_room_ < live_.size() && live_[lowest_with_room_] == kFull) ++lowest_with_room_;
  if (lowest_with_room_ == live_.size()) {
    live_.reserve(live_.size() + 1);
    if (const auto added = add_chunk(); !added) return fail(added.error());
  }
  return take_from(*chunks_[lowest_with_room_].load(std::memory_order_relaxed));
}

Result<Inode*> InodeSlab::take_root() {
  const std::lock_guard lock(mutex_);
  if (live_.empty()) {
    live_.reserve(1);
    if (const auto added = add_chunk(); !added) return fail(added.error());
  }
  Inode* const root = place(*chunks_[0].load(std::memory_order_relaxed), kRootPlace);
  if (root->state_.load(std::memory_order_acquire) != 0) return fail(EBUSY);
  return root;
}

void InodeSlab::give_back(Inode& inode) { chunk_of(inode).slab->put_back(inode); }

void InodeSlab::put_back(Inode& inode) {
  const std::uint32_t number = number_of(inode);
  if (number == kRootPlace) return;
  std::size_t surplus = kNone;
  {
    const std::lock_guard lock(mutex_);
    // A place that has used up its generations stays taken for ever.
    if (inode.generation_ == std::numeric_limits<std::uint32_t>::max()) return;
    Chunk& chunk = chunk_of(inode);
    chunk.next_generation = std::max(chunk.next_generation, ++inode.generation_);
    inode.ino_ = std::exchange(chunk.first_free, number % kPlaces);
    lowest_with_room_ = std::min<std::size_t>(lowest_with_room_, chunk.number);
    if (--live_[chunk.number] != 0) return;
    surplus = pick_surplus(chunk.number);
    if (surplus == kNone) return;
    live_[surplus] = kFull;  // nobody takes from it meanwhile
  }
  give_memory_back(surplus);
}

// With one empty chunk kept, a guest that forgets and looks up around the boundary of a chunk costs no system
// calls. The lower one is kept, since places are taken from the lowest chunk that has any.
std::size_t InodeSlab::pick_surplus(std::size_t emptied) {
  if (reserve_ == kNone || reserve_ == emptied || live_[reserve_] != 0) {
    reserve_ = emptied;
    return kNone;
  }
  const std::size_t surplus = std::max(reserve_, emptied);
  reserve_ = std::min(reserve_, emptied);
  return surplus;
}

void InodeSlab::give_memory_back(std::size_t number) {
  Chunk& chunk = *chunks_[number].load(std::memory_order_relaxed);
  // Who looks at a place while its memory goes sees an inode that nobody knows, as before.
  chunk.begun.store(1, std::memory_order_release);
  std::byte* const memory = reinterpret_cast<std::byte*>(&chunk);
  ::madvise(memory + kPage, kChunkSize - kPage, MADV_DONTNEED);
  chunk.first_free = 0;
  chunk.first_generation = chunk.next_generation;
  const std::lock_guard lock(mutex_);
  live_[number] = 0;
  lowest_with_room_ = std::min(lowest_with_room_, number);
}

}  // namespace fusewire::passthrough
