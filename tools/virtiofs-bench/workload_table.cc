#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/result.h"
#include "virtiofs-bench/workloads.h"

namespace fusewire::bench {
namespace {

constexpr std::size_t kPage = kPageSize;

constexpr std::array kKinds{
    WorkloadKind{"nop", "an opcode that no server knows, answered ENOSYS", "request", 0, make_nop},
    WorkloadKind{"getattr", "GETATTR of one of 1024 files", "request", 0, make_getattr},
    WorkloadKind{"lookup-hit", "LOOKUP of one of 1024 names that exist", "request", 0, make_lookup_hit},
    WorkloadKind{"randread4k", "READ of 4 KiB anywhere in the data file", "request", kPage, make_randread},
    WorkloadKind{"randwrite4k", "WRITE of 4 KiB anywhere in the data file", "request", kPage, make_randwrite},
};

}  // namespace

std::span<const WorkloadKind> workload_kinds() { return kKinds; }

const WorkloadKind* find_workload(std::string_view name) {
  const auto* found = std::ranges::find(kKinds, name, &WorkloadKind::name);
  return found == kKinds.end() ? nullptr : found;
}

Expected<void> expect_error(const Slot& slot, std::string_view what, int wanted) {
  if (slot.error() == wanted) return {};
  const auto words = [](int error) { return error == 0 ? std::string("success") : to_string(Errno{error}); };
  return failed(
      fmt::format("{} was answered with {}, where {} is right", what, words(slot.error()), words(wanted)));
}

}  // namespace fusewire::bench
