#include "devfuse/sync_init.h"

#include <linux/fuse.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include <array>
#include <cerrno>
#include <charconv>

namespace fusewire::devfuse {
namespace {

constexpr unsigned long kSyncInit = _IO(FUSE_DEV_IOC_MAGIC, 3);

bool is_safe_here() {
  utsname system{};
  return uname(&system) == 0 && SyncInit::is_safe_with(system.release);
}

}  // namespace

bool SyncInit::is_safe_with(std::string_view release) {
  std::array<unsigned, 3> number{};
  const char* at = release.data();
  const char* const end = at + release.size();
  for (unsigned& part : number) {
    const auto [next, error] = std::from_chars(at, end, part);
    if (error != std::errc()) break;
    at = next != end && *next == '.' ? next + 1 : end;
  }
  const auto [major, minor, patch] = number;
  if (major == 6 && minor == 18) return patch >= 25;
  if (major == 7 && minor == 0) return patch >= 2;
  return major > 7 || (major == 7 && minor >= 1);
}

SyncInit::SyncInit(const Channel& channel, const ServeInit& serve)
    : channel_(channel), serve_(serve), request_{channel.fd(), POLLIN, 0} {
  if (!serve || !is_safe_here()) return;
  // The thread asks the kernel for it: where there can be no thread, mount(2) would wait for ever.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const auto run = [](void* self) -> void* {
    static_cast<SyncInit*>(self)->run();
    return nullptr;
  };
  running_ = pthread_create(&thread_, nullptr, run, this) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (running_) decided_.wait();
}

// A mount(2) that fails early leaves the thread asleep in the kernel, where nothing but a signal reaches it;
// this is glibc's own. One that has got its request goes on to its end.
SyncInit::~SyncInit() {
  if (!running_) return;
  pthread_cancel(thread_);
  pthread_join(thread_, nullptr);
}

// Cancelled in poll(2), and there only. It has no variables then: AddressSanitizer would not notice that they
// are gone.
void SyncInit::run() {
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  const bool works = ioctl(channel_.fd(), kSyncInit) == 0;
  decided_.count_down();
  if (!works) return;
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
  while (poll(&request_, 1, -1) < 0 && errno == EINTR) {
  }
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  serve_();
}

}  // namespace fusewire::devfuse
