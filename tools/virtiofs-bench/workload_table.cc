#include <algorithm>
#include <array>

#include "virtiofs-bench/workloads.h"

namespace fusewire::bench {
namespace {

constexpr std::size_t k4k = std::size_t{4} << 10;
constexpr std::size_t k128k = std::size_t{128} << 10;
constexpr std::size_t k1m = std::size_t{1} << 20;

constexpr std::array kKinds{
    WorkloadKind{"nop", "an opcode that no server knows, answered ENOSYS", "request", 0, make_nop},
    WorkloadKind{"getattr", "GETATTR of a file that is known", "request", 0, make_getattr},
    WorkloadKind{"lookup-hit", "LOOKUP of a name that is known", "request", 0, make_lookup_hit},
    WorkloadKind{"lookup-miss", "LOOKUP of a name that is not there", "request", 0, make_lookup_miss},
    WorkloadKind{"open-release", "OPEN and RELEASE of a file that is known", "pair", 0, make_open_release},
    WorkloadKind{"create-unlink", "CREATE, RELEASE, UNLINK and FORGET of a new file", "file", 0,
                 make_create_unlink},
    WorkloadKind{"readdirplus", "passes over a directory: OPENDIR, READDIRPLUS, RELEASEDIR, FORGETs", "entry",
                 k128k, make_readdirplus},
    WorkloadKind{"readdirplus-cold", "likewise, but each entry is forgotten at once", "entry", k128k,
                 make_readdirplus_cold},
    WorkloadKind{"stat-storm", "LOOKUP, GETATTR and FORGET, over a big tree", "file", 0, make_stat_storm},
    WorkloadKind{"randread4k", "READ of 4 KiB anywhere in the data file", "request", k4k, make_randread4k},
    WorkloadKind{"randwrite4k", "WRITE of 4 KiB anywhere in the data file", "request", k4k, make_randwrite4k},
    WorkloadKind{"mixed7030", "70 of those reads to 30 of those writes", "request", k4k, make_mixed7030},
    WorkloadKind{"seqread128k", "READs of 128 KiB, one after the other", "request", k128k, make_seqread128k},
    WorkloadKind{"seqread1m", "READs of 1 MiB, one after the other", "request", k1m, make_seqread1m},
    WorkloadKind{"seqwrite128k", "WRITEs of 128 KiB, one after the other", "request", k128k,
                 make_seqwrite128k},
    WorkloadKind{"seqwrite1m", "WRITEs of 1 MiB, one after the other", "request", k1m, make_seqwrite1m},
    WorkloadKind{"append-fsync", "WRITE of 4 KiB at the end of a file, and FSYNC", "pair", k4k,
                 make_append_fsync},
};

}  // namespace

std::span<const WorkloadKind> workload_kinds() { return kKinds; }

const WorkloadKind* find_workload(std::string_view name) {
  const auto* found = std::ranges::find(kKinds, name, &WorkloadKind::name);
  return found == kKinds.end() ? nullptr : found;
}

}  // namespace fusewire::bench
