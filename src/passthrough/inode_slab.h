// InodeSlab: the memory of the inodes, and how a node id finds its inode without a table: the id is the
// number of the inode's place (its lower 32 bits) and how often the place was given back before (the upper
// ones), so that no id ever means two inodes. Place 1 is the root's alone, whose id is 1 always.
//
// Places lie in chunks of a megabyte, aligned to their size, so that an inode knows its chunk by its address.
// A chunk keeps its address as long as the slab lives: whoever has an id from a guest may look at the place
// at any time. What empty chunks hold beyond one in reserve goes back to the host.
//
// Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "fusewire/result.h"
#include "fusewire/wire.h"
#include "passthrough/inode.h"

namespace fusewire::passthrough {

class InodeSlab {
 public:
  InodeSlab() = default;
  InodeSlab(const InodeSlab&) = delete;
  InodeSlab& operator=(const InodeSlab&) = delete;
  // All inodes must have been given back.
  ~InodeSlab();

  // A place for an inode that nobody holds and nobody knows. Errors: ENFILE when there are as many as may be
  // known (67 million); ENOMEM.
  Result<Inode*> take();
  // The root's place. Errors: EBUSY when the last root is still held; ENOMEM.
  Result<Inode*> take_root();
  // Called by an inode without holders.
  static void give_back(Inode& inode);

  // The place that `node` names, whatever is there now; null when there never was anything.
  Inode* place_of(NodeId node) const;
  // The same by its number.
  Inode* place_at(std::uint32_t number) const;
  static NodeId node_of(const Inode& inode);
  static std::uint32_t number_of(const Inode& inode);

  // Calls `visit(inode)` for each place that was ever used.
  template <class Visit>
  void for_each(const Visit& visit) {
    for (std::size_t chunk = 0; chunk < kMostChunks; ++chunk) {
      if (chunks_[chunk].load(std::memory_order_acquire) == nullptr) return;
      for (std::uint32_t place = 1; place < kPlaces; ++place) {
        Inode* const inode = place_at(static_cast<std::uint32_t>(chunk) * kPlaces + place);
        if (inode == nullptr) break;
        visit(*inode);
      }
    }
  }

  static constexpr std::size_t kChunkSize = std::size_t{1} << 20;
  static constexpr std::uint32_t kPlaces = kChunkSize / sizeof(Inode);

 private:
  static constexpr std::size_t kMostChunks = 4096;
  static constexpr std::uint32_t kRootPlace = FUSE_ROOT_ID;
  static constexpr std::uint32_t kFull = kPlaces - 1;  // place 0 is the Chunk
  static constexpr std::size_t kNone = kMostChunks;

  // Stands at the beginning of each chunk's memory.
  struct Chunk {
    InodeSlab* slab;
    std::uint32_t number;
    std::atomic<std::uint32_t> begun;  // places below this one have been used since the memory was fresh
    std::uint32_t first_free;          // 0: none
    std::uint32_t first_generation;    // that of places that have not begun
    std::uint32_t next_generation;     // above that of every place
  };
  static_assert(sizeof(Chunk) <= sizeof(Inode));

  static Chunk& chunk_of(const Inode& inode);
  static Inode* place(Chunk& chunk, std::uint32_t number);
  Result<void> add_chunk();
  Inode* take_from(Chunk& locked);
  void put_back(Inode& inode);
  // Which chunk's memory is to go back to the host, now that this one is empty, if any.
  std::size_t pick_surplus(std::size_t emptied);
  void give_memory_back(std::size_t number);

  std::array<std::atomic<Chunk*>, kMostChunks> chunks_{};
  std::mutex mutex_;
  std::vector<std::uint32_t> live_;  // by chunk: places that are taken
  std::size_t lowest_with_room_ = 0;
  std::size_t reserve_ = kNone;  // a chunk that was empty when it was put here
};

}  // namespace fusewire::passthrough
