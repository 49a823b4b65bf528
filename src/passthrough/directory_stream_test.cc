#include "passthrough/directory_stream.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

class DirectoryStreamTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }
  void make(const std::string& name) const {
    UniqueFd(::open(path(name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  }
  void make_many(int count) const {
    for (int i = 0; i < count; ++i) make("entry-with-a-longer-name-" + std::to_string(i));
  }
  std::unique_ptr<DirectoryStream> open() const {
    return std::make_unique<DirectoryStream>(
        UniqueFd(::open(directory_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  }

  // Names from the stream's position on, at most `limit`.
  static std::vector<std::string> names(DirectoryStream& stream, std::size_t limit = SIZE_MAX) {
    std::vector<std::string> all;
    while (all.size() < limit) {
      const auto entry = stream.peek();
      EXPECT_TRUE(entry.has_value());
      if (!entry || *entry == nullptr) break;
      all.emplace_back((*entry)->name);
      stream.advance();
    }
    return all;
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(DirectoryStreamTest, ReadsEveryEntryOnceWithItsTypeAndNumber) {
  make_many(2000);  // several batches
  ASSERT_EQ(::mkdir(path("d").c_str(), 0700), 0);
  const auto stream = open();
  std::set<std::string> seen;
  for (;;) {
    const auto entry = stream->peek();
    ASSERT_TRUE(entry.has_value());
    if (*entry == nullptr) break;
    const std::string name((*entry)->name);
    EXPECT_EQ((*entry)->name.data()[name.size()], '\0');
    EXPECT_TRUE(seen.insert(name).second) << name;
    if (name == "d") {
      struct stat stat = {};
      ASSERT_EQ(::stat(path("d").c_str(), &stat), 0);
      EXPECT_EQ((*entry)->ino, stat.st_ino);
      EXPECT_EQ((*entry)->type, DT_DIR);
    }
    stream->advance();
  }
  EXPECT_EQ(seen.size(), 2000U + 3);
  EXPECT_TRUE(seen.contains("."));
  EXPECT_TRUE(seen.contains(".."));
}

TEST_F(DirectoryStreamTest, Peek_DoesNotMoveOn) {
  make("a");
  const auto stream = open();
  const auto first = stream->peek();
  ASSERT_TRUE(first.has_value() && *first != nullptr);
  const std::string name((*first)->name);
  const auto again = stream->peek();
  ASSERT_TRUE(again.has_value() && *again != nullptr);
  EXPECT_EQ((*again)->name, name);
}

TEST_F(DirectoryStreamTest, Seek_ToAnyOldPosition_GoesOnFromThere) {
  make_many(1500);
  const auto stream = open();
  std::vector<std::pair<std::string, std::uint64_t>> all;  // name, position behind it
  for (auto entry = stream->peek(); entry && *entry != nullptr; entry = stream->peek()) {
    all.emplace_back((*entry)->name, (*entry)->next);
    stream->advance();
  }
  for (const std::size_t at :
       {std::size_t{0}, all.size() - 2, all.size() / 2, std::size_t{700}, all.size() / 3}) {
    ASSERT_TRUE(stream->seek(all[at].second).has_value());
    EXPECT_EQ(names(*stream, 1), std::vector{all[at + 1].first});
    const auto other = open();  // a position is the directory's, not the stream's
    ASSERT_TRUE(other->seek(all[at].second).has_value());
    EXPECT_EQ(names(*other, 1), std::vector{all[at + 1].first});
  }
  ASSERT_TRUE(stream->seek(all.back().second).has_value());
  EXPECT_TRUE(names(*stream).empty());
  ASSERT_TRUE(stream->seek(0).has_value());
  EXPECT_EQ(names(*stream).size(), all.size());
}

TEST_F(DirectoryStreamTest, Seek_ToTheBeginning_SeesWhatHappenedMeanwhile) {
  make("old");
  const auto stream = open();
  EXPECT_EQ(names(*stream, 1).size(), 1U);
  make("new");
  ASSERT_EQ(::unlink(path("old").c_str()), 0);
  ASSERT_TRUE(stream->seek(0).has_value());
  auto all = names(*stream);
  std::ranges::sort(all);
  EXPECT_EQ(all, (std::vector<std::string>{".", "..", "new"}));
}

TEST_F(DirectoryStreamTest, Seek_ToNonsense_IsAnErrorAndKeepsThePosition) {
  make_many(10);
  const auto stream = open();
  ASSERT_EQ(names(*stream, 4).size(), 4U);
  ASSERT_EQ(stream->seek(~std::uint64_t{0}), (Result<void>(fail(EINVAL))));
  EXPECT_EQ(names(*stream).size(), 8U);
}

TEST_F(DirectoryStreamTest, EntriesRemovedWhileReading_TheOthersAllComeOnce) {
  make_many(3000);
  const auto stream = open();
  std::set<std::string> seen;
  int removed = 0;
  for (;;) {
    const auto some = names(*stream, 7);
    stream->rest();
    if (some.empty()) break;
    for (const std::string& name : some) {
      EXPECT_TRUE(seen.insert(name).second) << name;
      if (name.starts_with("entry") && ::unlink(path(name).c_str()) == 0) ++removed;
    }
  }
  EXPECT_EQ(removed, 3000);
  EXPECT_EQ(seen.size(), 3002U);
}

TEST_F(DirectoryStreamTest, DirectoryRemovedWhileOpen_IsTheEndOrEnoent) {
  const auto stream = open();
  ASSERT_EQ(::rmdir(directory_.path().c_str()), 0);
  const auto entry = stream->peek();
  if (entry) {
    EXPECT_EQ(*entry, nullptr);
  } else {
    EXPECT_EQ(entry.error(), Errno{ENOENT});
  }
}

TEST_F(DirectoryStreamTest, MoreStreamsThanKeptBatches_AllGoOnWhereTheyWere) {
  make_many(40);
  std::vector<std::unique_ptr<DirectoryStream>> streams;
  for (int i = 0; i < DirectoryStream::kMaxKeptBatches + 100; ++i) {
    auto stream = open();
    if (stream->fd() < 0) GTEST_SKIP() << "too few descriptors";
    ASSERT_EQ(names(*stream, 5).size(), 5U);
    stream->rest();
    streams.push_back(std::move(stream));
  }
  for (const auto& stream : streams) EXPECT_EQ(names(*stream).size(), 37U);
}

}  // namespace
}  // namespace fusewire::passthrough
