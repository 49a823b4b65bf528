#include "libfuse/request.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <string>
#include <string_view>

#include "fusewire/unique_fd.h"
#include "libfuse/session.h"

using fusewire::InterruptReason;

void fuse_req::unref() {
  if (references_.fetch_sub(1) == 1) delete this;
}

std::optional<fusewire::RawReply> fuse_req::take_reply() {
  const std::lock_guard lock(mutex_);
  std::optional<fusewire::RawReply> taken;
  if (reply_) {
    taken.emplace(std::move(*reply_));
    reply_.reset();
  }
  none_.reset();
  return taken;
}

std::optional<fusewire::IoVecs> fuse_req::reply_room() {
  const std::lock_guard lock(mutex_);
  if (!reply_) return std::nullopt;
  return reply_->room();
}

bool fuse_req::interrupted() {
  const std::lock_guard lock(mutex_);
  return interrupted_ || (session.conn.no_interrupt == 0 && reply_ && reply_->interrupted());
}

void fuse_req::set_interrupt_function(fuse_interrupt_func_t function, void* data) {
  // Waits for a call of the last function.
  const std::lock_guard calling(call_mutex_);
  bool late = false;
  {
    const std::lock_guard lock(mutex_);
    interrupt_function_ = function;
    interrupt_data_ = data;
    late = reply_ && watched_ && interrupted_;
  }
  if (function == nullptr) return;
  if (late) {
    function(this, data);
  } else {
    watch();
  }
}

void fuse_req::watch() {
  std::optional<InterruptReason> already;
  {
    const std::lock_guard lock(mutex_);
    if (!reply_ || watched_) return;
    watched_ = true;
    ref();
    // Counted by hand in a shared pointer, because std::function must be copyable.
    const std::shared_ptr<fuse_req> self(this, [](fuse_req* request) { request->unref(); });
    // One that comes at once, from this thread, comes again without the lock.
    installing_ = &already;
    reply_->set_interrupt_handler([self](InterruptReason reason) { self->on_interrupt(reason); });
    installing_ = nullptr;
  }
  if (already) on_interrupt(*already);
}

void fuse_req::on_interrupt(InterruptReason reason) {
  if (reason == InterruptReason::interrupted && session.conn.no_interrupt != 0) return;
  {
    const std::lock_guard lock(mutex_);
    if (installing_ != nullptr) {
      *installing_ = reason;
      return;
    }
  }
  const std::lock_guard calling(call_mutex_);
  fuse_interrupt_func_t function = nullptr;
  void* data = nullptr;
  {
    const std::lock_guard lock(mutex_);
    interrupted_ = true;
    if (!reply_) return;
    function = interrupt_function_;
    data = interrupt_data_;
  }
  // Without the state's lock: it may wait for a lock of the program's whose holder is replying.
  // The function may reply, and so free what it was given; the handler's reference keeps this object.
  if (function != nullptr) function(this, data);
  if (reason != InterruptReason::stopping) return;
  if (auto reply = take_reply()) std::move(*reply).error_code(EINTR);
}

namespace {

using fusewire::UniqueFd;

// The group ids in the text of /proc/PID/status. Returns how many there are; the first `size` go to `list`.
int parse_groups(std::string_view status, int size, gid_t* list) {
  static constexpr std::string_view kField = "\nGroups:";
  const std::size_t at = status.find(kField);
  if (at == std::string_view::npos) return -EIO;
  std::string_view rest = status.substr(at + kField.size());
  rest = rest.substr(0, rest.find('\n'));
  int count = 0;
  for (;;) {
    const std::size_t digit = rest.find_first_not_of(" \t");
    if (digit == std::string_view::npos) return count;
    rest.remove_prefix(digit);
    gid_t group = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), group);
    if (error != std::errc()) return -EIO;
    if (count < size) list[count] = group;
    ++count;
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  }
}

}  // namespace

void* fuse_req_userdata(fuse_req_t req) { return req->session.userdata; }

const struct fuse_ctx* fuse_req_ctx(fuse_req_t req) { return &req->context; }

int fuse_req_getgroups(fuse_req_t req, int size, gid_t list[]) {
  // A guest's process means nothing here.
  if (req->session.serves_guest()) return -ENOSYS;
  const std::string pid = std::to_string(req->context.pid);
  const std::string path = "/proc/" + pid + "/task/" + pid + "/status";
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return -errno;
  std::string status;
  std::array<char, 4096> piece;
  ssize_t got = 0;
  while ((got = read(file.get(), piece.data(), piece.size())) > 0)
    status.append(piece.data(), static_cast<std::size_t>(got));
  if (got < 0) return -errno;
  return parse_groups(status, size, list);
}

void fuse_req_interrupt_func(fuse_req_t req, fuse_interrupt_func_t func, void* data) {
  req->set_interrupt_function(func, data);
}

int fuse_req_interrupted(fuse_req_t req) { return req->interrupted() ? 1 : 0; }
