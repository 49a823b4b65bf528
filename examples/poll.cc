// poll: what is written to "post" can be read, line for line, from "events"; poll(2) and select(2) on
// "events" wait for it. A read finds the oldest text, or EAGAIN.
//
// Where the kernel cannot be woken (a virtual machine without VIRTIO_FS_F_NOTIFICATION), POLL is answered
// with ENOSYS, after which the kernel takes the file as always ready.
#include <fusewire/notifier.h>
#include <poll.h>

#include <deque>
#include <mutex>
#include <set>

#include "few_files.h"
#include "run.h"

namespace {

using namespace fusewire;

constexpr NodeId kEvents{2}, kPost{3};

class PollFs : public example::FewFiles {
 public:
  PollFs() : FewFiles({"events", "post"}) {}

  Result<void> init(Negotiation& negotiation) override {
    notifier_ = negotiation.notifier();
    // A handle that nobody polls with is no error; that there is no way is one.
    can_wake_ = notifier_->poll_wakeup(0).has_value();
    return {};
  }
  void destroy() override { polled_.clear(); }

 private:
  std::string content_of(NodeId) override { return {}; }

  Result<fuse_open_out> do_open(const Request<op::Open>&) override {
    return OpenAnswer{.direct_io = true, .nonseekable = true};
  }

  Result<Data> do_read(const Request<op::Read>& request) override {
    if (request.header.node != kEvents) return Data(std::string());
    const std::lock_guard lock(mutex_);
    if (events_.empty()) return fail(EAGAIN);
    std::string text = std::move(events_.front());
    events_.pop_front();
    text.resize(std::min<std::size_t>(text.size(), request.in.size));
    return text;
  }

  Result<fuse_poll_out> do_poll(const Request<op::Poll>& request) override {
    if (!can_wake_) return fail(ENOSYS);
    const std::lock_guard lock(mutex_);
    // The kernel's handle for this open file: somebody waits, and wants to be woken once.
    if ((request.in.flags & FUSE_POLL_SCHEDULE_NOTIFY) != 0) polled_.insert(request.in.kh);
    const bool readable = request.header.node != kEvents || !events_.empty();
    return fuse_poll_out{.revents = static_cast<std::uint32_t>(POLLOUT | (readable ? POLLIN : 0)),
                         .padding = 0};
  }

  Result<std::uint32_t> do_write(const Request<op::Write>& request) override {
    if (request.header.node != kPost) return fail(EACCES);
    std::set<std::uint64_t> polled;
    {
      const std::lock_guard lock(mutex_);
      events_.push_back(taken(request));
      polled.swap(polled_);
    }
    for (const std::uint64_t handle : polled) {
      if (const auto woken = notifier_->poll_wakeup(handle); !woken) return fail(woken.error());
    }
    return request.in.size;
  }

  std::shared_ptr<Notifier> notifier_;  // set by init(), which runs alone
  bool can_wake_ = false;
  std::mutex mutex_;
  std::deque<std::string> events_;
  std::set<std::uint64_t> polled_;
};

}  // namespace

int main(int argc, char** argv) {
  PollFs file_system;
  return example::run(file_system, argc, argv);
}
