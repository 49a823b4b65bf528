// KnownIds: which node ids and file handles a guest may name.
//
// A C file system chooses its ids as it likes; most use pointers. The kernel of this host sends back what it
// was given, but a guest can send anything: while a virtual machine is served, every id that comes in is
// looked up here before the file system sees it. A node is known as long as the guest owes FORGETs for it, a
// handle from OPEN to RELEASE. What a request in flight uses is pinned: a FORGET or RELEASE that a guest
// sends too early reaches the file system when the last such request is answered.
//
// Thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace fusewire::libfuse {

class KnownIds;

struct HandleId {
  std::uint64_t node = 0;
  std::uint64_t handle = 0;
  bool directory = false;  // from OPENDIR
  friend bool operator==(const HandleId&, const HandleId&) = default;
};

// What one request names besides its own node.
struct Uses {
  std::uint64_t other_node = 0;  // 0: none
  std::array<HandleId, 2> handles{};
  unsigned handle_count = 0;

  Uses() = default;
  static Uses handle(const HandleId& id) {
    Uses uses;
    uses.handles[uses.handle_count++] = id;
    return uses;
  }
  static Uses node(std::uint64_t other) {
    Uses uses;
    uses.other_node = other;
    return uses;
  }
};

// What a request has pinned, unpinned when this dies. Empty where nothing is guarded.
class Pins {
 public:
  Pins() = default;
  Pins(Pins&& other) noexcept;
  Pins& operator=(Pins&&) = delete;
  ~Pins();

 private:
  friend class KnownIds;
  KnownIds* ids_ = nullptr;
  std::array<std::uint64_t, 2> nodes_{};
  std::array<HandleId, 2> handles_{};
  unsigned node_count_ = 0;
  unsigned handle_count_ = 0;
};

class KnownIds {
 public:
  using Action = std::move_only_function<void()>;
  // `forget`: has the file system forget `lookups` of `node`. Called without locks.
  explicit KnownIds(std::function<void(std::uint64_t node, std::uint64_t lookups)> forget);

  // Pins `node` and what `uses` names. 0, or the errno for the guest: ESTALE unknown node, EBADF unknown
  // handle.
  int pin(std::uint64_t node, const Uses& uses, Pins& pins);

  // The guest is about to get `node` in an entry; and: it did not.
  void add_lookup(std::uint64_t node);
  void undo_lookup(std::uint64_t node);
  // The same for a handle that is open for `id.node`.
  void add_handle(HandleId id);
  void undo_handle(HandleId id);
  // From now on the guest may use handle 0 of anything: the file system has no OPEN.
  void allow_zero_handle();

  // FORGET: at most what the guest owes reaches the file system, now or later.
  void forget(std::uint64_t node, std::uint64_t lookups);
  // RELEASE: runs `release` as soon as no request uses the handle. False when it is unknown.
  bool release(HandleId id, Action release);

  // Everything that the guest has open and owes, which it is no longer going to give back: forgotten here.
  struct Rest {
    std::vector<HandleId> handles;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> nodes;  // with their lookups
  };
  Rest take_all();

 private:
  friend class Pins;
  struct Node {
    std::uint64_t lookups = 0;
    std::uint64_t owed = 0;  // forgotten by the guest, not yet by the file system
    unsigned pins = 0;
  };
  struct Handle {
    std::uint64_t opens = 0;
    unsigned pins = 0;
    std::vector<Action> releases;
  };
  struct Hash {
    std::size_t operator()(const HandleId& id) const noexcept {
      return std::hash<std::uint64_t>()((id.node * 31 + id.handle) * 2 + (id.directory ? 1 : 0));
    }
  };
  bool pin_node(std::uint64_t node, Pins& pins);
  bool pin_handle(const HandleId& id, Pins& pins);
  void unpin(Pins& pins);

  const std::function<void(std::uint64_t, std::uint64_t)> forget_;
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, Node> nodes_;
  std::unordered_map<HandleId, Handle, Hash> handles_;
  bool zero_handle_ = false;
};

}  // namespace fusewire::libfuse
