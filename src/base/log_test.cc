#include "base/log.h"

#include <gtest/gtest.h>

#include <string>

namespace fusewire::log {
namespace {

TEST(Log, ParseLevel_KnowsBothPeersNames) {
  EXPECT_EQ(parse_level("err"), Level::error);
  EXPECT_EQ(parse_level("error"), Level::error);
  EXPECT_EQ(parse_level("warning"), Level::warn);
  EXPECT_FALSE(parse_level("loud"));
}

TEST(Log, Receiver_GetsWhatIsAboveTheLevel) {
  static std::string got;
  use_receiver([](Level level, std::string_view message) {
    got += std::to_string(static_cast<int>(level)) + std::string(message);
  });
  debug("no {}", 1);
  warn("yes {}", 2);
  use_receiver(nullptr);
  EXPECT_EQ(got, "3yes 2");
}

TEST(RateLimit, Allow_SwallowsAfterTheBurst) {
  RateLimit limit(2, std::chrono::hours(1));
  EXPECT_EQ(limit.allow(), 0U);
  EXPECT_EQ(limit.allow(), 0U);
  EXPECT_FALSE(limit.allow());
  EXPECT_FALSE(limit.allow());
}

TEST(RateLimit, Allow_ReportsWhatItSwallowed) {
  RateLimit limit(0, std::chrono::hours(1));
  EXPECT_FALSE(limit.allow());
  RateLimit each(1, std::chrono::milliseconds(-1));
  EXPECT_EQ(each.allow(), 0U);
  EXPECT_EQ(each.allow(), 0U);
}

}  // namespace
}  // namespace fusewire::log
