// Mount: a FUSE file system that this process has mounted, and how it goes away again.
//
// Root mounts with mount(2), everybody else through fusermount3. Never unmounts anything but what it mounted:
// the mount point is looked at before (somebody may have unmounted ours and mounted something else there).
// unmount() may be called from any thread, but by one at a time; it can wait for requests, so that the
// threads which answer them must be other ones.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "devfuse/channel.h"
#include "devfuse/fusermount.h"
#include "devfuse/mount_options.h"
#include "devfuse/sync_init.h"

namespace fusewire::devfuse {

// N, if the mountpoint is /dev/fd/N: an open /dev/fuse that somebody else has mounted.
std::optional<int> inherited_descriptor(std::string_view mountpoint);
// Takes it over. What is no /dev/fuse stays open and unchanged; the error is a text that says so.
std::expected<Channel, std::string> adopt_inherited(int fd);

class Mount {
 public:
  // The mount and its first channel.
  struct Made;
  // The absolute path of a directory, or of a regular file, to mount on; or a text that says why it cannot be
  // one. Changes nothing.
  static std::expected<std::string, std::string> resolve(const std::string& mountpoint);
  // Mounts on `mountpoint`, whose type the file system's root must have: that of a regular file is one. What
  // is left there of a file system of ours whose process has died is taken away first. The errors are texts
  // that say what to do.
  static std::expected<Made, std::string> create(const std::string& mountpoint, const MountOptions& options);

  // Whether these options mean mount(2) by this process itself; if not, fusermount3 mounts.
  static bool is_direct(const MountOptions& options);
  // The same with mount(2) for a `channel` that is open already. Where the kernel can have INIT answered
  // before mount(2) returns, `serve_init` is called, from another thread, and the file system's refusal is an
  // error here (sync_init.h); else the first request comes later. Null: that in any case.
  static std::expected<Mount, std::string> create_for(const Channel& channel, const std::string& mountpoint,
                                                      const MountOptions& options,
                                                      const ServeInit& serve_init);

  Mount(Mount&& other) noexcept;
  Mount& operator=(Mount&&) = delete;
  // Unmounts lazily what is still there.
  ~Mount();

  // The absolute path.
  const std::string& mountpoint() const { return mountpoint_; }

  // Whether our mount is what can be seen at its place, which is another one than at first if a directory
  // above it was renamed (found on Linux 6.8 and later). Sends no request to the file system.
  bool is_mounted() const;

  // Writes back what the kernel caches (syncfs(2)), as far as the mount is still there.
  void write_back() const;

  enum class Mode {
    clean,  // writes back what is cached; EBUSY while somebody uses the file system
    lazy,   // takes it out of the tree at once, and lets those who use it go on
  };
  // Nothing, if it is not mounted (any more).
  std::expected<void, std::string> unmount(Mode mode);
  // Has all requests fail that the kernel waits for (/sys/fs/fuse/connections, where fusectl is mounted).
  // Also after unmounting: a lazily unmounted file system may still be in use. Only while the channel
  // is_connected(): the connection's number may be another's afterwards.
  Result<void> abort() const;

 private:
  // What tells one mount from another: the mount's id and the file system's device number. Both are used
  // again for later mounts; the unique id (Linux 6.8, else 0) is not.
  struct Identity {
    std::uint64_t unique_id = 0;
    std::uint64_t mount_id = 0;
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    friend bool operator==(const Identity&, const Identity&) = default;
  };
  static Result<Identity> identify(const std::string& path);
  bool is_at(const std::string& path) const;
  // Where is_mounted() sees it.
  std::optional<std::string> present_path() const;
  // A directory to mount on, on which nothing dead is left.
  static std::expected<std::string, std::string> clear_mountpoint(const std::string& mountpoint);
  // Takes charge of what has just been mounted there.
  static std::expected<Mount, std::string> take_charge(std::string path, bool by_fusermount,
                                                       FusermountKeeper keeper);

  Mount(std::string mountpoint, bool by_fusermount, FusermountKeeper keeper)
      : keeper_(std::move(keeper)), mountpoint_(std::move(mountpoint)), by_fusermount_(by_fusermount) {}

  FusermountKeeper keeper_;  // goes when we have unmounted
  std::string mountpoint_;   // empty: moved from
  bool by_fusermount_;
  Identity identity_;
};

// The text for an error of Channel::open.
std::string cannot_open(Errno error);

struct Mount::Made {
  Mount mount;
  Channel channel;
};

}  // namespace fusewire::devfuse
