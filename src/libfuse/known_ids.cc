#include "libfuse/known_ids.h"

#include <linux/fuse.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace fusewire::libfuse {

Pins::Pins(Pins&& other) noexcept
    : ids_(std::exchange(other.ids_, nullptr)),
      nodes_(other.nodes_),
      handles_(other.handles_),
      node_count_(other.node_count_),
      handle_count_(other.handle_count_) {}

Pins::~Pins() {
  if (ids_ != nullptr) ids_->unpin(*this);
}

KnownIds::KnownIds(std::function<void(std::uint64_t, std::uint64_t)> forget) : forget_(std::move(forget)) {}

bool KnownIds::pin_node(std::uint64_t node, Pins& pins) {
  if (node == FUSE_ROOT_ID) return true;
  const auto found = nodes_.find(node);
  if (found == nodes_.end() || found->second.lookups == 0) return false;
  ++found->second.pins;
  pins.nodes_[pins.node_count_++] = node;
  return true;
}

bool KnownIds::pin_handle(const HandleId& id, Pins& pins) {
  const auto found = handles_.find(id);
  if (found == handles_.end() || found->second.opens == 0) return zero_handle_ && id.handle == 0;
  ++found->second.pins;
  pins.handles_[pins.handle_count_++] = id;
  return true;
}

int KnownIds::pin(std::uint64_t node, const Uses& uses, Pins& pins) {
  const std::lock_guard lock(mutex_);
  pins.ids_ = this;
  if (!pin_node(node, pins)) return ESTALE;
  if (uses.other_node != 0 && !pin_node(uses.other_node, pins)) return ESTALE;
  for (unsigned i = 0; i < uses.handle_count; ++i)
    if (!pin_handle(uses.handles[i], pins)) return EBADF;
  return 0;
}

void KnownIds::unpin(Pins& pins) {
  std::array<std::pair<std::uint64_t, std::uint64_t>, 2> forgotten{};
  std::vector<Action> releases;
  {
    const std::lock_guard lock(mutex_);
    for (unsigned i = 0; i < pins.handle_count_; ++i) {
      const auto found = handles_.find(pins.handles_[i]);
      if (found == handles_.end() || --found->second.pins != 0 || found->second.opens != 0) continue;
      std::ranges::move(found->second.releases, std::back_inserter(releases));
      handles_.erase(found);
    }
    for (unsigned i = 0; i < pins.node_count_; ++i) {
      const auto found = nodes_.find(pins.nodes_[i]);
      if (found == nodes_.end() || --found->second.pins != 0) continue;
      forgotten[i] = {found->first, std::exchange(found->second.owed, 0)};
      if (found->second.lookups == 0) nodes_.erase(found);
    }
  }
  for (Action& release : releases) release();
  for (const auto& [node, lookups] : forgotten)
    if (lookups != 0) forget_(node, lookups);
}

void KnownIds::add_lookup(std::uint64_t node) {
  if (node == 0 || node == FUSE_ROOT_ID) return;
  const std::lock_guard lock(mutex_);
  ++nodes_[node].lookups;
}

void KnownIds::undo_lookup(std::uint64_t node) {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(node);
  if (found == nodes_.end() || found->second.lookups == 0) return;
  if (--found->second.lookups == 0 && found->second.pins == 0) nodes_.erase(found);
}

void KnownIds::add_handle(HandleId id) {
  const std::lock_guard lock(mutex_);
  ++handles_[id].opens;
}

void KnownIds::undo_handle(HandleId id) {
  const std::lock_guard lock(mutex_);
  const auto found = handles_.find(id);
  if (found == handles_.end() || found->second.opens == 0) return;
  if (--found->second.opens == 0 && found->second.pins == 0) handles_.erase(found);
}

void KnownIds::allow_zero_handle() {
  const std::lock_guard lock(mutex_);
  zero_handle_ = true;
}

void KnownIds::forget(std::uint64_t node, std::uint64_t lookups) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = nodes_.find(node);
    if (found == nodes_.end()) return;
    lookups = std::min(lookups, found->second.lookups);
    found->second.lookups -= lookups;
    // What is still known loses nothing by a forget now; the last one has to wait for those who use the node.
    if (found->second.pins != 0) {
      found->second.owed += std::exchange(lookups, 0);
    } else if (found->second.lookups == 0) {
      nodes_.erase(found);
    }
  }
  if (lookups != 0) forget_(node, lookups);
}

bool KnownIds::release(HandleId id, Action release) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = handles_.find(id);
    if (found == handles_.end() || found->second.opens == 0) {
      if (!zero_handle_ || id.handle != 0) return false;
    } else if (--found->second.opens == 0) {
      if (found->second.pins != 0) {
        found->second.releases.push_back(std::move(release));
        return true;
      }
      handles_.erase(found);
    }
  }
  release();
  return true;
}

KnownIds::Rest KnownIds::take_all() {
  Rest rest;
  const std::lock_guard lock(mutex_);
  for (const auto& [id, handle] : handles_) rest.handles.insert(rest.handles.end(), handle.opens, id);
  for (const auto& [id, node] : nodes_)
    if (node.lookups + node.owed != 0) rest.nodes.emplace_back(id, node.lookups + node.owed);
  handles_.clear();
  nodes_.clear();
  zero_handle_ = false;
  return rest;
}

}  // namespace fusewire::libfuse
