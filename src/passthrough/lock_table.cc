#include "passthrough/lock_table.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace fusewire::passthrough {

namespace {

// Drops every record lock that was taken through `fd`.
void unlock_all(int fd) {
  struct flock whole = {};
  whole.l_type = F_UNLCK;
  whole.l_whence = SEEK_SET;
  // It cannot fail in a way that matters: what a broken file system keeps goes with the descriptor.
  ::fcntl(fd, F_OFD_SETLK, &whole);
}

}  // namespace

LockTable::~LockTable() { clear(); }

Result<LockTable::Lease> LockTable::lease(NodeId node, LockOwner owner, FileHandle handle,
                                          const std::function<Result<UniqueFd>()>& open) {
  if (Lease known = find(node, owner); known.fd() >= 0) {
    const std::scoped_lock lock(mutex_);
    known.owner_->handle = handle;
    if (known.owner_->ending == Ending::released) known.owner_->ending = Ending::none;
    return known;
  }
  if (size() >= kMaxOwners) return fail(ENOLCK);
  auto fd = open();
  if (!fd) return fail(fd.error());
  auto fresh = std::make_unique<Owner>(Owner{.id = owner, .handle = handle, .fd = std::move(*fd)});

  const std::scoped_lock lock(mutex_);
  // Another request of the same owner may have been quicker; its descriptor may hold locks already.
  Owner* used = find_owner(node, owner);
  if (used != nullptr) {
    used->handle = handle;
  } else {
    used = fresh.get();
    enter(node, std::move(fresh));
  }
  ++used->users;
  return Lease(*this, node, *used);
}

LockTable::Owner* LockTable::find_owner(NodeId node, LockOwner owner) const {
  const auto owners = nodes_.find(node.get());
  if (owners == nodes_.end()) return nullptr;
  const auto found = std::ranges::find(owners->second, owner, &Owner::id);
  return found == owners->second.end() ? nullptr : found->get();
}

void LockTable::enter(NodeId node, std::unique_ptr<Owner> fresh) {
  if (const auto others = nodes_.find(node.get()); others != nodes_.end()) {
    others->second.push_back(std::move(fresh));
  } else {
    Owners first;
    first.push_back(std::move(fresh));
    make_room(nodes_);
    nodes_.emplace(node.get(), std::move(first));
  }
  size_.fetch_add(1);
}

std::size_t LockTable::node_count() const {
  const std::scoped_lock lock(mutex_);
  return nodes_.size();
}

LockTable::Lease LockTable::find(NodeId node, LockOwner owner) {
  if (size() == 0) return {};
  const std::scoped_lock lock(mutex_);
  Owner* const found = find_owner(node, owner);
  if (found == nullptr) return {};
  ++found->users;
  return {*this, node, *found};
}

void LockTable::flush(NodeId node, LockOwner owner) {
  end(node, Ending::flushed, [owner](const Owner& o) { return o.id == owner; });
}

void LockTable::release(NodeId node, FileHandle handle) {
  end(node, Ending::released, [handle](const Owner& o) { return o.handle == handle; });
}

template <class Matches>
void LockTable::end(NodeId node, Ending ending, const Matches& matches) {
  if (size() == 0) return;
  std::vector<Lease> leases;
  {
    const std::scoped_lock lock(mutex_);
    const auto owners = nodes_.find(node.get());
    if (owners == nodes_.end()) return;
    leases.reserve(owners->second.size());
    for (const auto& owner : owners->second) {
      if (!matches(*owner)) continue;
      owner->ending = ending;
      ++owner->users;
      leases.push_back(Lease(*this, node, *owner));
    }
  }
  // Without the lock: on a network file system this takes a while.
  for (const Lease& lease : leases) unlock_all(lease.fd());
}

void LockTable::give_back(NodeId node, Owner& owner, bool holds_lock) {
  std::unique_ptr<Owner> dropped;  // closed without the lock
  const std::scoped_lock lock(mutex_);
  if (holds_lock && owner.ending == Ending::flushed) owner.ending = Ending::none;
  if (--owner.users != 0 || owner.ending == Ending::none) return;
  const auto owners = nodes_.find(node.get());
  FUSEWIRE_CHECK(owners != nodes_.end());
  const auto found = std::ranges::find(owners->second, &owner, &std::unique_ptr<Owner>::get);
  FUSEWIRE_CHECK(found != owners->second.end());
  dropped = std::move(*found);
  owners->second.erase(found);
  if (owners->second.empty()) nodes_.erase(owners);
  size_.fetch_sub(1);
}

void LockTable::clear() {
  waiters_.end_all();
  decltype(nodes_) dropped;
  const std::scoped_lock lock(mutex_);
  dropped.swap(nodes_);
  size_.store(0);
}

LockTable::Lease::Lease(Lease&& other) noexcept
    : table_(other.table_),
      node_(other.node_),
      owner_(std::exchange(other.owner_, nullptr)),
      holds_lock_(other.holds_lock_) {}

LockTable::Lease::~Lease() {
  if (owner_ != nullptr) table_->give_back(node_, *owner_, holds_lock_);
}

}  // namespace fusewire::passthrough
