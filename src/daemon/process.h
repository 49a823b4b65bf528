// The daemon as a process: its signals, its limit of open descriptors, and going to the background.
//
// Off the data path, used by main before and after everything else. All of it must come before the first
// thread is started: signal masks are inherited by threads, and a forked child has only the thread that
// forked.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"

namespace fusewire::daemon {

// SIGTERM, SIGINT and SIGHUP as a descriptor that becomes readable, for everyone who waits: it stays readable
// until take() is called, so that one signal wakes all.
class StopSignals {
 public:
  // Blocks the three for this thread and all that it starts.
  static Result<StopSignals> block();

  int fd() const { return fd_.get(); }
  // The signal that came first, taken out of the queue; 0: none came.
  int take();

 private:
  explicit StopSignals(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// Turns into errors of the system call what would end the process: writing to a front-end that has gone
// (SIGPIPE), and the guest writing beyond the file size limit that the daemon was started with (SIGXFSZ).
void ignore_fatal_signals();

// The default for --rlimit-nofile: a million, if the host has them to give. Of `file_max`, what all processes
// together may open (fs.file-max), 16384 are left to the others; `nr_open` (fs.nr_open) is the most for one.
// None: not known.
std::uint64_t default_nofile_limit(std::optional<std::uint64_t> nr_open,
                                   std::optional<std::uint64_t> file_max);

// Sets the limit of open descriptors: to `wanted`, with 0 not at all, and by default to
// default_nofile_limit() if the limit is lower than that. What the system does not permit is no error: the
// limit becomes the highest permitted, and the text says what could not be had and what to do.
std::optional<std::string> set_nofile_limit(std::optional<std::uint64_t> wanted);

// Complains of the first of `cpus` that this process may not run on.
std::expected<void, std::string> check_cpus(const std::vector<unsigned>& cpus);

// A process that goes to the background when its start has succeeded, so that whoever started it learns how
// that went from the exit status.
class Background {
 public:
  // Forks. The child, in which parent_status() is none, goes on with the start; errors are printed by it. The
  // parent has waited when this returns.
  static Result<Background> fork();

  // In the parent, what to exit with: 0 once the child called enter(), or what the child ended with before
  // that.
  std::optional<int> parent_status() const { return parent_status_; }

  // In the child: leaves the terminal and, with `leave_directory`, the working directory; stops using the
  // standard descriptors, except a standard error that is a file (a log); and lets the parent end.
  Result<void> enter(bool leave_directory);

 private:
  Background() = default;
  std::optional<int> parent_status_;
  UniqueFd ready_;  // the child's end of the pipe to the parent
};

}  // namespace fusewire::daemon
