// InodeTable: every inode that the guest knows, by node id and by identity, with its lookup count. The guest
// sees one node for one inode of the host at any time, and never one node for two.
//
// An inode that is held by a descriptor cannot lose its number to another one. One that is held by a file
// handle can: the host may have removed it and made another one. So who finds one of those by its identity
// has to show that the inode at hand has the same handle. If not, the old one is gone: it leaves the table of
// identities (is detached), its node answers ESTALE from then on, and the new one gets a node of its own.
//
// Each change of a lookup count happens under the lock of the shard of the inode's identity, so that a lookup
// that runs against the last forget either revives the node before it is taken out or gets a new node: none
// is lost and none comes back from the dead. find() takes no lock.
//
// Thread-safe. Makes no system calls under its locks (InodeSlab says which one is an exception).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

#include "passthrough/inode.h"
#include "passthrough/inode_slab.h"
#include "passthrough/steady_table.h"

namespace fusewire::passthrough {

class InodeTable {
 public:
  InodeTable();
  InodeTable(const InodeTable&) = delete;
  InodeTable& operator=(const InodeTable&) = delete;
  ~InodeTable() { clear(); }

  // What a new inode is reached by.
  struct Reach {
    MountRef mount;
    UniqueFd path_fd;                  // none: by handle alone
    std::optional<HostHandle> handle;  // wanted without path_fd
  };

  // Makes an inode the root, node 1. Its count never falls to zero. There must be no root. Errors: EBUSY when
  // a request still uses the root before; ENOMEM.
  Result<void> insert_root(const struct statx& stat, Reach reach);

  // The inode with this number, or null: the guest made the number up, or has forgotten it. It counts as
  // used.
  InodePtr find(NodeId node) const { return find(node, Inode::kUsed); }
  // The same, without counting as a use.
  InodePtr find_quietly(NodeId node) const { return find(node, 0); }

  // What time it is for the table: inodes that are in it were entered before, those that are not will be
  // later.
  std::uint32_t now() const { return clock_.load(std::memory_order_acquire); }

  // An inode that was entered before `since`. With `counted` it has one lookup more: it was held by a
  // descriptor all the time, so that a statx(2) made after `since` that has its identity is of it. Otherwise
  // it is held by its handle and nothing has changed: it was that inode if the handle is still found there,
  // and is acquired by acquire_again() then.
  struct Known {
    InodePtr inode;
    bool counted = false;
  };
  Known find_known(const Identity& identity, std::uint32_t since);

  // The inode that `stat` describes with one lookup more. The caller has it open (so that it is alive), and
  // `reach` says how to keep it if it is not known yet: only then, `reach` is moved from. Null when it cannot
  // be told without reach.handle whether this inode is the known one: come again with it. Errors: ENFILE,
  // ENOMEM.
  struct Acquired {
    InodePtr inode;
    bool entered = false;  // it was not known
  };
  Result<Acquired> acquire(const struct statx& stat, Reach& reach);

  // One lookup more for an inode that the caller holds; false when it is out of the table by now.
  bool acquire_again(const InodePtr& inode);

  // Takes `lookups` off the count and the inode out of the table when none is left. More than there are count
  // as all; unknown nodes and the root are left alone.
  void forget(NodeId node, std::uint64_t lookups);

  // Takes out everything, the root included.
  void clear();

  // Inodes in the table, the root included.
  std::size_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  // The sets hold the numbers of the inodes' places in the slab: half of what pointers would take.
  struct Hash {
    using is_transparent = void;
    const InodeSlab* slab = nullptr;
    std::size_t operator()(const Identity& identity) const;
    std::size_t operator()(std::uint32_t place) const { return (*this)(slab->place_at(place)->identity()); }
  };
  struct Equal {
    using is_transparent = void;
    const InodeSlab* slab = nullptr;
    bool operator()(std::uint32_t a, std::uint32_t b) const { return a == b; }
    bool operator()(std::uint32_t a, const Identity& b) const { return slab->place_at(a)->identity() == b; }
    bool operator()(const Identity& a, std::uint32_t b) const { return slab->place_at(b)->identity() == a; }
  };

  static constexpr std::size_t kShards = 64;
  // A shard is chosen by the hash's highest bits: inside it, the set goes by the lower ones.
  static constexpr int kShardShift = 64 - 6;
  struct alignas(64) Shard {
    std::mutex mutex;
    SteadySet<std::uint32_t, Hash, Equal> inodes;
  };

  Shard& shard_of(const Identity& identity) { return shards_[Hash()(identity) >> kShardShift]; }
  static Inode* find_in(Shard& locked, const Identity& identity);
  InodePtr find(NodeId node, std::uint64_t mark) const;
  static InodePtr hold(Inode& inode);
  // Fills a fresh place and enters it, with one lookup. All or nothing, also when memory runs out.
  Result<InodePtr> enter(Shard& locked, Inode& place, const struct statx& stat, Reach& reach);
  // Takes an inode whose count has become zero out of the table. What held it for the table is the caller's.
  void take_out(Shard& locked, Inode& inode);

  InodeSlab slab_;  // before what refers to it
  std::array<Shard, kShards> shards_;
  std::atomic<std::uint32_t> clock_{0};
  std::atomic<std::size_t> size_{0};
};

}  // namespace fusewire::passthrough
