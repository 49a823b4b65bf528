// Reader: the records of a file, one after the other. The file may hold anything: it takes bounded memory,
// and says where it stopped making sense. Used by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "fusewire/unique_fd.h"
#include "recording/record.h"

namespace fusewire::recording {

class Reader {
 public:
  // Errors are texts: the file cannot be read, is no recording, or one of another version.
  static std::expected<Reader, std::string> open(const std::string& path);

  // The next record; none at the end. The error says at which byte the file stops being a recording.
  std::expected<std::optional<Record>, std::string> next();

  // After the end: whether the file was cut off within a record.
  bool truncated() const { return truncated_; }

 private:
  Reader(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  // Reads more of the file behind what is in the buffer. False at its end.
  std::expected<bool, std::string> fill();

  UniqueFd fd_;
  std::string path_;
  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0;       // of what was not decoded yet, in the buffer
  std::uint64_t position_ = 0;  // of that, in the file
  std::chrono::nanoseconds last_{};
  bool truncated_ = false;
};

}  // namespace fusewire::recording
