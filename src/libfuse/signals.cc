// fuse_set_signal_handlers and its kin: signals that end a session.

#include <execinfo.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "libfuse/session.h"

namespace {

// The session that signals end. Handlers have no other way to know it.
std::atomic<fuse_session*> target{nullptr};

constexpr std::array kEnding{SIGHUP, SIGINT, SIGTERM};
constexpr std::array kFailures{SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV};

void end_session(int signal) {
  const int saved_errno = errno;
  if (fuse_session* session = target.load()) session->end(signal);
  errno = saved_errno;
}

// A write to a pipe that nobody reads fails then. Not SIG_IGN, which programs that are run would inherit, and
// which the program itself may have chosen.
void do_nothing(int) {}

// Says what happened, and lets it happen: the handler is gone by then (SA_RESETHAND).
void report_failure(int signal) {
  const char* name = sigabbrev_np(signal);
  const char* parts[] = {"fuse: fatal signal SIG", name != nullptr ? name : "?", "\n"};
  for (const char* part : parts) {
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, part, std::strlen(part));
  }
  std::array<void*, 64> frames;
  backtrace_symbols_fd(frames.data(), backtrace(frames.data(), frames.size()), STDERR_FILENO);
  raise(signal);
}

// Sets `handler` where the program has left the default; 0 or -1, after a message.
int set_where_default(int signal, void (*handler)(int), int flags) {
  struct sigaction old{};
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = flags;
  if (sigaction(signal, nullptr, &old) != 0 ||
      (old.sa_handler == SIG_DFL && sigaction(signal, &action, nullptr) != 0)) {
    fuse_log(FUSE_LOG_ERR, "fuse: no handler for signal %d: %s\n", signal, strerrordesc_np(errno));
    return -1;
  }
  return 0;
}

void reset_if(int signal, void (*handler)(int)) {
  struct sigaction old{};
  if (sigaction(signal, nullptr, &old) != 0 || old.sa_handler != handler) return;
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  sigaction(signal, &standard, nullptr);
}

}  // namespace

extern "C" {

int fuse_set_signal_handlers(struct fuse_session* se) {
  for (const int signal : kEnding)
    if (set_where_default(signal, end_session, 0) != 0) return -1;
  if (set_where_default(SIGPIPE, do_nothing, SA_RESTART) != 0) return -1;
  target = se;
  return 0;
}

int fuse_set_fail_signal_handlers(struct fuse_session*) {
  for (const int signal : kFailures)
    if (set_where_default(signal, report_failure, SA_RESETHAND | SA_NODEFER) != 0) return -1;
  return 0;
}

void fuse_remove_signal_handlers(struct fuse_session* se) {
  if (target.load() == se) {
    target = nullptr;
  } else {
    fuse_log(FUSE_LOG_ERR, "fuse: the signal handlers are not this session's\n");
  }
  for (const int signal : kEnding) reset_if(signal, end_session);
  reset_if(SIGPIPE, do_nothing);
  for (const int signal : kFailures) reset_if(signal, report_failure);
}

}  // extern "C"
