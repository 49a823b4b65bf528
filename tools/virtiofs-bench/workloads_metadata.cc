// Workloads of one request about one file or name: nop, getattr, lookup-hit, lookup-miss.
#include <fmt/format.h>

#include <cerrno>

#include "virtiofs-bench/workloads.h"

namespace fusewire::bench {
namespace {

// Far from the opcodes that exist, CUSE_INIT (4096) included.
constexpr std::uint32_t kNoOpcode = 4000;

class Nop final : public Workload {
 public:
  bool next(Slot& slot) override {
    slot.request(kNoOpcode, kRootNode);
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    if (auto right = slot.expect_error("an unknown opcode", ENOSYS); !right) return failed(right.error());
    return Progress{};
  }
};

class Getattr final : public Workload {
 public:
  explicit Getattr(const Part& part) : files_(part.tree.known), random_(part.thread + 1) {}
  bool next(Slot& slot) override {
    const Tree::Node& file = files_[random_.below(files_.size())];
    slot.request(FUSE_GETATTR, file.node).arg(fuse_getattr_in{}).expect<fuse_attr_out>();
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    const auto attributes = slot.expect_reply<fuse_attr_out>("GETATTR");
    if (!attributes) return failed(attributes.error());
    return Progress{};
  }

 private:
  std::span<const Tree::Node> files_;
  Random random_;
};

class LookupHit final : public Workload {
 public:
  explicit LookupHit(const Part& part)
      : forgets_(part.forgets),
        parent_(part.tree.known_directory),
        files_(part.tree.known),
        asked_(part.depth),
        found_(files_.size()),
        random_(part.thread + 1) {}
  bool next(Slot& slot) override {
    const std::size_t which = random_.below(files_.size());
    asked_[slot.index()] = which;
    slot.request(FUSE_LOOKUP, parent_).name(files_[which].name).expect<fuse_entry_out>();
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    const auto entry = slot.expect_reply<fuse_entry_out>("LOOKUP");
    if (!entry) return failed(entry.error());
    const std::size_t which = asked_[slot.index()];
    if (entry->nodeid != files_[which].node.get())
      return failed(fmt::format("LOOKUP {}: node {} where it is {}", files_[which].name, entry->nodeid,
                                files_[which].node.get()));
    ++found_[which];
    return Progress{};
  }
  // The references that the kernel would give back with the dentries.
  Expected<void> finish(Client&) override {
    for (std::size_t i = 0; i < files_.size(); ++i)
      if (found_[i] != 0)
        if (auto forgotten = forgets_.add(files_[i].node, found_[i]); !forgotten) return forgotten;
    return forgets_.drain();
  }

 private:
  Forgets& forgets_;
  NodeId parent_;
  std::span<const Tree::Node> files_;
  std::vector<std::size_t> asked_;    // by slot
  std::vector<std::uint64_t> found_;  // by file
  Random random_;
};

class LookupMiss final : public Workload {
 public:
  explicit LookupMiss(const Part& part) : parent_(part.tree.known_directory), random_(part.thread + 1) {}
  bool next(Slot& slot) override {
    std::string name = "missing0000";
    fmt::format_to(name.begin() + 7, "{:04x}", random_.below(1U << 16));
    slot.request(FUSE_LOOKUP, parent_).name(name).expect<fuse_entry_out>();
    return true;
  }
  // A server may say so with an entry without node as well, which the kernel may then remember.
  Expected<Progress> check(Slot& slot) override {
    if (slot.error() == 0 && slot.body_size() == sizeof(fuse_entry_out) &&
        slot.reply<fuse_entry_out>().nodeid == 0)
      return Progress{};
    if (auto right = slot.expect_error("LOOKUP of a missing name", ENOENT); !right)
      return failed(right.error());
    return Progress{};
  }

 private:
  NodeId parent_;
  Random random_;
};

}  // namespace

MadeWorkload make_nop(const Part&) { return std::make_unique<Nop>(); }
MadeWorkload make_getattr(const Part& part) { return std::make_unique<Getattr>(part); }
MadeWorkload make_lookup_hit(const Part& part) { return std::make_unique<LookupHit>(part); }
MadeWorkload make_lookup_miss(const Part& part) { return std::make_unique<LookupMiss>(part); }

}  // namespace fusewire::bench
