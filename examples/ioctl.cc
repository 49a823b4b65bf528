// ioctl: a file "counter" whose value ioctl(2) reads, sets and adds to. The kernel takes what a command's
// number says of its argument (_IOR, _IOW, _IOWR), and brings and fetches that many bytes.
#include <sys/ioctl.h>

#include <mutex>

#include "few_files.h"
#include "run.h"

namespace {

using namespace fusewire;

constexpr std::uint32_t kGet = _IOR('w', 1, std::uint64_t);   // NOLINT: the macros are C
constexpr std::uint32_t kSet = _IOW('w', 2, std::uint64_t);   // NOLINT
constexpr std::uint32_t kAdd = _IOWR('w', 3, std::uint64_t);  // NOLINT: adds, and gives what is there then

class IoctlFs : public example::FewFiles {
 public:
  IoctlFs() : FewFiles({"counter"}) {}

 private:
  std::string content_of(NodeId) override {
    const std::lock_guard lock(mutex_);
    return std::to_string(value_) + "\n";
  }

  Result<fuse_open_out> do_open(const Request<op::Open>&) override { return OpenAnswer{.direct_io = true}; }

  Result<IoctlAnswer> do_ioctl(const Request<op::Ioctl>& request) override {
    // The argument's bytes, and the room for the answer's, have the sizes that the caller says.
    std::uint64_t argument = 0;
    const std::size_t brought = request.tail.data.copy_to(writable_bytes_of(argument));
    const std::lock_guard lock(mutex_);
    switch (request.in.cmd) {
      case kGet:
        break;
      case kSet:
        if (brought != sizeof argument) return fail(EINVAL);
        value_ = argument;
        return IoctlAnswer{};
      case kAdd:
        if (brought != sizeof argument) return fail(EINVAL);
        value_ += argument;
        break;
      default:
        return fail(ENOTTY);
    }
    if (request.in.out_size < sizeof value_) return fail(EINVAL);
    const auto bytes = bytes_of(value_);
    return IoctlAnswer{.result = 0, .data = {bytes.begin(), bytes.end()}};
  }

  std::mutex mutex_;
  std::uint64_t value_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  IoctlFs file_system;
  return example::run(file_system, argc, argv);
}
