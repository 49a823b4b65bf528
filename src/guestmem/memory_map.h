// MemoryRegion and MemoryMap: the guest's memory as the front-end shares it with us, and the only way from a
// number that the guest wrote to a pointer.
//
// A MemoryMap is an immutable snapshot, always held by shared_ptr. Whoever uses a pointer that came out of it
// keeps the snapshot (each request pins the one it was translated with); a region is unmapped when the last
// snapshot that holds it goes. Hot-plugged memory makes a new snapshot which shares the old regions: nothing
// is mapped again and no pointer moves. All methods are const and safe from any thread.
//
// Trust: the guest is hostile, its addresses and lengths are checked here with arithmetic that cannot
// overflow. The front-end is trusted in one respect: it does not shrink the files behind the regions later.
// We check their size once when they are mapped; if the front-end truncates one afterwards, system calls on
// that range fail with EFAULT, but our own loads and stores raise SIGBUS and end the process. One daemon
// serves one VM, so a front-end which does that takes down only its own share, and it can stop us in simpler
// ways. The guest cannot make it happen: balloons punch holes, which leaves the size and reads as zeros.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "guestmem/guest_address.h"

namespace fusewire::guestmem {

// vhost-user "memory region description": `size` bytes of the guest at `guest`, which the front-end sees at
// its own address `user` and which begin `mmap_offset` bytes into the file that comes along.
struct RegionDescription {
  GuestAddress guest;
  std::uint64_t size = 0;
  std::uint64_t user = 0;
  std::uint64_t mmap_offset = 0;
  friend bool operator==(const RegionDescription&, const RegionDescription&) = default;
};

// One mapped region. Immutable; the mapping lives as long as the object.
class MemoryRegion {
 public:
  // Maps the region readable and writable, kept out of core dumps. `fd` is only borrowed: the mapping
  // outlives it. The error is a text for the log: an empty or overflowing range, a file too small for it, or
  // what mmap(2) says.
  static std::expected<std::shared_ptr<const MemoryRegion>, std::string> map(
      const RegionDescription& description, const UniqueFd& fd);
  ~MemoryRegion();
  MemoryRegion(const MemoryRegion&) = delete;
  MemoryRegion& operator=(const MemoryRegion&) = delete;

  const RegionDescription& description() const { return description_; }
  std::byte* host() const { return host_; }

 private:
  MemoryRegion(const RegionDescription& description, void* mapping, std::size_t mapped_size, std::byte* host)
      : description_(description), mapping_(mapping), mapped_size_(mapped_size), host_(host) {}

  const RegionDescription description_;
  void* const mapping_;  // What mmap(2) gave: begins up to a (huge) page before host_.
  const std::size_t mapped_size_;
  std::byte* const host_;  // The region's first byte.
};

class MemoryMap {
 public:
  using Regions = std::vector<std::shared_ptr<const MemoryRegion>>;

  // How many regions we take (the answer to GET_MAX_MEM_SLOTS): as many memory slots as KVM gives to a guest.
  static constexpr std::size_t kMaxRegions = 509;

  // A snapshot of `regions`, in any order. Refused (with a text) when two overlap in the guest, or when
  // there are more than kMaxRegions. User addresses may overlap: a front-end can show one piece of its
  // memory to the guest twice.
  static std::expected<std::shared_ptr<const MemoryMap>, std::string> create(Regions regions);
  // The snapshot without any memory: every translation fails.
  static std::shared_ptr<const MemoryMap> empty();

  // This snapshot and one region more (ADD_MEM_REG), or without the region that has `description`'s guest
  // address, size and user address (REM_MEM_REG; its mmap offset does not matter).
  std::expected<std::shared_ptr<const MemoryMap>, std::string> with(
      std::shared_ptr<const MemoryRegion> region) const;
  std::expected<std::shared_ptr<const MemoryMap>, std::string> without(
      const RegionDescription& description) const;

  std::size_t region_count() const { return regions_.size(); }
  const Regions& regions() const { return regions_; }

  // Appends host ranges that cover the guest's [address, address + length): one, or more where the range runs
  // on into adjacent regions. No bytes: nothing is appended, wherever `address` points. False, and `to` as it
  // was, when any byte lies outside of every region. Allocates only when `to` has to grow.
  [[nodiscard]] bool translate(GuestAddress address, std::uint64_t length, std::vector<iovec>& to) const;

  // The pointer to the guest's [address, address + length) if it lies in one region, else nullptr.
  std::byte* contiguous(GuestAddress address, std::uint64_t length) const;

  // Copies guest memory out, across adjacent regions where need be. False when any byte lies outside.
  [[nodiscard]] bool copy_out(GuestAddress address, std::span<std::byte> to) const;

  // The pointer to the front-end's [user, user + length) if it lies in one region, else nullptr. This is how
  // rings are addressed: vhost-user, "A vring address description".
  std::byte* from_user(std::uint64_t user, std::uint64_t length) const;

  // Where a host pointer from this map lies in the guest; nullopt for any other pointer. A range that
  // translate() gave never leaves its region, so its first byte tells for all of it.
  std::optional<GuestAddress> guest_address(const void* host) const;

 private:
  // One region in a lookup table, whose `begin` is its address in the space that the table is for.
  struct Entry {
    std::uint64_t begin;
    std::uint64_t size;
    std::byte* host;
    GuestAddress guest;
  };
  explicit MemoryMap(Regions regions);
  // The entry that `address` lies in, or null.
  static const Entry* find(const std::vector<Entry>& table, std::uint64_t address);

  Regions regions_;              // Sorted by guest address.
  std::vector<Entry> by_guest_;  // Each table sorted by `begin`, its ranges disjoint.
  std::vector<Entry> by_host_;
};

}  // namespace fusewire::guestmem
