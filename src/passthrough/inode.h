// Inode: what is known about one inode of the host that the guest has looked up, and how it is reached: by an
// O_PATH descriptor, by a file handle, or by a handle with a descriptor that was opened from it and may be
// closed again.
//
// A million of them may be known, so that one is 64 bytes, a cache line, in memory of InodeSlab. InodePtr
// holds one; the inode table does, as long as the guest knows the inode, and each request that uses it.
//
// Thread-safe by these rules: `state_` is atomic. What is set when the inode enters the table never changes
// while anybody holds it. The handle is written once, before state_ says that there is no descriptor, and
// read only when it says so, or by who keeps descriptors (path_descriptors.h). `lookups_` and `detached_`
// belong to the lock of the table's shard.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "fusewire/wire.h"
#include "passthrough/host_handle.h"
#include "passthrough/mount_table.h"
#include "passthrough/proc_self_fd.h"

namespace fusewire::passthrough {

// Which inode this is, as long as it exists: a file system gives the number to another one afterwards.
struct Identity {
  dev_t dev = 0;
  ino_t ino = 0;
  MountId mount = 0;

  friend bool operator==(const Identity& a, const Identity& b) = default;
};

class Inode;

// Holds an Inode, or nothing. While there is one, a descriptor that the inode has stays open.
class InodePtr {
 public:
  InodePtr() = default;
  InodePtr(std::nullptr_t) {}
  InodePtr(const InodePtr& other);
  InodePtr(InodePtr&& other) noexcept : inode_(std::exchange(other.inode_, nullptr)) {}
  InodePtr& operator=(InodePtr other) noexcept {
    std::swap(inode_, other.inode_);
    return *this;
  }
  ~InodePtr();

  Inode* get() const { return inode_; }
  Inode& operator*() const { return *inode_; }
  Inode* operator->() const { return inode_; }
  explicit operator bool() const { return inode_ != nullptr; }
  friend bool operator==(const InodePtr& a, const InodePtr& b) { return a.inode_ == b.inode_; }

 private:
  friend class InodeTable;
  explicit InodePtr(Inode* counted) : inode_(counted) {}

  Inode* inode_ = nullptr;
};

class alignas(64) Inode {
 public:
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;

  NodeId node() const;
  Identity identity() const { return {.dev = dev_, .ino = ino_, .mount = mount_->id()}; }
  Mount& mount() const { return *mount_; }

  // The type as S_IFMT has it. An inode never changes its type.
  mode_t type() const { return static_cast<mode_t>(type_) << kTypeShift; }
  bool is_directory() const { return S_ISDIR(type()); }
  bool is_regular() const { return S_ISREG(type()); }
  bool is_symlink() const { return S_ISLNK(type()); }

  // The O_PATH descriptor, which stays open as long as the caller's InodePtr lives; -1 when there is none.
  int held_fd() const { return fd_of(state_.load(std::memory_order_acquire)); }
  // For an inode that was seen without a descriptor: what it is known by instead.
  HostHandle handle() const { return handle_.load(); }

 private:
  friend class InodePtr;
  friend class InodeSlab;
  friend class InodeTable;
  friend class PathDescriptors;
  explicit Inode(std::uint32_t generation) : generation_(generation) {}
  ~Inode() = default;

  // state_: the number of holders; the descriptor + 1, or 0; whether the inode was used since somebody last
  // asked; whether the guest knows it.
  static constexpr std::uint64_t kHolders = 0xffff'ffff;
  static constexpr int kFdShift = 32;
  static constexpr std::uint64_t kFdBits = 0x3fff'ffff;
  static constexpr std::uint64_t kUsed = std::uint64_t{1} << 62;
  static constexpr std::uint64_t kKnown = std::uint64_t{1} << 63;
  static constexpr int kTypeShift = 12;

  static int fd_of(std::uint64_t state) { return static_cast<int>((state >> kFdShift) & kFdBits) - 1; }
  static std::uint64_t with_fd(std::uint64_t state, int fd) {
    return (state & ~(kFdBits << kFdShift)) | (static_cast<std::uint64_t>(fd + 1) << kFdShift);
  }

  // One more holder, for who holds it or a lock that keeps it in the table.
  void add_holder() { state_.fetch_add(1, std::memory_order_relaxed); }
  // One more holder if the guest knows it; else false. `mark` is 0 or kUsed.
  bool try_hold(std::uint64_t mark);
  void drop_holder() {
    if ((state_.fetch_sub(1, std::memory_order_acq_rel) & kHolders) == 1) retire();
  }
  // Gives back all that it has, and itself to its slab. There are no holders.
  void retire();

  // Gives it `fd` if it has none; `fd` is empty then. The caller holds it.
  bool install(UniqueFd& fd);
  // Takes its descriptor away, if the caller and the table are its only holders.
  UniqueFd take_unused_fd();
  // Whether it was used since this was last asked.
  bool take_used() { return (state_.fetch_and(~kUsed, std::memory_order_relaxed) & kUsed) != 0; }

  std::atomic<std::uint64_t> state_{0};
  ino_t ino_ = 0;
  std::uint64_t lookups_ = 0;
  MountRef mount_;
  std::uint32_t generation_;   // of the slot; half of the node id
  std::uint32_t entered_ = 0;  // the table's clock when it entered
  std::uint32_t dev_ = 0;      // the kernel's dev_t has 32 bits
  StoredHandle handle_;
  std::uint8_t type_ = 0;
  bool detached_ = false;  // the host has given its number to another inode
};
static_assert(sizeof(Inode) == 64);

inline InodePtr::InodePtr(const InodePtr& other) : inode_(other.inode_) {
  if (inode_ != nullptr) inode_->add_holder();
}
inline InodePtr::~InodePtr() {
  if (inode_ != nullptr) inode_->drop_holder();
}

// What is asked of statx(2) where nothing else is said.
inline constexpr unsigned kStatMask = STATX_BASIC_STATS | STATX_MNT_ID;

// statx(2) of the inode behind `fd` itself. `sync_flags`: AT_STATX_*.
Result<struct statx> stat_of(int fd, unsigned mask = kStatMask, int sync_flags = 0);
// statx(2) of the entry `name` of the directory `directory_fd`; a symbolic link is not followed.
Result<struct statx> stat_at(int directory_fd, const char* name);

// The identity of the inode that `stat` describes.
Identity identity_of(const struct statx& stat);

}  // namespace fusewire::passthrough
