// ServerProcess: a virtio-fs server started by a command, with a fresh directory to share, and ended and
// removed again with everything it left. Used by one thread.
#pragma once

#include <sys/types.h>

#include <string>

#include "vhost_user/frontend.h"
#include "virtiofs-bench/expected.h"

namespace fusewire::bench {

class ServerProcess {
 public:
  // Runs `command` with sh(1), {socket} and {dir} in it replaced, in a process group of its own, in a new
  // directory below `parent`. What it shares is a copy of the directory `contents`; "": empty.
  static Expected<ServerProcess> start(const std::string& command, const std::string& parent,
                                       const std::string& contents);
  ServerProcess(ServerProcess&& other) noexcept;
  ServerProcess& operator=(ServerProcess&&) = delete;
  // Ends the process group (SIGTERM, then SIGKILL), and removes the directory.
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
  ServerProcess() = default;
  std::string log_path() const { return home_ + "/log"; }
  std::string socket_path() const { return home_ + "/socket"; }
  void reap(int flags);

  std::string home_;
  pid_t pid_ = -1;
  bool reaped_ = false;
  int status_ = 0;
};

}  // namespace fusewire::bench
