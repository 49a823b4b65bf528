#include "virtiofs-bench/temporary_directory.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "fusewire/result.h"

namespace fusewire::bench {

Expected<TemporaryDirectory> TemporaryDirectory::make(const std::string& parent) {
  std::string path = parent + "/virtiofs-bench.XXXXXX";
  if (::mkdtemp(path.data()) == nullptr)
    return failed(fmt::format("cannot make a directory in {}: {}", parent, to_string(Errno{errno})));
  return TemporaryDirectory(std::move(path));
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;  // What cannot be removed stays, where temporary files are.
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

// cp(1) is the only one that does it all.
Expected<void> TemporaryDirectory::fill(const std::string& from) const {
  const std::string source = from + "/.";
  const pid_t pid = ::fork();
  if (pid < 0) return failed(fmt::format("fork: {}", to_string(Errno{errno})));
  if (pid == 0) {
    ::execlp("cp", "cp", "-a", "--", source.c_str(), path_.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) return failed(fmt::format("{} cannot be copied to {}", from, path_));
  return {};
}

}  // namespace fusewire::bench
