#include "passthrough/inode_table.h"

#include <absl/hash/hash.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"

namespace fusewire::passthrough {

std::size_t InodeTable::ByIdentity::operator()(const Identity& identity) const {
  return absl::HashOf(identity.ino, identity.dev, identity.mount, as_text(identity.handle));
}

void InodeTable::insert_root(const struct statx& stat, UniqueFd path_fd) {
  const auto root = std::make_shared<Inode>(kRootNode, stat, std::move(path_fd));
  root->lookups_ = 1;
  IdentityShard& shard = shard_of(root->identity());
  const std::lock_guard lock(shard.mutex);
  FUSEWIRE_CHECK(!shard.inodes.contains(root->identity()));
  enter(shard, root);
}

InodePtr InodeTable::find(NodeId node) const {
  const NodeShard& shard = shard_of(node);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.inodes.find(node.get());
  return found == shard.inodes.end() ? nullptr : found->second;
}

InodePtr InodeTable::acquire_known(const Identity& identity, NodeId before) {
  IdentityShard& shard = shard_of(identity);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.inodes.find(identity);
  if (found == shard.inodes.end() || (*found)->node() >= before) return nullptr;
  ++(*found)->lookups_;
  return *found;
}

InodePtr InodeTable::acquire(const struct statx& stat, UniqueFd path_fd) {
  return acquire_or_insert(identity_of(stat), stat, path_fd);
}

InodePtr InodeTable::acquire(const struct statx& stat, std::unique_ptr<HostHandle> handle) {
  Identity identity = identity_of(stat);
  identity.handle = handle->bytes();
  return acquire_or_insert(identity, stat, handle);
}

template <class Reach>
InodePtr InodeTable::acquire_or_insert(const Identity& identity, const struct statx& stat, Reach& reach) {
  IdentityShard& shard = shard_of(identity);
  const std::lock_guard lock(shard.mutex);
  if (const auto found = shard.inodes.find(identity); found != shard.inodes.end()) {
    ++(*found)->lookups_;
    return *found;
  }
  const NodeId node{next_node_.fetch_add(1, std::memory_order_acq_rel)};
  auto inode = std::make_shared<Inode>(node, stat, std::move(reach));
  inode->lookups_ = 1;
  enter(shard, inode);
  return inode;
}

void InodeTable::enter(IdentityShard& locked_shard, const InodePtr& inode) {
  // With room made first, the second insertion cannot fail after the first has succeeded.
  locked_shard.inodes.reserve(locked_shard.inodes.size() + 1);
  NodeShard& shard = shard_of(inode->node());
  {
    const std::lock_guard lock(shard.mutex);
    shard.inodes.emplace(inode->node().get(), inode);
  }
  locked_shard.inodes.insert(inode);
}

bool InodeTable::acquire_again(const InodePtr& inode) {
  IdentityShard& shard = shard_of(inode->identity());
  const std::lock_guard lock(shard.mutex);
  if (inode->lookups_ == 0) return false;
  ++inode->lookups_;
  return true;
}

void InodeTable::forget(NodeId node, std::uint64_t lookups) {
  if (node == kRootNode) return;
  const InodePtr inode = find(node);  // closed, if this is its last user, after the locks are released
  if (!inode) return;
  IdentityShard& shard = shard_of(inode->identity());
  const std::lock_guard lock(shard.mutex);
  if (inode->lookups_ == 0) return;  // another forget took it out since find()
  inode->lookups_ -= std::min(inode->lookups_, lookups);
  if (inode->lookups_ != 0) return;
  shard.inodes.erase(inode);
  NodeShard& by_node = shard_of(node);
  const std::lock_guard node_lock(by_node.mutex);
  by_node.inodes.erase(node.get());
}

void InodeTable::clear() {
  for (IdentityShard& shard : identities_) {
    decltype(shard.inodes) dropped;
    const std::lock_guard lock(shard.mutex);
    dropped.swap(shard.inodes);
    for (const InodePtr& inode : dropped) {
      inode->lookups_ = 0;
      NodeShard& by_node = shard_of(inode->node());
      const std::lock_guard node_lock(by_node.mutex);
      by_node.inodes.erase(inode->node().get());
    }
  }
}

std::size_t InodeTable::size() const {
  std::size_t sum = 0;
  for (const IdentityShard& shard : identities_) {
    const std::lock_guard lock(shard.mutex);
    sum += shard.inodes.size();
  }
  return sum;
}

}  // namespace fusewire::passthrough
