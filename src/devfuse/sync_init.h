// SyncInit: INIT as a part of mount(2) (FUSE_DEV_IOC_SYNC_INIT, Linux 6.18). The kernel sends INIT while
// mount(2) runs and waits for the answer, which a thread of this class's gives meanwhile: a file system that
// refuses is never mounted, and one that is mounted is ready.
//
// Used only with kernels that let a process die which is killed while INIT is not answered: 6.18.25, 7.0.2
// and 7.1 ("fuse: abort on fatal signal during sync init"). With others the mount is the one that always was.
#pragma once

#include <poll.h>
#include <pthread.h>

#include <functional>
#include <latch>
#include <string_view>

#include "devfuse/channel.h"

namespace fusewire::devfuse {

// Has INIT, the first request of a channel, served and answered, and returns then.
using ServeInit = std::function<void()>;

class SyncInit {
 public:
  // Before mount(2). `channel` has no mount yet; it and `serve` must outlive this, and until it ends whatever
  // else is done with the channel would wait for mount(2). Where INIT cannot be a part of mount(2), or
  // `serve` is null, this does nothing.
  SyncInit(const Channel& channel, const ServeInit& serve);
  SyncInit(const SyncInit&) = delete;
  SyncInit& operator=(const SyncInit&) = delete;
  // After mount(2), whatever came of it: INIT was answered, or will not come.
  ~SyncInit();

  // Whether a kernel of this uname(2) release ends mount(2) when its process is killed.
  static bool is_safe_with(std::string_view release);

 private:
  // Uninstrumented: a cancelled thread leaves its frame without the address sanitizer getting to know.
  [[gnu::no_sanitize_address]] void run();

  const Channel& channel_;
  const ServeInit& serve_;
  pollfd request_;
  std::latch decided_{1};  // the thread has asked the kernel
  bool running_ = false;
  pthread_t thread_{};
};

}  // namespace fusewire::devfuse
