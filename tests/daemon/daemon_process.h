// DaemonProcess: the real virtiofsd under test, as a child process. Its standard error is kept in a file and
// shown when the test has failed.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fusewire/unique_fd.h"

namespace fusewire::tests {

// A directory that goes away with everything in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class DaemonProcess {
 public:
  // Starts the daemon (FUSEWIRE_VIRTIOFSD in the environment, else the one of this build) with `arguments`
  // behind --socket-path=`socket`.
  DaemonProcess(const std::filesystem::path& directory, const std::vector<std::string>& arguments);
  // Ends it, if it still runs, and fails the test when it did not end with status 0.
  ~DaemonProcess();
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  const std::string& socket_path() const { return socket_path_; }
  pid_t pid() const { return pid_; }

  // A connection to its socket, waited for while the daemon starts; none (and a failure) when it does not
  // come.
  UniqueFd connect();

  bool running() const;
  // Sends a signal to it.
  void signal(int number) const;
  // Waits for its end: the exit status, 256 + the signal that ended it, or nothing (and a failure).
  std::optional<int> wait_for_end();
  // For a test that has seen the end it wanted: what ~DaemonProcess would else complain about.
  void expect_status(int status) { expected_status_ = status; }

  // From /proc.
  std::size_t descriptors() const;
  std::size_t threads() const;
  std::size_t anonymous_memory() const;  // RssAnon in bytes
  // What it has said so far.
  std::string log() const;

 private:
  std::string socket_path_;
  std::filesystem::path log_path_;
  pid_t pid_ = -1;
  UniqueFd pid_fd_;
  std::optional<int> status_;
  int expected_status_ = 0;
};

// True in builds whose daemon is instrumented: memory numbers mean nothing there, and all is slower.
constexpr bool kSanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    true;
#else
    false;
#endif
#else
    false;
#endif

}  // namespace fusewire::tests
