// What the examples' files do and busybox cannot: poll(2), and the commands of examples/ioctl.cc.
#include <poll.h>
#include <sys/ioctl.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>

#include "probe.h"

namespace probe {
namespace {

constexpr unsigned long kGet = _IOR('w', 1, std::uint64_t);
constexpr unsigned long kSet = _IOW('w', 2, std::uint64_t);
constexpr unsigned long kAdd = _IOWR('w', 3, std::uint64_t);
constexpr unsigned long kUnknown = _IOR('w', 4, std::uint64_t);

}  // namespace

int use_counter(const std::string& path) {
  const File file(path, O_RDWR);
  must(file >= 0, path.c_str());
  std::uint64_t value = 0;
  const auto command = [&](const char* what, unsigned long number) {
    const char* how = outcome(::ioctl(file, number, &value));
    std::printf("%s: %s %" PRIu64 "\n", what, how, value);
  };
  command("get", kGet);
  value = 40;
  command("set", kSet);
  value = 2;
  command("add", kAdd);
  value = 0;
  command("get", kGet);
  command("unknown", kUnknown);
  return 0;
}

int poll_file(const std::string& path) {
  const File file(path, O_RDONLY);
  must(file >= 0, path.c_str());
  struct pollfd wanted = {file, POLLIN, 0};
  const int ready = ::poll(&wanted, 1, 0);
  std::printf("%d%s\n", ready, (wanted.revents & POLLIN) != 0 ? " readable" : "");
  return 0;
}

}  // namespace probe
