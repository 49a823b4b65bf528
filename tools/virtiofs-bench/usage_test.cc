#include "virtiofs-bench/usage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ctime>
#include <functional>
#include <thread>

#include "fusewire/unique_fd.h"

namespace fusewire::bench {
namespace {

using std::chrono::milliseconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// One more than Linux ever gives (PID_MAX_LIMIT).
constexpr pid_t kNoPid = 4194305;

// A child that does `work`, says that it is ready, and stays until it is killed, with children of its own.
class Child {
 public:
  explicit Child(const std::function<void()>& work) {
    const UniqueFd ready(::eventfd(0, 0));
    pid_ = ::fork();
    if (pid_ == 0) {
      ::setpgid(0, 0);
      work();
      if (::eventfd_write(ready.get(), 1) != 0) ::_exit(1);
      for (;;) ::pause();
    }
    std::uint64_t count = 0;
    EXPECT_EQ(::eventfd_read(ready.get(), &count), 0);
  }
  ~Child() {
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

// Keeps a CPU busy until the calling process has used this much of it.
void burn(milliseconds wanted) {
  timespec used{};
  do {
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  } while (std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec) < wanted);
}

TEST(Usage, CpuTime_IsWhatTheProcessUsed) {
  const Child child([] { burn(milliseconds(30)); });
  const pid_t pid = child.pid();
  const auto used = cpu_time({&pid, 1});
  EXPECT_GE(used, milliseconds(30));
  EXPECT_EQ(cpu_time({&pid, 1}), used) << "it sleeps now, and the clock counts nanoseconds";
}

TEST(Usage, CpuTime_CountsThreadsThatHaveEnded) {
  const Child child([] { std::thread([] { burn(milliseconds(30)); }).join(); });
  const pid_t pid = child.pid();
  EXPECT_GE(cpu_time({&pid, 1}), milliseconds(30));
}

TEST(Usage, CpuTime_SumsTheProcesses) {
  const Child one([] { burn(milliseconds(10)); });
  const Child other([] { burn(milliseconds(10)); });
  const pid_t both[] = {one.pid(), other.pid()};
  EXPECT_EQ(cpu_time(both), cpu_time({both, 1}) + cpu_time({both + 1, 1}));
}

TEST(Usage, CpuTime_OfWhatIsNotThere_IsNothing) {
  const pid_t none = kNoPid;
  EXPECT_EQ(cpu_time({&none, 1}).count(), 0);
}

TEST(Usage, ProcessTree_HasChildrenOfChildren) {
  const UniqueFd channel(::eventfd(0, 0));
  const Child child([&] {
    const pid_t pid = ::fork();
    if (pid == 0)
      for (;;) ::pause();
    if (::eventfd_write(channel.get(), static_cast<std::uint64_t>(pid)) != 0) ::_exit(1);
  });
  std::uint64_t pid = 0;
  ASSERT_EQ(::eventfd_read(channel.get(), &pid), 0);
  EXPECT_THAT(process_tree(child.pid()), ElementsAre(child.pid(), static_cast<pid_t>(pid)));
  EXPECT_THAT(process_tree(::getpid()), Contains(static_cast<pid_t>(pid)));
}

TEST(Usage, ProcessTree_IsNotMisledByAName) {
  const Child child([] { ::prctl(PR_SET_NAME, ") S 1 (x"); });
  EXPECT_THAT(process_tree(::getpid()), Contains(child.pid()));
}

TEST(Usage, ProcessTree_OfWhatIsNotThere_IsEmpty) { EXPECT_THAT(process_tree(kNoPid), IsEmpty()); }

TEST(Usage, Footprint_CountsOpenDescriptors) {
  const pid_t self = ::getpid();
  const auto before = footprint({&self, 1}).descriptors;
  const UniqueFd one(::eventfd(0, 0)), other(::eventfd(0, 0));
  EXPECT_EQ(footprint({&self, 1}).descriptors, before + 2);
}

TEST(Usage, Footprint_RemembersThePeakUntilItBeginsAnew) {
  const pid_t self = ::getpid();
  constexpr std::size_t kMuch = 64 << 20;
  const auto before = footprint({&self, 1}).peak_bytes;
  // Mapped, for the heap of a sanitizer gives nothing back.
  void* const much =
      ::mmap(nullptr, kMuch, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  ASSERT_NE(much, MAP_FAILED);
  ::munmap(much, kMuch);
  const auto peak = footprint({&self, 1}).peak_bytes;
  EXPECT_GE(peak, before + kMuch / 2);
  restart_peak({&self, 1});
  EXPECT_LT(footprint({&self, 1}).peak_bytes, peak);
}

}  // namespace
}  // namespace fusewire::bench
