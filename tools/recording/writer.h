// Writer: keeps a workload in a file as it happens. Thread-safe; what it is given is copied before it
// returns.
#pragma once

#include <linux/fuse.h>

#include <chrono>
#include <cstddef>
#include <expected>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "fusewire/unique_fd.h"
#include "recording/record.h"

namespace fusewire::recording {

class Writer {
 public:
  // Makes the file, or makes it empty. The error is a text.
  static std::expected<std::unique_ptr<Writer>, std::string> create(const std::string& path);
  // Writes what is still in memory.
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // A whole request, and how many bytes its reply's body may have.
  void request(unsigned queue, std::span<const std::byte> request, std::uint32_t room);
  // The reply to a request with this opcode.
  void reply(std::uint32_t opcode, const fuse_out_header& header, std::span<const std::byte> body);

 private:
  Writer(UniqueFd fd, std::string path)
      : fd_(std::move(fd)), path_(std::move(path)), start_(std::chrono::steady_clock::now()) {}
  void add(Record record);
  void write_out();

  UniqueFd fd_;  // none: it could not be written to, which was logged
  const std::string path_;
  const std::chrono::steady_clock::time_point start_;
  std::mutex mutex_;  // for all below
  std::chrono::nanoseconds last_{};
  std::vector<std::byte> buffer_;
};

}  // namespace fusewire::recording
