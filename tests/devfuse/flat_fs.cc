#include "flat_fs.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/log.h"
#include "fusewire/answers.h"

namespace fusewire::testing {
namespace {

constexpr std::uint64_t kFirst = kRootNode.get() + 1;

}  // namespace

std::expected<std::unique_ptr<FlatFs>, std::string> FlatFs::open(const std::string& folder,
                                                                 std::string never_answered, bool direct) {
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return std::unexpected("cannot open " + folder + ": " + to_string(Errno{errno}));
  return std::unique_ptr<FlatFs>(new FlatFs(std::move(fd), std::move(never_answered), direct));
}

Result<void> FlatFs::init(Negotiation& negotiation) {
  // Without it a LOOKUP that is not answered keeps all others from the folder.
  negotiation.want(Cap::parallel_dirops);
  negotiation.want(Cap::async_read);
  return {};
}

int FlatFs::descriptor(NodeId node) {
  if (node == kRootNode) return folder_.get();
  const std::lock_guard lock(mutex_);
  const std::uint64_t index = node.get() - kFirst;
  return index < files_.size() ? files_[index].get() : -1;
}

Result<NodeId> FlatFs::find(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (const auto known = nodes_.find(name); known != nodes_.end()) return NodeId{known->second};
  UniqueFd fd(openat(folder_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return fail_errno();
  files_.push_back(std::move(fd));
  const std::uint64_t node = kFirst + files_.size() - 1;
  nodes_.emplace(name, node);
  return NodeId{node};
}

void FlatFs::lookup(Call<op::Lookup> call) {
  const std::string name(call.tail.name);
  if (!never_answered_.empty() && name == never_answered_) {
    const std::lock_guard lock(mutex_);
    kept_.push_back(std::move(call));
    log::info("{} will not be answered", name);
    return;
  }
  const auto node = find(name);
  if (!node) return std::move(call.reply).error(node.error());
  struct stat status{};
  if (fstat(descriptor(*node), &status) != 0) return std::move(call.reply).error(errno);
  if (!S_ISREG(status.st_mode)) return std::move(call.reply).error(EACCES);
  std::move(call.reply)
      .ok(EntryAnswer{
          .node = *node, .attr = attr_of(status), .entry_valid = kForever, .attr_valid = kForever});
}

void FlatFs::getattr(Call<op::Getattr> call) {
  struct stat status{};
  const int fd = descriptor(call.header.node);
  if (fd < 0 || fstat(fd, &status) != 0) return std::move(call.reply).error(ESTALE);
  std::move(call.reply).ok(AttrAnswer{.attr = attr_of(status), .attr_valid = kForever});
}

void FlatFs::open(Call<op::Open> call) {
  if ((call.in.flags & O_ACCMODE) != O_RDONLY) return std::move(call.reply).error(EROFS);
  std::move(call.reply).ok(OpenAnswer{.direct_io = direct_});
}

void FlatFs::read(Call<op::Read> call) {
  const int fd = descriptor(call.header.node);
  if (fd < 0) return std::move(call.reply).error(ESTALE);
  std::move(call.reply)
      .ok(FileRange{.fd = fd, .offset = static_cast<std::int64_t>(call.in.offset), .size = call.in.size});
}

}  // namespace fusewire::testing
