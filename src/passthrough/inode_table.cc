#include "passthrough/inode_table.h"

#include <absl/hash/hash.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace fusewire::passthrough {

std::size_t InodeTable::Hash::operator()(const Identity& identity) const {
  return absl::HashOf(identity.ino, identity.dev, identity.mount);
}

InodeTable::InodeTable() {
  for (Shard& shard : shards_)
    shard.inodes = SteadySet<std::uint32_t, Hash, Equal>(0, Hash{&slab_}, Equal{&slab_});
}

InodePtr InodeTable::hold(Inode& inode) {
  inode.add_holder();
  return InodePtr(&inode);
}

InodePtr InodeTable::find(NodeId node, std::uint64_t mark) const {
  Inode* const place = slab_.place_of(node);
  if (place == nullptr || !place->try_hold(mark)) return {};
  // Only now it is sure to stay what it is.
  InodePtr found(place);
  if (found->node() != node) return {};
  return found;
}

Inode* InodeTable::find_in(Shard& locked, const Identity& identity) {
  const auto found = locked.inodes.find(identity);
  return found == locked.inodes.end() ? nullptr : locked.inodes.hash_function().slab->place_at(*found);
}

InodeTable::Known InodeTable::find_known(const Identity& identity, std::uint32_t since) {
  Shard& shard = shard_of(identity);
  const std::lock_guard lock(shard.mutex);
  Inode* const inode = find_in(shard, identity);
  // The clock goes round: an inode that seems younger than it is will be opened to make sure, no more.
  if (inode == nullptr || static_cast<std::int32_t>(since - inode->entered_) <= 0) return {};
  // Marks it as used as well; the shard's lock keeps it known.
  FUSEWIRE_CHECK(inode->try_hold(Inode::kUsed));
  const bool counted = inode->held_fd() >= 0;
  if (counted) ++inode->lookups_;
  return {.inode = InodePtr(inode), .counted = counted};
}

Result<InodeTable::Acquired> InodeTable::acquire(const struct statx& stat, Reach& reach) {
  const Identity identity = identity_of(stat);
  Shard& shard = shard_of(identity);
  InodePtr gone;  // let go of after the lock
  const std::lock_guard lock(shard.mutex);
  if (Inode* const inode = find_in(shard, identity)) {
    // Two inodes that are open at once do not have one number.
    bool same = inode->held_fd() >= 0;
    if (!same) {
      if (!reach.handle) return Acquired{};
      same = inode->handle_.holds(*reach.handle);
    }
    if (same) {
      ++inode->lookups_;
      return Acquired{.inode = hold(*inode), .entered = false};
    }
    gone = hold(*inode);
    shard.inodes.erase(InodeSlab::number_of(*inode));
    inode->detached_ = true;
  }
  const auto place = slab_.take();
  if (!place) return fail(place.error());
  auto entered = enter(shard, **place, stat, reach);
  if (!entered) return fail(entered.error());
  return Acquired{.inode = std::move(*entered), .entered = true};
}

Result<InodePtr> InodeTable::enter(Shard& locked, Inode& place, const struct statx& stat, Reach& reach) {
  FUSEWIRE_CHECK(reach.mount && (reach.path_fd || reach.handle));
  const Identity identity = identity_of(stat);
  InodePtr inode = hold(place);  // given back to the slab if this goes wrong
  if (reach.handle && !place.handle_.store(*reach.handle)) return fail(ENOMEM);
  place.dev_ = static_cast<std::uint32_t>(identity.dev);
  place.ino_ = identity.ino;
  place.type_ = static_cast<std::uint8_t>((stat.stx_mode & S_IFMT) >> Inode::kTypeShift);
  place.mount_ = std::move(reach.mount);
  if (reach.path_fd && !place.install(reach.path_fd)) return fail(ENFILE);
  make_room(locked.inodes);
  locked.inodes.insert(InodeSlab::number_of(place));
  place.lookups_ = 1;
  place.entered_ = clock_.fetch_add(1, std::memory_order_acq_rel);
  place.add_holder();  // the table
  place.state_.fetch_or(Inode::kKnown, std::memory_order_release);
  size_.fetch_add(1, std::memory_order_relaxed);
  return inode;
}

Result<void> InodeTable::insert_root(const struct statx& stat, Reach reach) {
  Shard& shard = shard_of(identity_of(stat));
  const std::lock_guard lock(shard.mutex);
  FUSEWIRE_CHECK(find_in(shard, identity_of(stat)) == nullptr);
  const auto place = slab_.take_root();
  if (!place) return fail(place.error());
  const auto entered = enter(shard, **place, stat, reach);
  if (!entered) return fail(entered.error());
  return {};
}

bool InodeTable::acquire_again(const InodePtr& inode) {
  Shard& shard = shard_of(inode->identity());
  const std::lock_guard lock(shard.mutex);
  if (inode->lookups_ == 0) return false;
  ++inode->lookups_;
  return true;
}

void InodeTable::forget(NodeId node, std::uint64_t lookups) {
  if (node == kRootNode) return;
  const InodePtr inode = find_quietly(node);  // given back, if this is its last holder, after the lock
  if (!inode) return;
  {
    Shard& shard = shard_of(inode->identity());
    const std::lock_guard lock(shard.mutex);
    if (inode->lookups_ == 0) return;  // another forget took it out since find()
    inode->lookups_ -= std::min(inode->lookups_, lookups);
    if (inode->lookups_ != 0) return;
    take_out(shard, *inode);
  }
  inode->drop_holder();  // the table
}

void InodeTable::take_out(Shard& locked, Inode& inode) {
  if (!inode.detached_) locked.inodes.erase(InodeSlab::number_of(inode));
  inode.state_.fetch_and(~Inode::kKnown, std::memory_order_acq_rel);
  size_.fetch_sub(1, std::memory_order_relaxed);
}

void InodeTable::clear() {
  slab_.for_each([this](Inode& place) {
    if (!place.try_hold(0)) return;
    const InodePtr inode(&place);
    {
      Shard& shard = shard_of(inode->identity());
      const std::lock_guard lock(shard.mutex);
      if (inode->lookups_ == 0) return;
      inode->lookups_ = 0;
      take_out(shard, *inode);
    }
    inode->drop_holder();  // the table
  });
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    if (shard.inodes.empty()) shard.inodes.rehash(0);
  }
}

}  // namespace fusewire::passthrough
