#include "virtiofs-bench/histogram.h"

#include <gtest/gtest.h>

namespace fusewire::bench {
namespace {

TEST(Histogram, Percentile_OfNothing_IsZero) { EXPECT_EQ(Histogram().percentile(0.5), 0); }

TEST(Histogram, Percentile_OfOneDuration_IsWithinOnePartIn128) {
  for (std::uint64_t value = 1; value < std::uint64_t{1} << 39; value = value * 9 / 8 + 1) {
    Histogram histogram;
    histogram.add(value);
    for (const double fraction : {0.0, 0.5, 1.0})
      EXPECT_NEAR(histogram.percentile(fraction), static_cast<double>(value),
                  static_cast<double>(value) / 128);
  }
}

TEST(Histogram, Percentile_OfShortDurations_IsExact) {
  for (std::uint64_t value = 0; value < 256; ++value) {
    Histogram histogram;
    histogram.add(value);
    EXPECT_EQ(histogram.percentile(0.5), static_cast<double>(value));
  }
}

TEST(Histogram, Percentile_OfManyDurations_IsTheOneAtThatRank) {
  Histogram histogram;
  for (std::uint64_t value = 1; value <= 100'000; ++value) histogram.add(value);
  for (const double fraction : {0.5, 0.99, 0.999})
    EXPECT_NEAR(histogram.percentile(fraction), fraction * 100'000, fraction * 100'000 / 100);
}

TEST(Histogram, Percentile_OfTwoKinds_IsTheUpperOnlyBeyondTheLowerOnesShare) {
  Histogram histogram;
  for (int i = 0; i < 99; ++i) histogram.add(10);
  histogram.add(200);
  EXPECT_EQ(histogram.percentile(0.99), 10);
  EXPECT_EQ(histogram.percentile(0.991), 200);
}

TEST(Histogram, Add_LongerThanItsEnd_CountsAsTheLongest) {
  Histogram histogram;
  histogram.add(~std::uint64_t{0});
  EXPECT_EQ(histogram.count(), 1U);
  const auto end = static_cast<double>(std::uint64_t{1} << 40);
  EXPECT_NEAR(histogram.percentile(1), end, end / 128);
}

TEST(Histogram, Merge_CountsBoth) {
  Histogram one, other;
  one.add(10);
  other.add(20);
  other.add(30);
  one.merge(other);
  EXPECT_EQ(one.count(), 3U);
  EXPECT_EQ(one.percentile(0.5), 20);
  EXPECT_EQ(one.percentile(1), 30);
}

}  // namespace
}  // namespace fusewire::bench
