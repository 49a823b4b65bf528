// ServerProcess: a virtio-fs server started by a command, and ended with everything that it started. Used by
// one thread.
#pragma once

#include <sys/types.h>

#include <string>

#include "vhost_user/frontend.h"
#include "virtiofs-bench/expected.h"
#include "virtiofs-bench/temporary_directory.h"

namespace fusewire::bench {

class ServerProcess {
 public:
  // Runs `command` with sh(1) in a process group of its own. {dir} in it becomes `share`, {socket} a path in
  // a new directory below `parent`.
  static Expected<ServerProcess> start(const std::string& command, const std::string& parent,
                                       const std::string& share);
  ServerProcess(ServerProcess&& other) noexcept;
  ServerProcess& operator=(ServerProcess&&) = delete;
  // Ends the process group: SIGTERM, then SIGKILL.
  ~ServerProcess();

  // Connects as soon as the server listens. A server takes one front-end, so that no connection is wasted on
  // trying. Fails when the server ends or does not listen for ten seconds, with what it wrote.
  Expected<vhost_user::Frontend> connect();

  pid_t pid() const { return pid_; }
  // What the server wrote to its standard output and error, the end of it.
  std::string output() const;
  // Whether the process that was started has ended, and how.
  bool ended(std::string& how);

 private:
  explicit ServerProcess(TemporaryDirectory home) : home_(std::move(home)) {}
  std::string log_path() const { return home_.path() + "/log"; }
  std::string socket_path() const { return home_.path() + "/socket"; }
  void reap(int flags);

  TemporaryDirectory home_;
  pid_t pid_ = -1;
  bool reaped_ = false;
  int status_ = 0;
};

}  // namespace fusewire::bench
