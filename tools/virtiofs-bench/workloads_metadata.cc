// Workloads that ask about files: nop, getattr, lookup.
#include <fmt/format.h>

#include <cerrno>

#include "virtiofs-bench/workloads.h"

namespace fusewire::bench {
namespace {

// Opcodes are 16 bits wide in no protocol version; this one is far from those that exist.
constexpr std::uint32_t kNoOpcode = 4000;
// Names and nodes that are asked for: enough that nothing special is measured, few enough to be known.
constexpr std::size_t kAsked = 1024;

std::span<Tree::File> asked_files(Tree& tree) {
  return std::span(tree.files).first(std::min(kAsked, tree.files.size()));
}

class Nop final : public Workload {
 public:
  bool next(Slot& slot) override {
    slot.request(kNoOpcode, kRootNode);
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    if (auto right = expect_error(slot, "an unknown opcode", ENOSYS); !right) return failed(right.error());
    return Progress{};
  }
};

class Getattr final : public Workload {
 public:
  explicit Getattr(const Part& part) : files_(asked_files(part.tree)), random_(part.thread + 1) {}
  bool next(Slot& slot) override {
    const Tree::File& file = files_[random_.below(files_.size())];
    slot.request(FUSE_GETATTR, file.node).arg(fuse_getattr_in{}).expect<fuse_attr_out>();
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    if (auto right = expect_error(slot, "GETATTR"); !right) return failed(right.error());
    if (slot.body_size() != sizeof(fuse_attr_out)) return failed("GETATTR: the reply has a wrong size");
    return Progress{};
  }

 private:
  std::span<const Tree::File> files_;
  Random random_;
};

class LookupHit final : public Workload {
 public:
  explicit LookupHit(const Part& part)
      : forgets_(part.forgets),
        parent_(part.tree.many),
        files_(asked_files(part.tree)),
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
    if (auto right = expect_error(slot, "LOOKUP"); !right) return failed(right.error());
    const std::size_t which = asked_[slot.index()];
    const auto entry = slot.reply<fuse_entry_out>();
    if (slot.body_size() != sizeof entry || entry.nodeid != files_[which].node.get())
      return failed(fmt::format("LOOKUP {}: node {} where it is {}", files_[which].name, entry.nodeid,
                                files_[which].node.get()));
    ++found_[which];
    return Progress{};
  }
  // The kernel would give the references back with the dentries.
  Expected<void> finish(Client&) override {
    for (std::size_t i = 0; i < files_.size(); ++i)
      if (found_[i] != 0)
        if (auto forgotten = forgets_.add(files_[i].node, found_[i]); !forgotten) return forgotten;
    return forgets_.drain();
  }

 private:
  Forgets& forgets_;
  NodeId parent_;
  std::span<const Tree::File> files_;
  std::vector<std::size_t> asked_;    // by slot
  std::vector<std::uint64_t> found_;  // by file
  Random random_;
};

}  // namespace

MadeWorkload make_nop(const Part&) { return std::make_unique<Nop>(); }
MadeWorkload make_getattr(const Part& part) { return std::make_unique<Getattr>(part); }
MadeWorkload make_lookup_hit(const Part& part) { return std::make_unique<LookupHit>(part); }

}  // namespace fusewire::bench
