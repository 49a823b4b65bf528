// Writer and Reader over real files.
#include <gmock/gmock.h>
#include <stdlib.h>

#include <cstring>
#include <fstream>

#include "fusewire/bytes.h"
#include "fusewire/wire.h"
#include "recording/reader.h"
#include "recording/writer.h"

namespace fusewire::recording {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Kind = Identifier::Kind;

class RecordingFile : public testing::Test {
 protected:
  RecordingFile() {
    const int fd = mkstemp(path_);
    EXPECT_GE(fd, 0);
    ::close(fd);
  }
  ~RecordingFile() override { unlink(path_); }

  void put(const std::string& content) { std::ofstream(path_, std::ios::binary) << content; }
  std::string get() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string open_error() const {
    const auto reader = Reader::open(path_);
    EXPECT_FALSE(reader);
    return reader ? "" : reader.error();
  }
  // Every record up to the end.
  std::vector<Record> read_all(bool& truncated) const {
    auto reader = Reader::open(path_);
    EXPECT_TRUE(reader) << reader.error();
    std::vector<Record> records;
    for (;;) {
      auto record = reader->next();
      EXPECT_TRUE(record) << record.error();
      if (!record || !*record) break;
      records.push_back(**std::move(record));
    }
    truncated = reader->truncated();
    return records;
  }

  char path_[32] = "/tmp/recording_test_XXXXXX";
};

std::vector<std::byte> write_request(std::size_t payload) {
  fuse_in_header header{};
  header.opcode = FUSE_WRITE;
  header.unique = 4;
  fuse_write_in in{};
  in.size = static_cast<std::uint32_t>(payload);
  std::vector<std::byte> bytes(sizeof header + sizeof in + payload);
  header.len = static_cast<std::uint32_t>(bytes.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &in, sizeof in);
  return bytes;
}

void record_some(const char* path) {
  auto writer = Writer::create(path);
  ASSERT_TRUE(writer) << writer.error();
  (*writer)->request(1, write_request(5000), 8);
  fuse_open_out open{};
  open.fh = 77;
  (*writer)->reply(FUSE_OPEN, {.len = 0, .error = 0, .unique = 6}, bytes_of(open));
  (*writer)->reply(FUSE_OPEN, {.len = 0, .error = -ENOENT, .unique = 8}, {});
}

TEST_F(RecordingFile, WhatTheWriterKept_TheReaderGives_WithoutTheDataOfWrites) {
  record_some(path_);
  bool truncated = true;
  const auto records = read_all(truncated);
  EXPECT_FALSE(truncated);
  ASSERT_EQ(records.size(), 3U);
  const auto& request = std::get<Request>(records[0]);
  EXPECT_EQ(request.unique, 4U);
  EXPECT_EQ(request.queue, 1U);
  EXPECT_EQ(request.room, 8U);
  EXPECT_EQ(request.size, 5080U);
  EXPECT_EQ(request.bytes.size(), 80U);
  const auto& opened = std::get<Reply>(records[1]);
  EXPECT_EQ(opened.unique, 6U);
  EXPECT_EQ(opened.error, 0);
  EXPECT_EQ(opened.size, sizeof(fuse_open_out));
  EXPECT_THAT(opened.identifiers, ElementsAre(Identifier{Kind::handle, 77, ""}));
  const auto& failed = std::get<Reply>(records[2]);
  EXPECT_EQ(failed.error, ENOENT);
  EXPECT_THAT(failed.identifiers, IsEmpty());
  EXPECT_LE(request.at, opened.at);
  EXPECT_LE(opened.at, failed.at);
}

TEST_F(RecordingFile, CutOffAtEachLength_GivesTheRecordsBefore_AndSaysSo) {
  record_some(path_);
  const std::string whole = get();
  std::size_t before = 0;
  for (std::size_t size = 12; size <= whole.size(); ++size) {
    put(whole.substr(0, size));
    bool truncated = false;
    const std::size_t records = read_all(truncated).size();
    const bool at_a_border = size == 12 || records != before;
    EXPECT_EQ(truncated, !at_a_border) << size;
    before = records;
  }
  EXPECT_EQ(before, 3U);
}

TEST_F(RecordingFile, MoreThanTheBuffers_ReadsBackWhole) {
  constexpr unsigned kCount = 20000;
  {
    auto writer = Writer::create(path_);
    ASSERT_TRUE(writer);
    for (unsigned i = 0; i < kCount; ++i) (*writer)->request(i % 7, write_request(i), 8);
  }
  bool truncated = true;
  const auto records = read_all(truncated);
  EXPECT_FALSE(truncated);
  ASSERT_EQ(records.size(), kCount);
  for (unsigned i = 0; i < kCount; ++i) EXPECT_EQ(std::get<Request>(records[i]).size, 80 + i);
}

TEST_F(RecordingFile, WhatIsNoRecording_IsRefused) {
  EXPECT_THAT(open_error(), HasSubstr("no recording"));
  put("FWRECORD");
  EXPECT_THAT(open_error(), HasSubstr("no recording"));
  put("something quite different");
  EXPECT_THAT(open_error(), HasSubstr("no recording"));
  put(std::string("FWRECORD\2\0\0\0", 12));
  EXPECT_THAT(open_error(), HasSubstr("version 2"));
}

TEST_F(RecordingFile, Nonsense_IsAnErrorWithItsPlace) {
  put(std::string("FWRECORD\1\0\0\0\x63", 13));
  auto reader = Reader::open(path_);
  ASSERT_TRUE(reader);
  const auto record = reader->next();
  ASSERT_FALSE(record);
  EXPECT_THAT(record.error(), HasSubstr("byte 12"));
}

TEST(RecordingPaths, WhatCannotBeOpened_IsNamed) {
  EXPECT_THAT(Reader::open("/no/such/file").error(), HasSubstr("/no/such/file"));
  EXPECT_THAT(Writer::create("/no/such/file").error(), HasSubstr("/no/such/file"));
}

}  // namespace
}  // namespace fusewire::recording
