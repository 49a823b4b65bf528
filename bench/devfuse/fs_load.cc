// fs-load: one kind of system call against a mounted file system, in as many threads as asked for, for some
// time. Prints one line of JSON.
//
//   fs-load WORKLOAD DIRECTORY JOBS SECONDS
//
// Files that are missing are made first, outside of the time that is measured. Each thread has names and
// files of its own. See kWorkloads for what there is.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned kNames = 64;  // that a thread uses in turns
constexpr std::size_t kFileSize = std::size_t{64} << 20;
constexpr std::size_t kSmall = 4096;
constexpr std::size_t kLarge = std::size_t{1} << 20;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "fs-load: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

void expect(bool fine, const std::string& what) {
  if (!fine) die(what);
}

bool is_file(const std::string& path) {
  struct stat st{};
  return stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode);
}

struct FreeAligned {
  void operator()(void* memory) const { std::free(memory); }
};

// What one thread does again and again.
class Job {
 public:
  virtual ~Job() = default;
  virtual void once() = 0;
};

// Names in a directory, one after the other.
class Names : public Job {
 public:
  explicit Names(const std::string& directory, const std::string& prefix = "/name-") {
    for (unsigned i = 0; i < kNames; ++i) names_.push_back(directory + prefix + std::to_string(i));
  }

 protected:
  void make_files() {
    for (const std::string& name : names_) {
      const int fd = open(name.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
      expect(fd >= 0, name);
      close(fd);
    }
  }
  const char* next() { return names_[turn_++ % kNames].c_str(); }

 private:
  std::vector<std::string> names_;
  unsigned turn_ = 0;
};

class Stat final : public Names {
 public:
  explicit Stat(const std::string& directory) : Names(directory) { make_files(); }
  void once() override {
    struct stat st{};
    expect(stat(next(), &st) == 0, "stat");
  }
};

class OpenClose final : public Names {
 public:
  explicit OpenClose(const std::string& directory) : Names(directory) { make_files(); }
  void once() override {
    const int fd = open(next(), O_RDONLY | O_CLOEXEC);
    expect(fd >= 0, "open");
    close(fd);
  }
};

class CreateUnlink final : public Names {
 public:
  explicit CreateUnlink(const std::string& directory) : Names(directory, "/new-") {
    for (unsigned i = 0; i < kNames; ++i) unlink(next());  // what an earlier run left
  }
  void once() override {
    const char* name = next();
    const int fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    expect(fd >= 0, "creating");
    close(fd);
    expect(unlink(name) == 0, "unlink");
  }
};

class ReadDirectory final : public Names {
 public:
  explicit ReadDirectory(const std::string& directory) : Names(directory), directory_(directory) {
    make_files();
  }
  void once() override {
    DIR* stream = opendir(directory_.c_str());
    expect(stream != nullptr, "opendir");
    unsigned found = 0;
    while (readdir(stream) != nullptr) ++found;
    closedir(stream);
    expect(found >= kNames, "readdir");
  }

 private:
  const std::string directory_;
};

// Pieces of one large file, past the page cache.
class Pieces final : public Job {
 public:
  enum class Order { random, sequential };
  enum class Way { read, write };

  Pieces(const std::string& directory, std::size_t size, Order order, Way way)
      : size_(size),
        order_(order),
        way_(way),
        buffer_(static_cast<std::byte*>(std::aligned_alloc(kSmall, kLarge))),
        random_(std::random_device{}()) {
    std::memset(buffer_.get(), 'x', kLarge);
    const bool given = is_file(directory);
    const std::string path = given ? directory : directory + "/data";
    fd_ = open(path.c_str(), (given ? 0 : O_CREAT) | O_RDWR | O_DIRECT | O_CLOEXEC, 0644);
    struct stat st{};
    expect(fd_ >= 0, path);
    expect(fstat(fd_, &st) == 0, path);
    for (auto at = static_cast<std::size_t>(st.st_size); at < kFileSize; at += kLarge)
      expect(pwrite(fd_, buffer_.get(), kLarge, static_cast<off_t>(at)) == static_cast<ssize_t>(kLarge),
             path);
  }
  ~Pieces() override { close(fd_); }

  void once() override {
    const std::size_t pieces = kFileSize / size_;
    const std::size_t piece = order_ == Order::random ? random_() % pieces : turn_++ % pieces;
    const auto at = static_cast<off_t>(piece * size_);
    const ssize_t moved =
        way_ == Way::read ? pread(fd_, buffer_.get(), size_, at) : pwrite(fd_, buffer_.get(), size_, at);
    expect(moved == static_cast<ssize_t>(size_), "data");
  }

 private:
  const std::size_t size_;
  const Order order_;
  const Way way_;
  const std::unique_ptr<std::byte[], FreeAligned> buffer_;
  std::minstd_rand random_;
  std::size_t turn_ = 0;
  int fd_ = -1;
};

std::unique_ptr<Job> read_random_4k(const std::string& directory) {
  return std::make_unique<Pieces>(directory, kSmall, Pieces::Order::random, Pieces::Way::read);
}
std::unique_ptr<Job> write_random_4k(const std::string& directory) {
  return std::make_unique<Pieces>(directory, kSmall, Pieces::Order::random, Pieces::Way::write);
}
std::unique_ptr<Job> read_sequential_1m(const std::string& directory) {
  return std::make_unique<Pieces>(directory, kLarge, Pieces::Order::sequential, Pieces::Way::read);
}
std::unique_ptr<Job> write_sequential_1m(const std::string& directory) {
  return std::make_unique<Pieces>(directory, kLarge, Pieces::Order::sequential, Pieces::Way::write);
}
template <class Work>
std::unique_ptr<Job> make(const std::string& directory) {
  return std::make_unique<Work>(directory);
}

struct Workload {
  std::string_view name;
  std::size_t bytes;  // of data in one operation
  std::unique_ptr<Job> (*make)(const std::string& directory);
};
constexpr Workload kWorkloads[] = {
    {"stat", 0, make<Stat>},
    {"open-close", 0, make<OpenClose>},
    {"create-unlink", 0, make<CreateUnlink>},
    {"readdir", 0, make<ReadDirectory>},
    {"randread4k", kSmall, read_random_4k},
    {"randwrite4k", kSmall, write_random_4k},
    {"seqread1m", kLarge, read_sequential_1m},
    {"seqwrite1m", kLarge, write_sequential_1m},
};

const Workload& find(std::string_view name) {
  const auto* found = std::ranges::find(kWorkloads, name, &Workload::name);
  if (found != std::end(kWorkloads)) return *found;
  std::string all;
  for (const Workload& one : kWorkloads) all += " " + std::string(one.name);
  std::fprintf(stderr, "fs-load: the workloads are%s\n", all.c_str());
  std::exit(2);
}

double microseconds(Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

// The times of all operations of a thread, from the start sign to the stop sign.
std::vector<double> run(Job& job, const std::atomic<bool>& go, const std::atomic<bool>& stop) {
  std::vector<double> times;
  times.reserve(std::size_t{1} << 20);
  go.wait(false);
  auto before = Clock::now();
  while (!stop.load(std::memory_order_relaxed)) {  // SAFETY: one operation more or less
    job.once();
    const auto after = Clock::now();
    times.push_back(microseconds(after - before));
    before = after;
  }
  return times;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: fs-load WORKLOAD DIRECTORY JOBS SECONDS\n");
    return 2;
  }
  const Workload& workload = find(argv[1]);
  const unsigned jobs = static_cast<unsigned>(std::max(1, std::atoi(argv[3])));
  const std::chrono::duration<double> wanted(std::atof(argv[4]));

  std::vector<std::unique_ptr<Job>> work;
  for (unsigned i = 0; i < jobs; ++i) {
    std::string directory = argv[2];
    if (!is_file(directory)) {
      directory += "/job-" + std::to_string(i);
      expect(mkdir(directory.c_str(), 0755) == 0 || errno == EEXIST, directory);
    }
    work.push_back(workload.make(directory));
  }
  std::atomic<bool> go{false}, stop{false};
  std::vector<std::vector<double>> times(jobs);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < jobs; ++i) threads.emplace_back([&, i] { times[i] = run(*work[i], go, stop); });
  const auto began = Clock::now();
  go = true;
  go.notify_all();
  std::this_thread::sleep_for(wanted);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const double seconds = microseconds(Clock::now() - began) / 1e6;

  std::vector<double> all;
  for (const auto& one : times) all.insert(all.end(), one.begin(), one.end());
  std::ranges::sort(all);
  const auto percentile = [&all](double part) {
    return all.empty() ? 0.0 : all[static_cast<std::size_t>(part * static_cast<double>(all.size() - 1))];
  };
  std::printf(
      R"({"workload": "%s", "jobs": %u, "operations": %zu, "seconds": %.6f, "bytes_per_operation": %zu, )"
      R"("p50_us": %.2f, "p99_us": %.2f})"
      "\n",
      argv[1], jobs, all.size(), seconds, workload.bytes, percentile(0.5), percentile(0.99));
  return 0;
}
