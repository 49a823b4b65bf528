// Workloads that come to an end: what the tree is made and removed with.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "virtiofs-bench/workload.h"

namespace fusewire::bench {

// Makes empty files, and forgets them unless their nodes are wanted.
class MakeFiles final : public Workload {
 public:
  // `nodes`: nullptr, or as long as `names`: gets the nodes, each with one reference.
  MakeFiles(NodeId parent, std::span<const std::string> names, std::vector<Tree::Node>* nodes,
            Forgets& forgets)
      : parent_(parent), names_(names), nodes_(nodes), forgets_(forgets) {}
  bool next(Slot& slot) override;
  Expected<Progress> check(Slot& slot) override;

 private:
  NodeId parent_;
  std::span<const std::string> names_;
  std::vector<Tree::Node>* nodes_;
  Forgets& forgets_;
  std::size_t next_ = 0;
  std::vector<std::size_t> in_slot_;
};

// Looks each file up and unlinks it, as a kernel does: a server may refuse to unlink what it was never asked
// for.
class RemoveFiles final : public Workload {
 public:
  RemoveFiles(NodeId parent, std::span<const std::string> names, Forgets& forgets)
      : parent_(parent), names_(names), forgets_(forgets) {}
  bool next(Slot& slot) override;
  Expected<Progress> check(Slot& slot) override;

 private:
  struct InSlot {
    std::size_t which = 0;
    NodeId node;
    bool found = false;  // looked up, not unlinked yet
  };
  NodeId parent_;
  std::span<const std::string> names_;
  Forgets& forgets_;
  std::size_t next_ = 0;
  std::vector<InSlot> in_slot_;
};

// Writes a file from its beginning, each block with its number in front.
class FillData final : public Workload {
 public:
  // `piece`: bytes of a request, whole pages.
  FillData(NodeId node, FileHandle handle, std::uint64_t size, std::size_t piece)
      : node_(node), handle_(handle), size_(size), piece_(piece) {}
  bool next(Slot& slot) override;
  Expected<Progress> check(Slot& slot) override;

 private:
  NodeId node_;
  FileHandle handle_;
  std::uint64_t size_;
  std::size_t piece_;
  std::uint64_t offset_ = 0;
};

}  // namespace fusewire::bench
