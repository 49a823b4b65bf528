// The makers of all workloads, for workload_table.cc. What each does stands in docs/virtiofs-bench.md.
#pragma once

#include <memory>

#include "virtiofs-bench/workload.h"

namespace fusewire::bench {

using MadeWorkload = std::unique_ptr<Workload>;

// workloads_metadata.cc
MadeWorkload make_nop(const Part& part);
MadeWorkload make_getattr(const Part& part);
MadeWorkload make_lookup_hit(const Part& part);
// workloads_data.cc
MadeWorkload make_randread(const Part& part);
MadeWorkload make_randwrite(const Part& part);

}  // namespace fusewire::bench
