// SteadySet and SteadyMap: Abseil's hash tables, for which want of memory is an error and not the end. Theirs
// is a broken table once their allocator has thrown; so make_room() gets the memory that the next insertion
// may need before the table notices, and throws std::bad_alloc while the table is as it was.
//
// Every insertion is to have a make_room() before it, under the same lock. After that it cannot fail.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <algorithm>
#include <cstddef>
#include <new>
#include <utility>

namespace fusewire::passthrough {

// Memory that this thread's next allocation of a table takes, for the time of one make_room().
class SpareMemory {
 public:
  explicit SpareMemory(std::size_t size) : memory_(::operator new(size)), size_(size) { current_ = this; }
  SpareMemory(const SpareMemory&) = delete;
  SpareMemory& operator=(const SpareMemory&) = delete;
  ~SpareMemory() {
    current_ = nullptr;
    ::operator delete(memory_);
  }

  // Null when there is none, or not so much.
  static void* take(std::size_t size) {
    if (current_ == nullptr || current_->size_ < size) return nullptr;
    return std::exchange(current_->memory_, nullptr);
  }

 private:
  static inline constinit thread_local SpareMemory* current_ = nullptr;
  void* memory_;
  const std::size_t size_;
};

template <class T>
struct SpareAllocator {
  using value_type = T;
  SpareAllocator() = default;
  template <class U>
  SpareAllocator(const SpareAllocator<U>&) {}  // NOLINT(google-explicit-constructor): as allocators have it

  T* allocate(std::size_t count) {
    static_assert(alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
    void* const spare = SpareMemory::take(count * sizeof(T));
    return static_cast<T*>(spare != nullptr ? spare : ::operator new(count * sizeof(T)));
  }
  void deallocate(T* memory, std::size_t) { ::operator delete(memory); }
  template <class U>
  bool operator==(const SpareAllocator<U>&) const {
    return true;
  }
};

template <class Value, class Hash, class Equal>
using SteadySet = absl::flat_hash_set<Value, Hash, Equal, SpareAllocator<Value>>;

template <class Key, class Value>
using SteadyMap = absl::flat_hash_map<Key, Value, typename absl::flat_hash_map<Key, Value>::hasher,
                                      typename absl::flat_hash_map<Key, Value>::key_equal,
                                      SpareAllocator<std::pair<const Key, Value>>>;

// Throws std::bad_alloc, with which nothing has changed.
template <class Table>
void make_room(Table& table) {
  // From here on a table that is full of removed entries is tidied up in place, which needs no memory, as
  // long as no more than 25 of 32 places are taken (raw_hash_set::rehash_and_grow_if_necessary).
  constexpr std::size_t kLeast = 31;
  const std::size_t capacity = table.capacity();
  if (capacity >= kLeast && (table.size() + 1) * 32 <= capacity * 25) return;
  const std::size_t next = std::max(kLeast, 2 * capacity + 1);
  // A control byte for each place and for a group beyond the last.
  const SpareMemory spare(next * (sizeof(typename Table::value_type) + 1) + 64);
  table.reserve(next / 2 + 1);
}

}  // namespace fusewire::passthrough
