// HandleTable<T>: what the guest has opened, by the number it was given. Numbers are counters from 1 on,
// never used twice in the life of a table: the guest may send any number, and one that it has released means
// nothing.
//
// A request that found an entry keeps it alive, also while another request releases it. Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "fusewire/wire.h"
#include "passthrough/steady_table.h"

namespace fusewire::passthrough {

template <class T>
class HandleTable {
 public:
  FileHandle insert(std::shared_ptr<T> entry) {
    const FileHandle handle{next_.fetch_add(1, std::memory_order_relaxed)};
    Shard& shard = shard_of(handle);
    const std::lock_guard lock(shard.mutex);
    make_room(shard.entries);
    shard.entries[handle.get()] = std::move(entry);
    return handle;
  }

  // Null when there is no such handle.
  std::shared_ptr<T> find(FileHandle handle) const {
    const Shard& shard = shard_of(handle);
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.entries.find(handle.get());
    return found == shard.entries.end() ? nullptr : found->second;
  }

  // Takes the handle out. What it stood for is closed when its last user lets go of it; null when there was
  // none.
  std::shared_ptr<T> remove(FileHandle handle) {
    Shard& shard = shard_of(handle);
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.entries.find(handle.get());
    if (found == shard.entries.end()) return nullptr;
    auto entry = std::move(found->second);
    shard.entries.erase(found);
    return entry;
  }

  void clear() {
    for (Shard& shard : shards_) {
      decltype(shard.entries) dropped;
      {
        const std::lock_guard lock(shard.mutex);
        dropped.swap(shard.entries);
      }
    }
  }

  std::size_t size() const {
    std::size_t sum = 0;
    for (const Shard& shard : shards_) {
      const std::lock_guard lock(shard.mutex);
      sum += shard.entries.size();
    }
    return sum;
  }

 private:
  static constexpr std::size_t kShards = 16;
  struct alignas(64) Shard {
    mutable std::mutex mutex;
    SteadyMap<std::uint64_t, std::shared_ptr<T>> entries;
  };

  Shard& shard_of(FileHandle handle) { return shards_[handle.get() % kShards]; }
  const Shard& shard_of(FileHandle handle) const { return shards_[handle.get() % kShards]; }

  std::array<Shard, kShards> shards_;
  std::atomic<std::uint64_t> next_{1};
};

}  // namespace fusewire::passthrough
