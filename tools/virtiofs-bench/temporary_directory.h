// TemporaryDirectory: a new directory, removed with everything in it at the end. One thread.
#pragma once

#include <string>
#include <utility>

#include "virtiofs-bench/expected.h"

namespace fusewire::bench {

class TemporaryDirectory {
 public:
  // Makes one below `parent`.
  static Expected<TemporaryDirectory> make(const std::string& parent);
  TemporaryDirectory(TemporaryDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryDirectory& operator=(TemporaryDirectory&&) = delete;
  ~TemporaryDirectory();

  const std::string& path() const { return path_; }
  // Puts a copy of what the directory `from` holds into it, with owners, times, links and attributes.
  Expected<void> fill(const std::string& from) const;

 private:
  explicit TemporaryDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;  // "": moved from
};

}  // namespace fusewire::bench
