// A C file system for tests: a session whose callbacks are lambdas, over an engine in plain memory.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fuse/testing/harness.h"
#include "libfuse/adapter.h"
#include "libfuse/session.h"

namespace fusewire::libfuse::testing {

using fusewire::testing::Answer;
using fusewire::testing::Harness;
using fusewire::testing::MemorySlot;
using fusewire::testing::Request;

// Makes a session; the arguments stand behind the program's name.
inline std::unique_ptr<fuse_session, void (*)(fuse_session*)> make_session(
    const Operations& operations, std::vector<std::string> arguments = {}, void* userdata = nullptr) {
  arguments.insert(arguments.begin(), "test");
  std::vector<char*> argv;
  argv.reserve(arguments.size());
  for (std::string& argument : arguments) argv.push_back(argument.data());
  fuse_args args{static_cast<int>(argv.size()), argv.data(), 0};
  return {fuse_session_new(&args, &operations, sizeof operations, userdata), fuse_session_destroy};
}

// A session, its adapter under a harness, and INIT.
class CFileSystem {
 public:
  explicit CFileSystem(const Operations& operations, std::vector<std::string> arguments = {},
                       void* userdata = nullptr)
      : session_(make_session(operations, std::move(arguments), userdata)), harness_(*session_->adapter) {}

  fuse_session& session() { return *session_; }
  Harness& harness() { return harness_; }
  Answer init() { return harness_.init(); }
  Answer send(const Request& request) { return harness_.send(request); }

 private:
  std::unique_ptr<fuse_session, void (*)(fuse_session*)> session_;
  Harness harness_;
};

// The whole body as bytes, for comparison with what was expected.
template <class... Parts>
std::vector<std::byte> bytes_together(const Parts&... parts) {
  std::vector<std::byte> all;
  const auto append = [&all](std::span<const std::byte> bytes) {
    all.insert(all.end(), bytes.begin(), bytes.end());
  };
  (append(bytes_of(parts)), ...);
  return all;
}

}  // namespace fusewire::libfuse::testing
