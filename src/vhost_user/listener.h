// Listener: the UNIX stream socket on which the daemon waits for a front-end.
#pragma once

#include <sys/types.h>

#include <expected>
#include <optional>
#include <string>
#include <utility>

#include "fusewire/unique_fd.h"

namespace fusewire::vhost_user {

class Listener {
 public:
  // Binds `path` and listens. A socket file that nobody listens on any more is replaced. The file gets mode
  // 0600, or with `group` (a name or a number) that group and mode 0660. Errors are one line for the user:
  // path too long or empty, directory missing, taken by a live process, not a socket, no such group.
  static std::expected<Listener, std::string> bind(const std::string& path,
                                                   const std::optional<std::string>& group = std::nullopt);
  // Takes over a descriptor from whoever started us; it must be a listening AF_UNIX stream socket.
  static std::expected<Listener, std::string> adopt(UniqueFd fd);

  Listener(Listener&& other) noexcept
      : fd_(std::move(other.fd_)), file_(std::exchange(other.file_, std::nullopt)) {}
  Listener& operator=(Listener&& other) noexcept;
  // Removes the socket file, if bind() made it and it is still the same one.
  ~Listener();

  // Waits for a front-end. nullopt: `stop_fd` became readable first (-1: there is no such descriptor).
  std::expected<std::optional<UniqueFd>, std::string> accept(int stop_fd);

  int fd() const { return fd_.get(); }

 private:
  struct File {
    std::string path;
    dev_t device;
    ino_t inode;
  };
  explicit Listener(UniqueFd fd) : fd_(std::move(fd)) {}
  void remove_file();

  UniqueFd fd_;
  std::optional<File> file_;
};

// Waits for the first byte of the connection `socket`, which stays unread, or for `stop_fd`. True when the
// peer left without one: somebody only looked whether the socket is alive. In vhost-user the front-end speaks
// first.
bool left_without_a_word(int socket, int stop_fd);

}  // namespace fusewire::vhost_user
