// LockTable: the record locks of the guest's lock owners (processes, mostly), kept on the host with open file
// description locks (F_OFD_SETLK and its kin), so that owners exclude one another, other guests and processes
// of the host.
//
// Each (inode, owner) has a descriptor of its own, since locks of one open file description never conflict.
// It lives until the owner closes the file (FLUSH), as POSIX has it.
//
// Threading: any. A descriptor in use is never closed: flush() while the same owner waits for a lock drops
// what the owner holds and leaves the descriptor to the one that waits, as the kernel does between the
// threads of a process. flock(2) locks are not in here: they belong to OpenFile::fd.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "fusewire/wire.h"
#include "passthrough/lock_waiters.h"
#include "passthrough/steady_table.h"

namespace fusewire::passthrough {

class LockTable {
 public:
  LockTable() = default;
  LockTable(const LockTable&) = delete;
  LockTable& operator=(const LockTable&) = delete;
  // As clear().
  ~LockTable();

  // An owner's descriptor, in use. Must not outlive the table.
  class Lease;

  // The descriptor of `owner` for `node`, opened with `open` if there is none yet; `handle` is the one that
  // the guest names now. Errors: those of `open`; ENOLCK when there are too many owners. Throws
  // std::bad_alloc, with which the table is as it was.
  Result<Lease> lease(NodeId node, LockOwner owner, FileHandle handle,
                      const std::function<Result<UniqueFd>()>& open);
  // The same if there is one, else a Lease of nothing (fd() is -1): that owner holds no lock.
  Lease find(NodeId node, LockOwner owner);

  // FLUSH: `owner` closed a descriptor of `node`: all its locks on it go.
  void flush(NodeId node, LockOwner owner);
  // RELEASE of `handle`, an open file of `node`. An owner that used it has flushed it before, if its kernel
  // plays by the rules; this is for one that does not, so that nothing stays behind.
  void release(NodeId node, FileHandle handle);

  // destroy(): ends every wait, answering ENOLCK, waits for its thread, and drops all locks.
  void clear();

  LockWaiters& waiters() { return waiters_; }
  // Owners with a descriptor.
  std::size_t size() const { return size_.load(std::memory_order_acquire); }
  // Inodes with such an owner.
  std::size_t node_count() const;

  static constexpr std::size_t kMaxOwners = 16384;

 private:
  enum class Ending {
    none,
    flushed,   // to be dropped by its last user, unless one got a lock meanwhile
    released,  // to be dropped by its last user
  };
  struct Owner {
    LockOwner id;
    FileHandle handle;  // last named with it
    UniqueFd fd;
    int users = 0;  // leases
    Ending ending = Ending::none;
  };
  using Owners = std::vector<std::unique_ptr<Owner>>;

  // Ends the owners of `node` that `matches`, with `ending`.
  template <class Matches>
  void end(NodeId node, Ending ending, const Matches& matches);
  void give_back(NodeId node, Owner& owner, bool holds_lock);

  // With mutex_ held. Null when there is none.
  Owner* find_owner(NodeId node, LockOwner owner) const;
  // With mutex_ held. Enters `fresh`. Throws std::bad_alloc, with which nothing has changed.
  void enter(NodeId node, std::unique_ptr<Owner> fresh);

  mutable std::mutex mutex_;
  SteadyMap<std::uint64_t, Owners> nodes_;  // none without an owner
  std::atomic<std::size_t> size_{0};
  LockWaiters waiters_;
};

class LockTable::Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&&) = delete;
  // Gives the descriptor back; the owner's locks stay.
  ~Lease();

  int fd() const { return owner_ != nullptr ? owner_->fd.get() : -1; }
  // A lock was just taken through this lease: a flush that came before it does not take it away.
  void keep_lock() { holds_lock_ = true; }

 private:
  friend class LockTable;
  Lease(LockTable& table, NodeId node, Owner& owner) : table_(&table), node_(node), owner_(&owner) {}

  LockTable* table_ = nullptr;
  NodeId node_;
  Owner* owner_ = nullptr;
  bool holds_lock_ = false;
};

}  // namespace fusewire::passthrough
