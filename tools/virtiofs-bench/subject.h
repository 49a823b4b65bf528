// Subject: a server that we are connected to: one that ran already, or a process of ours. And Meter, which
// reads what it costs. Main thread.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "driver/server.h"
#include "virtiofs-bench/client.h"
#include "virtiofs-bench/histogram.h"
#include "virtiofs-bench/options.h"
#include "virtiofs-bench/server_process.h"
#include "virtiofs-bench/usage.h"

namespace fusewire::bench {

// What a server that is started gets, and what all waiting for it looks at.
struct Site {
  std::string directory;  // for its socket and its output
  std::string share;      // what it shares
  const std::atomic<bool>& interrupted;
};

class Subject {
 public:
  // Starts (or finds) the server `index` of `options`, and connects. Errors begin with its name.
  static Expected<std::unique_ptr<Subject>> open(const Options& options, std::size_t index, const Site& site,
                                                 const driver::ServerOptions& wanted);

  const std::string& name() const { return name_; }
  driver::Server& server() { return *server_; }
  const driver::Server& server() const { return *server_; }
  const Link& link() const { return link_; }
  // The process that serves, or its parent; 0: not known.
  pid_t pid() const { return pid_; }

  // An error with the server's name, how it ended if it did, and what it wrote last.
  std::unexpected<std::string> failure(const std::string& what);

 private:
  explicit Subject(const std::atomic<bool>& interrupted) : link_{-1, interrupted} {}
  Expected<void> connect(const Options& options, const driver::ServerOptions& wanted);

  std::string name_;
  std::optional<ServerProcess> process_;
  std::unique_ptr<driver::Server> server_;  // disconnects before the process is ended
  Link link_;
  pid_t pid_ = 0;
};

// What one run gave.
struct RunResult {
  double seconds = 0;
  std::uint64_t operations = 0;
  std::uint64_t bytes = 0;
  Histogram latency;
  double cpu_seconds = 0;
  std::uint64_t kicks = 0;
  std::uint64_t interrupts = 0;
  Footprint footprint;
};

// Runs from its making to read(). No driver thread may be at work at either moment.
class Meter {
 public:
  explicit Meter(Subject& subject);
  // Everything of the result but operations, bytes and latency.
  RunResult read() const;

 private:
  struct Notifications {
    std::uint64_t kicks = 0, interrupts = 0;
  };
  Notifications notifications() const;

  Subject& subject_;
  std::vector<pid_t> processes_;
  Notifications notifications_;
  std::chrono::nanoseconds cpu_{0};
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace fusewire::bench
