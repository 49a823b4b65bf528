#include "vhost_user/listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <vector>

#include "fusewire/result.h"

namespace fusewire::vhost_user {
namespace {

std::string error_text() { return to_string(Errno{errno}); }

std::expected<gid_t, std::string> group_id(const std::string& name) {
  std::vector<char> buffer(1024);
  for (;;) {
    group entry{};
    group* found = nullptr;
    const int error = getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (error == ERANGE && buffer.size() < (1u << 20)) {
      buffer.resize(buffer.size() * 2);
      continue;
    }
    if (found != nullptr) return found->gr_gid;
    break;
  }
  gid_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error == std::errc() && end == name.data() + name.size() && number != static_cast<gid_t>(-1))
    return number;
  return std::unexpected(fmt::format("there is no group \"{}\" for the socket", name));
}

// Whether somebody listens at `address`; an error text when what is there is no stale socket either.
std::expected<bool, std::string> is_alive(const sockaddr_un& address) {
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return std::unexpected("socket: " + error_text());
  // SAFETY: the socket interface takes every address as a sockaddr.
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return true;
  if (errno == EAGAIN) return true;  // Its queue of waiting connections is full.
  if (errno == ECONNREFUSED || errno == ENOENT) return false;
  return std::unexpected(
      fmt::format("\"{}\" exists and cannot be probed: {}", address.sun_path, error_text()));
}

}  // namespace

std::expected<Listener, std::string> Listener::bind(const std::string& path,
                                                    const std::optional<std::string>& group) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty()) return std::unexpected("the socket path is empty");
  if (path.size() >= sizeof(address.sun_path))
    return std::unexpected(
        fmt::format("the socket path has {} characters, {} are the most: use a shorter one", path.size(),
                    sizeof(address.sun_path) - 1));
  std::memcpy(address.sun_path, path.data(), path.size());

  gid_t owner = 0;
  if (group) {
    const auto id = group_id(*group);
    if (!id) return std::unexpected(id.error());
    owner = *id;
  }

  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return std::unexpected("socket: " + error_text());
  // The file that bind(2) makes takes its mode from the socket, so that it is never more open than this;
  // changing the umask instead would be seen by every thread.
  if (fchmod(fd.get(), 0600) != 0) return std::unexpected("fchmod: " + error_text());

  // SAFETY: see is_alive().
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  int bound = ::bind(fd.get(), generic, sizeof(address));
  if (bound != 0 && errno == EADDRINUSE) {
    struct stat there{};
    if (lstat(path.c_str(), &there) == 0 && !S_ISSOCK(there.st_mode))
      return std::unexpected(fmt::format("\"{}\" exists and is not a socket: use another path", path));
    const auto alive = is_alive(address);
    if (!alive) return std::unexpected(alive.error());
    if (*alive)
      return std::unexpected(fmt::format("\"{}\" is in use by another process: use another path", path));
    if (unlink(path.c_str()) != 0 && errno != ENOENT)
      return std::unexpected(
          fmt::format("the stale socket \"{}\" cannot be removed: {}", path, error_text()));
    bound = ::bind(fd.get(), generic, sizeof(address));
  }
  if (bound != 0) {
    if (errno == ENOENT)
      return std::unexpected(
          fmt::format("the directory of the socket \"{}\" does not exist: create it", path));
    return std::unexpected(fmt::format("the socket \"{}\" cannot be made: {}", path, error_text()));
  }

  Listener listener(std::move(fd));
  struct stat made{};
  if (lstat(path.c_str(), &made) != 0)
    return std::unexpected(fmt::format("the socket \"{}\" vanished: {}", path, error_text()));
  listener.file_ = File{path, made.st_dev, made.st_ino};
  if (group) {
    // The group first: the mode must not open the file to the group that it had before.
    if (lchown(path.c_str(), static_cast<uid_t>(-1), owner) != 0)
      return std::unexpected(
          fmt::format("the socket \"{}\" cannot be given to group \"{}\": {}", path, *group, error_text()));
    if (chmod(path.c_str(), 0660) != 0)
      return std::unexpected(
          fmt::format("the mode of the socket \"{}\" cannot be set: {}", path, error_text()));
  }
  if (listen(listener.fd_.get(), 1) != 0) return std::unexpected("listen: " + error_text());
  return listener;
}

std::expected<Listener, std::string> Listener::adopt(UniqueFd fd) {
  const auto option = [&](int name) -> std::optional<int> {
    int value = 0;
    socklen_t size = sizeof(value);
    if (getsockopt(fd.get(), SOL_SOCKET, name, &value, &size) != 0) return std::nullopt;
    return value;
  };
  const auto domain = option(SO_DOMAIN);
  if (!domain)
    return std::unexpected(fmt::format("file descriptor {} is not a socket: {}", fd.get(), error_text()));
  if (domain != AF_UNIX || option(SO_TYPE) != SOCK_STREAM)
    return std::unexpected(fmt::format("file descriptor {} is not a UNIX stream socket", fd.get()));
  if (option(SO_ACCEPTCONN) != 1)
    return std::unexpected(fmt::format("file descriptor {} is not a listening socket", fd.get()));
  // Not for the programs that we might start.
  (void)fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  return Listener(std::move(fd));
}

Listener& Listener::operator=(Listener&& other) noexcept {
  if (this == &other) return *this;
  remove_file();
  fd_ = std::move(other.fd_);
  file_ = std::exchange(other.file_, std::nullopt);
  return *this;
}

Listener::~Listener() { remove_file(); }

void Listener::remove_file() {
  if (!file_) return;
  struct stat now{};
  // Another process may have found the socket stale and put its own there.
  if (lstat(file_->path.c_str(), &now) == 0 && now.st_dev == file_->device && now.st_ino == file_->inode)
    (void)unlink(file_->path.c_str());
  file_.reset();
}

std::expected<std::optional<UniqueFd>, std::string> Listener::accept(int stop_fd) {
  std::array<pollfd, 2> watched{pollfd{fd_.get(), POLLIN, 0}, pollfd{stop_fd, POLLIN, 0}};
  for (;;) {
    if (poll(watched.data(), watched.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return std::unexpected("poll: " + error_text());
    }
    if (watched[1].revents != 0) return std::nullopt;
    if (watched[0].revents == 0) continue;
    UniqueFd peer(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (peer) return peer;
    // The peer may have gone again before we took it.
    if (errno == EINTR || errno == EAGAIN || errno == ECONNABORTED) continue;
    return std::unexpected("accept: " + error_text());
  }
}

bool left_without_a_word(int socket, int stop_fd) {
  std::array<pollfd, 2> watched{pollfd{socket, POLLIN, 0}, pollfd{stop_fd, POLLIN, 0}};
  while (poll(watched.data(), watched.size(), -1) < 0)
    if (errno != EINTR) return false;
  if (watched[0].revents == 0) return false;
  char byte = 0;
  return recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

}  // namespace fusewire::vhost_user
