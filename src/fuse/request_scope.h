// RequestScope: marks the thread that is inside Engine::submit, so that a Notifier called there does not wait
// for the kernel.
#pragma once

namespace fusewire {

class RequestScope {
 public:
  RequestScope() { ++depth_; }
  ~RequestScope() { --depth_; }
  RequestScope(const RequestScope&) = delete;
  RequestScope& operator=(const RequestScope&) = delete;

  // Whether this thread serves a request, of any engine: a file system may use one that is served by another.
  static bool inside() { return depth_ != 0; }

 private:
  static inline constinit thread_local int depth_ = 0;
};

}  // namespace fusewire
