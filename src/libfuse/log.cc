// The library's messages: a receiver that the program may replace, standard error by default, or the system
// log. Thread-safe; the receiver is one atomic pointer.
#include "fuse3/fuse_log.h"

#include <syslog.h>

#include <atomic>
#include <cerrno>
#include <cstdio>

namespace {

void to_standard_error(fuse_log_level, const char* fmt, va_list ap) { std::vfprintf(stderr, fmt, ap); }

// fuse_log_level has syslog's numbers.
void to_system_log(fuse_log_level level, const char* fmt, va_list ap) { vsyslog(level, fmt, ap); }

std::atomic<fuse_log_func_t> receiver{to_standard_error};

}  // namespace

extern "C" {

void fuse_set_log_func(fuse_log_func_t func) { receiver = func != nullptr ? func : to_standard_error; }

void fuse_log(fuse_log_level level, const char* fmt, ...) {
  const int saved_errno = errno;
  va_list ap;
  va_start(ap, fmt);
  receiver.load()(level, fmt, ap);
  va_end(ap);
  errno = saved_errno;
}

void fuse_log_enable_syslog(const char* ident, int option, int facility) {
  openlog(ident, option, facility);
  receiver = to_system_log;
}

void fuse_log_close_syslog() {
  receiver = to_standard_error;
  closelog();
}

}  // extern "C"
