// Test helper: collects what the library logs while it is in scope.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <string>

#include "fuse3/fuse_log.h"

namespace fusewire::libfuse {

class CapturedLog {
 public:
  CapturedLog() {
    text().clear();
    fuse_set_log_func([](fuse_log_level level, const char* format, va_list arguments) {
      char line[512];
      std::vsnprintf(line, sizeof line, format, arguments);
      text() += std::to_string(level) + ":" + line;
    });
  }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;
  ~CapturedLog() { fuse_set_log_func(nullptr); }

  // Each message with its level before it: "3:no such thing\n".
  static std::string& text() {
    static std::string all;
    return all;
  }
};

}  // namespace fusewire::libfuse
