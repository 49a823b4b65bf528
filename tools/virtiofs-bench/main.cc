// virtiofs-bench: measures virtio-fs servers over their vhost-user sockets, without a virtual machine.
//
// Exit status: 0 measured; 1 a server failed, or gave a wrong reply; 2 a command line that cannot be run; 130
// ended by a signal.
#include <fmt/format.h>
#include <signal.h>

#include <atomic>
#include <cstdio>

#include "virtiofs-bench/bench.h"

namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may touch no other");

// No SA_RESTART: waits see the flag at once.
void watch_signals() {
  struct sigaction action{};
  action.sa_handler = [](int) { interrupted = true; };
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

}  // namespace

int main(int argc, char** argv) {
  const auto line = fusewire::bench::parse(argc, argv);
  if (!line) {
    fmt::print(stderr, "virtiofs-bench: {}\nSee virtiofs-bench --help.\n", line.error());
    return 2;
  }
  if (!line->text.empty()) {
    fmt::print("{}", line->text);
    return 0;
  }
  watch_signals();
  const auto done = fusewire::bench::run(line->options, interrupted);
  if (!done) fmt::print(stderr, "virtiofs-bench: {}\n", done.error());
  if (interrupted) return 130;
  return done ? 0 : 1;
}
