#include "passthrough/host_handle.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>

#include "base/check.h"

namespace fusewire::passthrough {
namespace {

// SAFETY: the bytes begin with a struct file_handle that the kernel filled, aligned as operator new aligns.
struct file_handle* as_kernel_handle(std::byte* data) { return reinterpret_cast<struct file_handle*>(data); }

}  // namespace

Result<std::unique_ptr<HostHandle>> HostHandle::of(int fd) {
  alignas(struct file_handle) std::byte room[sizeof(struct file_handle) + MAX_HANDLE_SZ] = {};
  struct file_handle* handle = as_kernel_handle(room);
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount_id = 0;  // the caller has it from statx already
  if (::name_to_handle_at(fd, "", handle, &mount_id, AT_EMPTY_PATH) != 0) return fail_errno();
  const std::size_t size = sizeof(struct file_handle) + handle->handle_bytes;
  auto data = std::make_unique<std::byte[]>(size);
  std::memcpy(data.get(), room, size);
  return std::unique_ptr<HostHandle>(new HostHandle(std::move(data), size));
}

Result<UniqueFd> HostHandle::open(int flags) const {
  FUSEWIRE_CHECK(mount_ != nullptr);
  UniqueFd opened(::open_by_handle_at(mount_->fd.get(), as_kernel_handle(data_.get()), flags | O_CLOEXEC));
  if (!opened) return fail_errno();
  return opened;
}

Result<std::shared_ptr<const Mount>> MountTable::hold(MountId id, int path_fd, mode_t type,
                                                      const ProcSelfFd& proc) {
  const std::lock_guard lock(mutex_);
  if (const auto found = mounts_.find(id); found != mounts_.end()) {
    if (auto mount = found->second.lock()) return mount;
  }
  if (!S_ISDIR(type) && !S_ISREG(type)) return fail(EOPNOTSUPP);
  auto opened = proc.reopen(path_fd, O_RDONLY | O_NONBLOCK);
  if (!opened) return fail(opened.error());
  std::erase_if(mounts_, [](const auto& entry) { return entry.second.expired(); });
  auto mount = std::make_shared<const Mount>(Mount{std::move(*opened)});
  mounts_[id] = mount;
  return mount;
}

}  // namespace fusewire::passthrough
