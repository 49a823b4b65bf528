// Histogram: durations counted in buckets that grow with their size, so that a percentile is exact to one
// part in 128 whatever its magnitude, and adding is one increment. One thread fills one; merge() joins them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fusewire::bench {

class Histogram {
 public:
  // Counts one duration. Those over 2^40 ns (18 minutes) count as that long.
  void add(std::uint64_t nanoseconds) {
    ++buckets_[bucket_of(nanoseconds)];
    ++count_;
  }
  void merge(const Histogram& other);

  std::uint64_t count() const { return count_; }
  // The smallest duration (the middle of its bucket) that at least `fraction` of all do not exceed; 0 when
  // nothing was counted. `fraction`: 0 to 1.
  double percentile(double fraction) const;

 private:
  // Up to 2^kSubBits every duration has its own bucket; each doubling above is cut into 2^(kSubBits-1) ones.
  static constexpr unsigned kSubBits = 8;
  static constexpr unsigned kMaxBits = 40;
  static constexpr std::size_t kHalf = std::size_t{1} << (kSubBits - 1);
  static constexpr std::size_t kBuckets = (kMaxBits - kSubBits + 2) * kHalf;

  static std::size_t bucket_of(std::uint64_t value);
  static double middle_of(std::size_t bucket);

  std::array<std::uint64_t, kBuckets> buckets_{};
  std::uint64_t count_ = 0;
};

}  // namespace fusewire::bench
