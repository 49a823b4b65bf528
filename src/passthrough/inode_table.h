// InodeTable: every inode that the guest knows, by node id and by identity, with its lookup count.
//
// Node ids are counters from 2 on (1 is the root), never used twice in the life of a table. Each change of a
// lookup count happens under the lock of the shard of the inode's identity, so that a lookup that runs
// against the last forget either revives the node before it is taken out or gets a new node: none is lost and
// none comes back from the dead.
//
// Thread-safe. Descriptors are closed outside the locks.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "passthrough/inode.h"

namespace fusewire::passthrough {

using InodePtr = std::shared_ptr<Inode>;

class InodeTable {
 public:
  // Makes `path_fd` or `handle` the root, node 1. Its count never falls to zero. The table must be empty.
  void insert_root(const struct statx& stat, UniqueFd path_fd);

  // The inode with this number, or null: the guest made the number up, or has forgotten it.
  InodePtr find(NodeId node) const;

  // The number that the next new inode gets at least. An inode with a lower number that is found by
  // acquire_known() was held ever since this call.
  NodeId next_node() const { return NodeId{next_node_.load(std::memory_order_acquire)}; }

  // The inode with this identity with one lookup more, if it is known and its number is below `before`; else
  // null and nothing changes.
  InodePtr acquire_known(const Identity& identity, NodeId before);

  // The inode with this identity with one lookup more; it is entered first if it was not known. `stat`
  // describes it.
  InodePtr acquire(const struct statx& stat, UniqueFd path_fd);
  InodePtr acquire(const struct statx& stat, std::unique_ptr<HostHandle> handle);

  // One lookup more for an inode that the caller holds; false when it is out of the table by now.
  bool acquire_again(const InodePtr& inode);

  // Takes `lookups` off the count and the inode out of the table when none is left. More than there are count
  // as all; unknown nodes and the root are left alone.
  void forget(NodeId node, std::uint64_t lookups);

  // Takes out everything, the root included.
  void clear();

  // Inodes in the table, the root included.
  std::size_t size() const;

 private:
  struct ByIdentity {
    using is_transparent = void;
    std::size_t operator()(const Identity& identity) const;
    std::size_t operator()(const InodePtr& inode) const { return (*this)(inode->identity()); }
    bool operator()(const InodePtr& a, const InodePtr& b) const { return a->identity() == b->identity(); }
    bool operator()(const InodePtr& a, const Identity& b) const { return a->identity() == b; }
    bool operator()(const Identity& a, const InodePtr& b) const { return a == b->identity(); }
  };

  static constexpr std::size_t kShards = 64;
  // A shard is chosen by the hash's highest bits: inside it, the set goes by the lower ones.
  static constexpr int kShardShift = 64 - 6;
  struct alignas(64) IdentityShard {
    mutable std::mutex mutex;
    absl::flat_hash_set<InodePtr, ByIdentity, ByIdentity> inodes;
  };
  struct alignas(64) NodeShard {
    mutable std::mutex mutex;
    absl::flat_hash_map<std::uint64_t, InodePtr> inodes;
  };

  IdentityShard& shard_of(const Identity& identity) {
    return identities_[ByIdentity()(identity) >> kShardShift];
  }
  NodeShard& shard_of(NodeId node) { return nodes_[node.get() % kShards]; }
  const NodeShard& shard_of(NodeId node) const { return nodes_[node.get() % kShards]; }

  // `reach` is moved from only when the inode is new.
  template <class Reach>
  InodePtr acquire_or_insert(const Identity& identity, const struct statx& stat, Reach& reach);
  // All or nothing, also when memory runs out.
  void enter(IdentityShard& locked_shard, const InodePtr& inode);

  // Lock order: a shard of identities_, then one of nodes_.
  std::array<IdentityShard, kShards> identities_;
  std::array<NodeShard, kShards> nodes_;
  std::atomic<std::uint64_t> next_node_{FUSE_ROOT_ID + 1};
};

}  // namespace fusewire::passthrough
