// backing: shows the file of this host that --source=FILE names as "file". On a mount of this host the kernel
// reads and maps it by itself (FUSE_PASSTHROUGH), and "reads" stays 0. Where it cannot (a virtual machine, an
// old kernel, a process without CAP_SYS_ADMIN), the reads come here, and all looks the same.
#include <fcntl.h>
#include <fusewire/answers.h>
#include <fusewire/backing_file.h>
#include <fusewire/unique_fd.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdio>
#include <mutex>

#include "few_files.h"
#include "run.h"

namespace {

using namespace fusewire;

constexpr NodeId kFile{2}, kReads{3};

class BackingFs : public example::FewFiles {
 public:
  explicit BackingFs(UniqueFd source) : FewFiles({"file", "reads"}), source_(std::move(source)) {}

  Result<void> init(Negotiation& negotiation) override {
    if (auto offered = negotiation.want_backing_files()) files_ = *std::move(offered);
    return {};
  }
  void destroy() override {
    backing_.reset();
    files_.reset();
    opens_ = 0;
  }

 private:
  std::string content_of(NodeId node) override {
    if (node == kReads) return std::to_string(reads_) + "\n";
    struct stat stat{};
    if (fstat(source_.get(), &stat) != 0) return {};
    std::string content(static_cast<std::size_t>(stat.st_size), '\0');
    const ssize_t size = pread(source_.get(), content.data(), content.size(), 0);
    content.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return content;
  }

  Result<fuse_open_out> do_open(const Request<op::Open>& request) override {
    if (request.header.node != kFile) return OpenAnswer{.direct_io = true};
    // The kernel would write by itself too, whatever the descriptor is good for.
    if ((request.in.flags & O_ACCMODE) != O_RDONLY) return fail(EACCES);
    const std::lock_guard lock(mutex_);
    // Whether the kernel reads the file or we do is decided when it is opened first, and holds until nobody
    // has it open.
    if (opens_++ == 0 && files_ != nullptr) {
      if (auto given = files_->open(kFile, source_.get())) backing_ = *std::move(given);
    }
    if (backing_ != nullptr) return BackedOpenAnswer{.file = *backing_};
    return OpenAnswer{};
  }
  Result<void> do_release(const Request<op::Release>& request) override {
    const std::lock_guard lock(mutex_);
    if (request.header.node == kFile && --opens_ == 0) backing_.reset();
    return {};
  }
  Result<Data> do_read(const Request<op::Read>& request) override {
    if (request.header.node == kFile) ++reads_;
    return FewFiles::do_read(request);
  }

  const UniqueFd source_;
  std::shared_ptr<BackingFiles> files_;  // set by init(), which runs alone; null: there are none
  std::atomic<int> reads_{0};
  std::mutex mutex_;
  int opens_ = 0;
  std::shared_ptr<const BackingFile> backing_;
};

}  // namespace

int main(int argc, char** argv) {
  constexpr std::string_view kOption = "--source=";
  if (argc < 2 || !std::string_view(argv[1]).starts_with(kOption)) {
    std::fprintf(stderr, "usage: %s --source=FILE MOUNTPOINT [-o OPTION,...] or --socket-path=PATH\n",
                 argv[0]);
    return 2;
  }
  UniqueFd source(open(argv[1] + kOption.size(), O_RDONLY | O_CLOEXEC));
  if (!source) {
    std::perror(argv[1]);
    return 1;
  }
  BackingFs file_system(std::move(source));
  argv[1] = argv[0];
  return example::run(file_system, argc - 1, argv + 1);
}
