// Notifier: what a file system tells the kernel without being asked: what it cached is stale, here is data
// for the cache, a file that is polled has become ready (enum fuse_notify_code).
//
// FileSystem::init gets it from Negotiation::notifier(). It is good for that kernel until destroy(): keep the
// shared pointer as long as you like, afterwards every call gives ENOTCONN.
//
// Threading: all methods from any thread, at once. A call made inside a method of the FileSystem, or before
// init() has returned, must not wait for the kernel, which may wait for that very method: the message is
// copied, a thread of the notifier's own sends it, and the call returns success once it is queued (EAGAIN:
// kMaxQueued messages or kMaxQueuedBytes bytes wait already). A call from any other thread waits for the
// kernel's verdict. Hold no lock then that a method of the file system needs: the kernel may have to wait for
// a READ of a page that it invalidates. Messages of one thread stay in order, unless they go both ways.
//
// Errors of every call, before anything is sent: ENOTCONN the kernel has gone; ENOSYS the transport carries
// no notifications (a guest that has not negotiated VIRTIO_FS_F_NOTIFICATION) or the kernel is too old for
// this one; EINVAL node 0, a range beyond 2^63-1, or a name that no entry can have (empty, "." or "..", a '/'
// or a NUL); ENAMETOOLONG a name above kMaxName; EMSGSIZE more data than the transport carries in one
// message; ENOMEM. Later ones are the kernel's: ENOENT it does not know the node, or has not cached the
// entry. Over virtio nobody learns the kernel's verdict: success means that the guest has the message, EAGAIN
// that it gave no buffer for it in time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>

#include "fusewire/io_vecs.h"
#include "fusewire/notification_channel.h"
#include "fusewire/result.h"
#include "fusewire/wire.h"

namespace fusewire {

class Outbox;

// What the kernel's page cache held.
struct Retrieved {
  NodeId node;
  std::uint64_t offset = 0;
  // May be shorter than asked for: the cached pages from `offset` on without a gap. Dies when the callback
  // returns.
  IoVecs data;
};

class Notifier : public std::enable_shared_from_this<Notifier> {
 public:
  // The longest name that every kernel takes (FUSE_NAME_LOW_MAX).
  static constexpr std::size_t kMaxName = 1024;
  static constexpr std::size_t kMaxRetrieves = 256;
  static constexpr std::size_t kMaxQueued = 4096;
  static constexpr std::size_t kMaxQueuedBytes = std::size_t{64} << 20;

  // The result, or why there is none: ENOTCONN the kernel has gone, EPROTO it answered nonsense, the kernel's
  // error when the message was queued.
  using RetrieveCallback = std::move_only_function<void(Result<Retrieved>)>;

  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;
  ~Notifier();

  // The file polled with this handle (fuse_poll_in::kh, of a POLL with FUSE_POLL_SCHEDULE_NOTIFY) may be
  // ready: the kernel polls it again. A handle that it no longer knows is no error.
  Result<void> poll_wakeup(std::uint64_t kernel_handle);

  // Drops the node's cached attributes and its cached data in [offset, offset + length); length 0 or below:
  // to the end; offset below 0: attributes only. Waits for pages that are being read or written.
  Result<void> inval_inode(NodeId node, std::int64_t offset = 0, std::int64_t length = 0);

  // Drops the cached entry `name` of `parent` with everything below it, and the parent's attributes.
  Result<void> inval_entry(NodeId parent, std::string_view name);
  // Lets the entry's lifetime end, so that the kernel looks it up again when it is next used; mounts below it
  // stay. ENOSYS before FUSE_HAS_EXPIRE_ONLY (Linux 6.2).
  Result<void> expire_entry(NodeId parent, std::string_view name);
  // The entry was removed: like inval_entry, and who watches the file with inotify(7) is told. The kernel's:
  // ENOENT when `name` is not `child` (it is invalidated all the same), ENOTEMPTY for a directory that has
  // cached entries, EBUSY for a mount point.
  Result<void> delete_entry(NodeId parent, NodeId child, std::string_view name);

  // Puts data into the node's page cache, from `offset` on; the cached size grows if needed, until the file
  // system says another one.
  Result<void> store(NodeId node, std::uint64_t offset, std::span<const std::byte> data);
  Result<void> store(NodeId node, std::uint64_t offset, std::span<const iovec> data);

  // Asks for what the page cache holds, dirty data too: at most `size` bytes, of which at most
  // Negotiation::max_write come. `done` is called once, by a thread of the transport, or with an error by the
  // one that ends the session (before FileSystem::destroy). When the call itself fails, `done` is destroyed
  // uncalled. EAGAIN: kMaxRetrieves wait already.
  Result<void> retrieve(NodeId node, std::uint64_t offset, std::uint32_t size, RetrieveCallback done);

  // Has the kernel send again, with FUSE_UNIQUE_RESEND in their id, all requests that it has not got an
  // answer to: for a server that took over from one that died. ENOSYS before FUSE_HAS_RESEND (Linux 6.9).
  Result<void> resend();
  // Ends the lifetime of every cached entry at once. ENOSYS before FUSE 7.44 (Linux 6.16).
  Result<void> inc_epoch();
  // Asks the kernel to forget these nodes as far as nobody uses them. ENOSYS before FUSE 7.45 (Linux 6.18).
  Result<void> prune(std::span<const NodeId> nodes);

 private:
  friend class Engine;
  friend class Outbox;

  enum class State { initializing, connected, gone };
  struct Retrieve {
    NodeId node;
    std::uint64_t offset = 0;
    std::uint32_t size = 0;
    RetrieveCallback done;
  };

  Notifier(std::shared_ptr<Outbox> outbox, std::uint32_t kernel_minor, bool can_expire, bool can_resend);

  // For the engine. connected(): INIT is answered. disconnect(): the kernel has gone.
  void connect();
  void disconnect();
  // For the engine: NOTIFY_REPLY with the id `unique` came; `in` is null when it has no arguments.
  void finish_retrieve(std::uint64_t unique, const fuse_notify_retrieve_in* in, IoVecs data);
  // For the outbox: the message of this retrieve could not be sent.
  void fail_retrieve(std::uint64_t unique, Errno error);

  State state() const { return state_.load(std::memory_order_acquire); }
  Result<void> submit(std::uint32_t code, std::span<const iovec> body, std::uint64_t retrieve = 0);
  Result<void> submit_entry(std::uint32_t code, std::span<const std::byte> arguments, std::string_view name);
  std::optional<Retrieve> take_retrieve(std::uint64_t unique);

  const std::shared_ptr<Outbox> outbox_;
  const std::uint32_t kernel_minor_;
  const bool can_expire_;
  const bool can_resend_;
  std::atomic<State> state_{State::initializing};

  std::mutex mutex_;
  std::unordered_map<std::uint64_t, Retrieve> retrieves_;
};

}  // namespace fusewire
