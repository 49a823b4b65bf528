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
MadeWorkload make_lookup_miss(const Part& part);
// workloads_files.cc
MadeWorkload make_open_release(const Part& part);
MadeWorkload make_create_unlink(const Part& part);
MadeWorkload make_stat_storm(const Part& part);
// workload_readdirplus.cc
MadeWorkload make_readdirplus(const Part& part);
MadeWorkload make_readdirplus_cold(const Part& part);
// workloads_data.cc
MadeWorkload make_randread4k(const Part& part);
MadeWorkload make_randwrite4k(const Part& part);
MadeWorkload make_mixed7030(const Part& part);
MadeWorkload make_seqread128k(const Part& part);
MadeWorkload make_seqread1m(const Part& part);
MadeWorkload make_seqwrite128k(const Part& part);
MadeWorkload make_seqwrite1m(const Part& part);
// workload_append.cc
MadeWorkload make_append_fsync(const Part& part);

}  // namespace fusewire::bench
