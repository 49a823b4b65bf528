// async: a mailbox. A READ of the file "mail" waits until somebody writes to it: its Call is kept, and the
// write's thread answers it. No thread waits meanwhile, however many readers there are. Whoever gives up
// (Ctrl-C) gets EINTR.
#include <fusewire/answers.h>
#include <fusewire/file_system.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "run.h"

namespace {

using namespace fusewire;

constexpr NodeId kMail{2};

class MailboxFs : public FileSystem {
 public:
  void lookup(Call<op::Lookup> call) override {
    if (call.header.node != kRootNode || call.tail.name != "mail") return std::move(call.reply).error(ENOENT);
    std::move(call.reply)
        .ok(EntryAnswer{
            .node = kMail, .attr = attributes(kMail), .entry_valid = kForever, .attr_valid = kForever});
  }

  void getattr(Call<op::Getattr> call) override {
    std::move(call.reply).ok(AttrAnswer{.attr = attributes(call.header.node), .attr_valid = kForever});
  }

  void setattr(Call<op::Setattr> call) override {  // O_TRUNC comes here
    std::move(call.reply).ok(AttrAnswer{.attr = attributes(call.header.node), .attr_valid = kForever});
  }

  // direct_io: every read(2) comes here, as with a pipe.
  void open(Call<op::Open> call) override {
    std::move(call.reply).ok(OpenAnswer{.direct_io = true, .nonseekable = true});
  }

  void read(Call<op::Read> call) override {
    // The handler may run at once, or when the request is over: what it uses is its own or outlives that.
    const auto gave_up = std::make_shared<bool>(false);
    const RequestId unique = call.header.unique;
    call.reply.set_interrupt_handler([this, gave_up, unique](InterruptReason) {
      std::unique_lock lock(mutex_);
      *gave_up = true;
      auto waiting = waiting_.extract(unique);
      lock.unlock();
      if (waiting) std::move(waiting.mapped().reply).error(EINTR);
    });
    std::unique_lock lock(mutex_);
    if (!*gave_up) {
      waiting_.emplace(unique, std::move(call));
      return;
    }
    lock.unlock();
    std::move(call.reply).error(EINTR);
  }

  void write(Call<op::Write> call) override {
    std::string text(call.in.size, '\0');
    call.tail.data.take_front(std::as_writable_bytes(std::span(text)));
    std::unique_lock lock(mutex_);
    auto readers = std::exchange(waiting_, {});
    lock.unlock();
    for (auto& [unique, reader] : readers) {
      std::move(reader.reply).ok(as_bytes(text).first(std::min<std::size_t>(text.size(), reader.in.size)));
    }
    std::move(call.reply).ok(call.in.size);
  }

 private:
  static fuse_attr attributes(NodeId node) {
    fuse_attr attr{};
    attr.ino = node.get();
    attr.mode = node == kRootNode ? S_IFDIR | 0755 : S_IFREG | 0644;
    attr.nlink = node == kRootNode ? 2 : 1;
    return attr;
  }

  std::mutex mutex_;
  // Answered without the lock: an answer is a system call, and ends in the transport.
  std::map<RequestId, Call<op::Read>> waiting_;
};

}  // namespace

int main(int argc, char** argv) {
  MailboxFs file_system;
  return example::run(file_system, argc, argv);
}
