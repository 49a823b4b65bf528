#include "fusewire/io_vecs.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fusewire/bytes.h"

namespace fusewire {
namespace {

class IoVecsTest : public testing::Test {
 protected:
  std::string one_ = "abc", two_ = "", three_ = "defgh";
  std::vector<iovec> parts_ = {{one_.data(), 3}, {two_.data(), 0}, {three_.data(), 5}};
  IoVecs list_{parts_};

  std::string text() const {
    std::string out(list_.size(), '?');
    EXPECT_EQ(list_.copy_to(std::as_writable_bytes(std::span<char>(out))), out.size());
    return out;
  }
};

TEST_F(IoVecsTest, DropFront_AcrossParts_SkipsEmptyOnes) {
  EXPECT_EQ(text(), "abcdefgh");
  list_.drop_front(3);
  EXPECT_EQ(list_.vectors().size(), 1U);
  list_.drop_front(1);
  EXPECT_EQ(text(), "efgh");
  list_.drop_front(4);
  EXPECT_TRUE(list_.empty());
  EXPECT_TRUE(list_.vectors().empty());
}

TEST_F(IoVecsTest, TakeFront_AcrossParts_MovesTheBytes) {
  std::string out(4, '?');
  list_.take_front(std::as_writable_bytes(std::span<char>(out)));
  EXPECT_EQ(out, "abcd");
  EXPECT_EQ(list_.size(), 4U);
  EXPECT_EQ(text(), "efgh");
  list_.take_front(std::as_writable_bytes(std::span<char>(out)));
  EXPECT_EQ(out, "efgh");
  EXPECT_TRUE(list_.vectors().empty());
}

TEST_F(IoVecsTest, KnownSize_EmptyPartsAtTheFront_AreSkipped) {
  std::vector<iovec> parts = {{nullptr, 0}, {one_.data(), 3}};
  const IoVecs list(parts, 3);
  ASSERT_EQ(list.vectors().size(), 1U);
  EXPECT_EQ(list.vectors().front().iov_base, one_.data());
}

TEST_F(IoVecsTest, Truncate_CutsInsideAPart) {
  list_.truncate(100);
  EXPECT_EQ(text(), "abcdefgh");
  list_.truncate(4);
  EXPECT_EQ(text(), "abcd");
  list_.truncate(0);
  EXPECT_TRUE(list_.vectors().empty());
}

TEST_F(IoVecsTest, CopyFrom_StopsAtTheEnd) {
  EXPECT_EQ(list_.copy_from(as_bytes("1234567890")), 8U);
  EXPECT_EQ(text(), "12345678");
  EXPECT_EQ(list_.copy_from(as_bytes("x")), 1U);
  EXPECT_EQ(text(), "x2345678");
}

TEST_F(IoVecsTest, Head_NeverHasMorePartsThanASystemCallTakes) {
  std::vector<iovec> many(3000, iovec{one_.data(), 1});
  EXPECT_EQ(IoVecs(many).head().size(), std::size_t{UIO_MAXIOV});
  EXPECT_EQ(IoVecs(many).size(), 3000U);
}

}  // namespace
}  // namespace fusewire
