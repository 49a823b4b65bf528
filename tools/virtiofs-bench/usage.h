// What a server costs: the CPU time, memory and open descriptors of its process and all its live children,
// read from outside. Any thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

namespace fusewire::bench {

// `pid` and what descends from it, as /proc shows it now; empty when `pid` is not there.
std::vector<pid_t> process_tree(pid_t pid);

// CPU time of all threads, those that have ended included, of the processes in `tree` that live. The
// scheduler's clock of each process, which counts nanoseconds (clock_getcpuclockid(3)).
std::chrono::nanoseconds cpu_time(std::span<const pid_t> tree);

// Lets the peak of their memory begin anew (proc(5), clear_refs), where we may.
void restart_peak(std::span<const pid_t> tree);

struct Footprint {
  std::uint64_t peak_bytes = 0;   // VmHWM, summed: memory that processes share counts more than once
  std::uint64_t descriptors = 0;  // entries of /proc/PID/fd, summed; 0 where we may not look
};
Footprint footprint(std::span<const pid_t> tree);

}  // namespace fusewire::bench
