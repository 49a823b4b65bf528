// invalidate: the kernel caches the file "message" for ever, and is told when it changes. What is written to
// "update" becomes the message; "reads" says how often the message had to be read from here.
//
// Where the kernel cannot be told (a virtual machine without VIRTIO_FS_F_NOTIFICATION), it may not cache
// either: a file system has to be right on both.
#include <fusewire/notifier.h>

#include <atomic>
#include <mutex>

#include "few_files.h"
#include "run.h"

namespace {

using namespace fusewire;

constexpr NodeId kMessage{2}, kUpdate{3}, kReads{4};

class InvalidateFs : public example::FewFiles {
 public:
  InvalidateFs() : FewFiles({"message", "update", "reads"}) {}

  Result<void> init(Negotiation& negotiation) override {
    notifier_ = negotiation.notifier();
    // The first one shows whether there is a way; the root has nothing cached yet.
    can_tell_ = notifier_->inval_inode(kRootNode).has_value();
    return {};
  }

 private:
  std::string content_of(NodeId node) override {
    if (node == kReads) return std::to_string(reads_) + "\n";
    const std::lock_guard lock(mutex_);
    return node == kMessage ? message_ : std::string();
  }
  Validity validity() const override { return can_tell_ ? kForever : Validity{}; }

  Result<fuse_open_out> do_open(const Request<op::Open>& request) override {
    const bool cached = can_tell_ && request.header.node == kMessage;
    return OpenAnswer{.direct_io = !cached, .keep_cache = cached};
  }

  Result<Data> do_read(const Request<op::Read>& request) override {
    if (request.header.node == kMessage) ++reads_;
    return FewFiles::do_read(request);
  }

  Result<std::uint32_t> do_write(const Request<op::Write>& request) override {
    if (request.header.node != kUpdate) return fail(EACCES);
    std::string text = taken(request);
    {
      const std::lock_guard lock(mutex_);
      message_ = std::move(text);
    }
    // From inside a method this only queues the message, so that it cannot wait for a request of ours. Not
    // being able to tell is an error of the write: readers would see the old message for ever.
    if (can_tell_) {
      if (const auto told = notifier_->inval_inode(kMessage); !told) return fail(told.error());
    }
    return request.in.size;
  }

  std::shared_ptr<Notifier> notifier_;  // set by init(), which runs alone
  bool can_tell_ = false;
  std::atomic<int> reads_{0};
  std::mutex mutex_;
  std::string message_ = "nothing yet\n";
};

}  // namespace

int main(int argc, char** argv) {
  InvalidateFs file_system;
  return example::run(file_system, argc, argv);
}
