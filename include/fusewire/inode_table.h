// InodeTable: for file systems that need a table of what the kernel knows: node ids, lookup counts,
// generations, and one node for one key at any time.
//
// Each answer that gives the kernel an entry (LOOKUP, CREATE, MKNOD, MKDIR, SYMLINK, LINK, TMPFILE,
// READDIRPLUS) counts as one lookup of its node, and FORGET takes lookups back (fs/fuse/inode.c): a node id
// stays valid until as many were taken back as were given. acquire() and forget() keep that count.
//
// A node id is the number of a place in the table, never a pointer: whatever number the kernel sends, find()
// looks it up and says so when there is none. A place that is used again has a new generation, so that the
// pair of id and generation never comes twice, as NFS export needs it.
//
//   Inode  what the file system keeps for a node. It lives until the table and all who use it have let go.
//   Key    what tells one node from another: an inode number, a device and inode number, a path. Needs == and
//          Hash.
//
// Thread-safe. An Inode is never destroyed under the table's lock.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fusewire/wire.h"

namespace fusewire {

template <class Key, class Inode, class Hash = std::hash<Key>>
class InodeTable {
 public:
  // A node of the table; without an inode: there is none.
  struct Node {
    NodeId id{};
    std::uint64_t generation = 0;
    std::shared_ptr<Inode> inode;

    explicit operator bool() const { return inode != nullptr; }
  };

  // `root` becomes node 1 (kRootNode), which is never forgotten.
  InodeTable(const Key& root_key, std::shared_ptr<Inode> root) {
    places_.push_back({.inode = std::move(root), .lookups = 1, .generation = 0, .key = root_key});
    by_key_.emplace(root_key, 0);
  }
  InodeTable(const InodeTable&) = delete;
  InodeTable& operator=(const InodeTable&) = delete;

  // The inode of a node that the kernel knows, or null: ESTALE is the answer then.
  std::shared_ptr<Inode> find(NodeId id) const {
    const std::shared_lock lock(mutex_);
    const Place* const place = place_of(id);
    return place != nullptr ? place->inode : nullptr;
  }

  // The node that has `key`, with one lookup more; nothing (and no lookup) when the kernel knows none.
  Node acquire(const Key& key) {
    const std::unique_lock lock(mutex_);
    const auto known = by_key_.find(key);
    return known == by_key_.end() ? Node{} : add_lookup(known->second);
  }
  // The same; when the kernel knows none, `candidate` becomes the inode of a new node. Who loses the race
  // between two that enter the same key gets the other's inode, and the candidate is dropped.
  Node acquire(const Key& key, std::shared_ptr<Inode> candidate) {
    const std::unique_lock lock(mutex_);
    const auto [known, added] = by_key_.try_emplace(key, 0);
    if (!added) return add_lookup(known->second);
    try {
      known->second = enter(key, std::move(candidate));
    } catch (...) {
      by_key_.erase(known);
      throw;
    }
    return node_at(known->second);
  }

  // Takes `lookups` off the node's count, and the node out of the table when none is left. More than there
  // are count as all; the root and unknown numbers are left alone.
  void forget(NodeId id, std::uint64_t lookups) {
    std::shared_ptr<Inode> gone;  // let go of after the lock
    const std::unique_lock lock(mutex_);
    Place* const place = place_of(id);
    if (place == nullptr || id == kRootNode) return;
    place->lookups -= std::min(place->lookups, lookups);
    if (place->lookups != 0) return;
    gone = std::exchange(place->inode, nullptr);
    detach_locked(*place);
    ++place->generation;
    free_.push_back(static_cast<std::size_t>(id.get() - FUSE_ROOT_ID));
  }

  // `key` names its node no longer (the file was removed, and another one may get its number): the kernel
  // keeps the node until it forgets it, and the next acquire() of the key makes a new one.
  void detach(const Key& key) {
    const std::unique_lock lock(mutex_);
    const auto known = by_key_.find(key);
    if (known != by_key_.end() && known->second != 0) detach_locked(places_[known->second]);
  }

  // The kernel is gone, and knows the root alone: for FileSystem::destroy().
  void forget_all() {
    std::vector<std::shared_ptr<Inode>> gone;  // let go of after the lock
    const std::unique_lock lock(mutex_);
    gone.reserve(places_.size());
    free_.reserve(places_.size());
    for (std::size_t number = 1; number < places_.size(); ++number) {
      Place& place = places_[number];
      if (place.inode == nullptr) continue;
      gone.push_back(std::exchange(place.inode, nullptr));
      detach_locked(place);
      place.lookups = 0;
      ++place.generation;
      free_.push_back(number);
    }
  }

  // Nodes that the kernel knows, the root included.
  std::size_t size() const {
    const std::shared_lock lock(mutex_);
    return places_.size() - free_.size();
  }

 private:
  // Node id FUSE_ROOT_ID + its position in places_. A free place has no inode; it keeps its generation.
  struct Place {
    std::shared_ptr<Inode> inode;
    std::uint64_t lookups = 0;
    std::uint64_t generation = 0;
    Key key;
    bool detached = false;
  };

  const Place* place_of(NodeId id) const {
    // 0 wraps around to a number that is too large.
    const std::uint64_t number = id.get() - FUSE_ROOT_ID;
    if (number >= places_.size() || places_[number].inode == nullptr) return nullptr;
    return &places_[number];
  }
  Place* place_of(NodeId id) { return const_cast<Place*>(std::as_const(*this).place_of(id)); }

  Node node_at(std::size_t number) const {
    const Place& place = places_[number];
    return {.id = NodeId{number + FUSE_ROOT_ID}, .generation = place.generation, .inode = place.inode};
  }
  Node add_lookup(std::size_t number) {
    ++places_[number].lookups;
    return node_at(number);
  }

  // The number of the place that the inode has got. All or nothing, also when memory runs out.
  std::size_t enter(const Key& key, std::shared_ptr<Inode> inode) {
    if (free_.empty()) {
      places_.push_back({.inode = nullptr, .lookups = 1, .generation = 0, .key = key});
      try {
        free_.reserve(places_.capacity());  // forget() must find room
      } catch (...) {
        places_.pop_back();
        throw;
      }
      places_.back().inode = std::move(inode);
      return places_.size() - 1;
    }
    const std::size_t number = free_.back();
    Place& place = places_[number];
    place.key = key;
    place.inode = std::move(inode);
    place.lookups = 1;
    place.detached = false;
    free_.pop_back();
    return number;
  }

  void detach_locked(Place& place) {
    if (!place.detached) by_key_.erase(place.key);
    place.detached = true;
  }

  mutable std::shared_mutex mutex_;
  std::vector<Place> places_;
  std::vector<std::size_t> free_;
  std::unordered_map<Key, std::size_t, Hash> by_key_;
};

}  // namespace fusewire
