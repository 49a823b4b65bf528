// Session: a FileSystem in service, mounted on this host or offered to a virtual machine.
//
// Threading: run() by one thread, once; stop() by anyone, meanwhile or before. The file system's methods run
// on threads of the session.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "fusewire/file_system.h"

namespace fusewire {

struct MountSettings {
  // Options as mount.fuse(8) documents them, separated by commas: "allow_other,fsname=x". Unknown ones are
  // refused by name.
  std::string options{};
  // How many threads serve requests; at least 1.
  unsigned threads = 4;
};

struct ServeSettings {
  // Where the front-end connects (QEMU: -chardev socket,path=...). A socket file that nobody listens on is
  // replaced; ours is removed at the end.
  std::string socket_path{};
  // Or a listening AF_UNIX stream socket, which the session takes over; -1: there is none.
  int listening_fd = -1;
  // Request queues offered to the guest, each with a thread of its own.
  unsigned request_queues = 1;
  // The name that the guest mounts, if the front-end does not know it; at most 36 bytes.
  std::string tag{};
  // The longest notification (notifier.h) that goes to a guest which negotiates VIRTIO_FS_F_NOTIFICATION
  // (Linux up to 6.18 does not), at least 2048 bytes; 0: it is not offered.
  std::uint32_t notification_buffer = 64 * 1024;
};

class Session {
 public:
  // Mounts `file_system`, which must outlive the session, on a directory: with mount(2) as root, else through
  // fusermount3. Errors are one line for the user.
  static std::expected<std::unique_ptr<Session>, std::string> mount(FileSystem& file_system,
                                                                    const std::string& mountpoint,
                                                                    const MountSettings& settings = {});
  // Listens for a vhost-user front-end. Errors are one line for the user.
  static std::expected<std::unique_ptr<Session>, std::string> serve(FileSystem& file_system,
                                                                    const ServeSettings& settings);

  // Serves requests until the file system is unmounted, the front-end has gone, or stop() was called. The
  // error says what else ended it.
  virtual std::expected<void, std::string> run() = 0;
  // Makes run() return. From any thread, and from a signal handler.
  virtual void stop() = 0;

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  // Unmounts (lazily: who uses the file system gets ENOTCONN) and waits until every request is answered:
  // those that wait are told to give up (ReplyBase::set_interrupt_handler). Ends with FileSystem::destroy().
  virtual ~Session() = default;

 protected:
  Session() = default;
};

}  // namespace fusewire
