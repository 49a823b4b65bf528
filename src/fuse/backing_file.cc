#include "fusewire/backing_file.h"

#include <utility>

#include "base/log.h"

namespace fusewire {

BackingFile::~BackingFile() { owner_->close(node_, id_); }

Result<std::shared_ptr<const BackingFile>> BackingFiles::open(NodeId node, int fd) {
  // Before the kernel has the file, so that nothing is left there when memory runs out.
  // SAFETY: make_shared does not reach the constructor, which is for this class only.
  std::shared_ptr<BackingFile> made(new BackingFile(shared_from_this(), node));
  const std::lock_guard lock(nodes_mutex_);
  auto& known = nodes_[node.get()];
  if (auto held = known.lock()) return held;
  const auto id = give(fd);
  if (!id) {
    nodes_.erase(node.get());
    return fail(id.error());
  }
  made->id_ = *id;
  known = made;
  return made;
}

std::shared_ptr<const BackingFile> BackingFiles::find(NodeId node) {
  const std::lock_guard lock(nodes_mutex_);
  const auto found = nodes_.find(node.get());
  return found != nodes_.end() ? found->second.lock() : nullptr;
}

Result<std::uint32_t> BackingFiles::give(int fd) {
  const std::shared_lock lock(channel_mutex_);
  if (channel_ == nullptr) return fail(ENOTCONN);
  return channel_->open(fd);
}

void BackingFiles::close(NodeId node, std::uint32_t id) {
  if (id == 0) return;
  {
    // The node may have a newer one.
    const std::lock_guard lock(nodes_mutex_);
    const auto found = nodes_.find(node.get());
    if (found != nodes_.end() && found->second.expired()) nodes_.erase(found);
  }
  const std::shared_lock lock(channel_mutex_);
  if (channel_ == nullptr) return;
  if (const auto closed = channel_->close(id); !closed)
    log::warn("the kernel does not let go of backing file {}: {}", id, to_string(closed.error()));
}

void BackingFiles::disconnect() {
  const std::unique_lock lock(channel_mutex_);
  channel_ = nullptr;
}

}  // namespace fusewire
