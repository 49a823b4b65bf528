#include "io/worker_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <future>
#include <latch>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "io/thread.h"

namespace fusewire::io {
namespace {

// What a task uses is declared before the pool, so that it outlives the task's last instruction.

TEST(WorkerPoolTest, Submit_WithoutThreads_RunsInTheCaller) {
  WorkerPool pool(0);
  std::thread::id ran_in;
  pool.submit([&] { ran_in = std::this_thread::get_id(); });
  EXPECT_EQ(ran_in, std::this_thread::get_id());
  EXPECT_EQ(pool.threads(), 0U);
}

TEST(WorkerPoolTest, Submit_FromAThreadTiedToACpu_TiesNoThread) {
  cpu_set_t before, after;
  ASSERT_EQ(sched_getaffinity(getpid(), sizeof before, &before), 0);
  unsigned cpu = 0;
  while (!CPU_ISSET(cpu, &before)) ++cpu;
  WorkerPool pool(1);
  std::latch ran(1);
  std::thread tied([&] {
    ASSERT_TRUE(stay_on_cpu(cpu));
    cpu_set_t only;
    sched_getaffinity(0, sizeof only, &only);
    EXPECT_EQ(CPU_COUNT(&only), 1);
    EXPECT_TRUE(CPU_ISSET(cpu, &only));
    pool.submit([&] {
      sched_getaffinity(0, sizeof after, &after);
      ran.count_down();
    });
  });
  tied.join();
  ran.wait();
  EXPECT_TRUE(CPU_EQUAL(&after, &before));
}

TEST(ThreadTest, StayOnCpu_ThatIsNone_Fails) {
  for (const unsigned none : {CPU_SETSIZE - 1U, unsigned{CPU_SETSIZE}, UINT_MAX}) {
    const auto stays = stay_on_cpu(none);
    ASSERT_FALSE(stays);
    EXPECT_EQ(stays.error(), Errno{EINVAL});
  }
}

TEST(WorkerPoolTest, Submit_StartsThreadsUpToTheCapAndNoMore) {
  std::latch running(3);
  std::latch go(1);
  std::atomic<int> done = 0;
  std::promise<void> last;
  WorkerPool pool(3);
  EXPECT_EQ(pool.threads(), 0U);
  for (int i = 0; i < 3; ++i) {
    pool.submit([&] {
      running.count_down();
      go.wait();
      ++done;
    });
  }
  running.wait();  // all three run at once
  pool.submit([&] { ++done; });
  EXPECT_EQ(pool.threads(), 3U);
  EXPECT_EQ(done, 0);
  go.count_down();
  pool.submit([&] { last.set_value(); });
  last.get_future().wait();
  EXPECT_LE(pool.threads(), 3U);
}

TEST(WorkerPoolTest, OneThread_RunsTasksInTheirOrder) {
  std::vector<int> order;
  {
    WorkerPool pool(1);
    for (int i = 0; i < 100; ++i) pool.submit([&order, i] { order.push_back(i); });
  }
  ASSERT_EQ(order.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(WorkerPoolTest, Destructor_RunsWhatIsQueuedAndWhatThatSubmits) {
  std::atomic<int> ran = 0;
  {
    WorkerPool pool(2);
    for (int i = 0; i < 50; ++i) {
      pool.submit([&] {
        ++ran;
        pool.submit([&] { ++ran; });
      });
    }
  }
  EXPECT_EQ(ran, 100);
}

TEST(WorkerPoolTest, IdleThreads_EndAndStartAgainWhenNeeded) {
  WorkerPool pool(2, "test", std::chrono::milliseconds(1));
  for (int round = 0; round < 20; ++round) {
    std::promise<void> ran;
    pool.submit([&] { ran.set_value(); });
    ran.get_future().wait();
    while (pool.threads() != 0) std::this_thread::yield();
  }
}

TEST(WorkerPoolTest, Threads_HaveTheirNameAndTakeNoSignals) {
  std::promise<std::string> name;
  std::promise<bool> blocked;
  WorkerPool pool(1, "fw-a-very-long-name");
  pool.submit([&] {
    char text[16] = {};
    pthread_getname_np(pthread_self(), text, sizeof(text));
    name.set_value(text);
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    blocked.set_value(sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGUSR1) == 1);
  });
  EXPECT_EQ(name.get_future().get(), "fw-a-very-long-");
  EXPECT_TRUE(blocked.get_future().get());
}

TEST(WorkerPoolTest, TaskOutOfMemory_EndsOnlyThatTask) {
  std::promise<void> next;
  WorkerPool pool(1);
  pool.submit([] { throw std::bad_alloc(); });
  pool.submit([&] { next.set_value(); });
  next.get_future().wait();
  WorkerPool inline_pool(0);
  inline_pool.submit([] { throw std::bad_alloc(); });
}

TEST(WorkerPoolTest, ManySubmitters_EveryTaskRunsOnce) {
  std::atomic<int> ran = 0;
  {
    WorkerPool pool(4, "test", std::chrono::milliseconds(0));  // threads come and go all the time
    std::vector<std::thread> submitters;
    submitters.reserve(4);
    for (int t = 0; t < 4; ++t) {
      submitters.emplace_back([&] {
        for (int i = 0; i < 500; ++i) pool.submit([&] { ++ran; });
      });
    }
    for (std::thread& t : submitters) t.join();
  }
  EXPECT_EQ(ran, 2000);
}

}  // namespace
}  // namespace fusewire::io
