// Carrier: a server, a mount, and the workers between them; from connecting to the server until both have
// gone.
//
// Everything here runs on the main thread, but for the workers and a short-lived thread that unmounts (which
// waits for requests, while the main thread still has to hear signals and the end of the server).
#pragma once

#include <pthread.h>

#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/process.h"
#include "devfuse/mount.h"
#include "driver/server.h"
#include "fusewire/unique_fd.h"
#include "virtiofs-mount/exchange.h"
#include "virtiofs-mount/init.h"
#include "virtiofs-mount/worker.h"

namespace fusewire::carry {

struct CarrierOptions {
  std::string socket;
  std::string mountpoint;
  devfuse::MountOptions mount;
  unsigned queues = 1;
  bool interrupts = false;
};

class Carrier {
 public:
  // Connects, mounts, and carries INIT. When this succeeds the mount is usable as soon as run() is called.
  // `observers` must outlive the result. `stop_fd` becoming readable ends the wait for the server. Errors:
  // texts that say what to do; nothing is left mounted then.
  static std::expected<std::unique_ptr<Carrier>, std::string> start(const CarrierOptions& options,
                                                                    std::vector<Observer*> observers,
                                                                    int stop_fd);
  ~Carrier();

  // Starts the workers.
  std::expected<void, std::string> serve();

  // Why it ended.
  enum class End { unmounted, signal, server_gone };
  // Returns when the mount has gone, by whosever doing. A first signal unmounts, a second one does not wait
  // for the server any more.
  End wait(daemon::StopSignals& signals);

 private:
  explicit Carrier(std::unique_ptr<driver::Server> server) : server_(std::move(server)) {}
  std::expected<void, std::string> mount(const CarrierOptions& options, std::vector<Observer*> observers);
  std::expected<void, std::string> carry_init(int stop_fd);
  std::expected<std::vector<std::byte>, std::string> read_init(int stop_fd);
  std::expected<void, std::string> make_workers(unsigned count);

  // The end, step by step.
  struct Ending;
  int sleep(const Ending& ending, int signal_fd);
  void look_at_server(Ending& ending);
  void look_at_signals(Ending& ending, daemon::StopSignals& signals);
  void look_at_unmounter(Ending& ending);
  void begin_unmount(bool server_gone);
  void give_up();
  void wake_all();
  void join_all();
  void destroy_session();

  std::unique_ptr<driver::Server> server_;
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<Hiprio> hiprio_;
  UniqueFd alarm_;
  std::unique_ptr<devfuse::Mount> mount_;
  std::unique_ptr<devfuse::Channel> channel_;  // the first; until its worker has it
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<Shared> shared_;
  Settled settled_;
  std::uint32_t page_limit_ = 0;
  std::vector<pthread_t> threads_;
  std::optional<pthread_t> unmounter_;
  std::atomic<bool> unmount_done_{false};
};

}  // namespace fusewire::carry
