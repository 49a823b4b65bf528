#include "virtiofs-bench/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace fusewire::bench {

std::size_t Histogram::bucket_of(std::uint64_t value) {
  value = std::min(value, (std::uint64_t{1} << kMaxBits) - 1);
  const auto bits = static_cast<unsigned>(std::bit_width(value));
  if (bits <= kSubBits) return value;
  const unsigned shift = bits - kSubBits;  // The kSubBits topmost bits remain, the first of them 1.
  return shift * kHalf + (value >> shift);
}

double Histogram::middle_of(std::size_t bucket) {
  if (bucket < 2 * kHalf) return static_cast<double>(bucket);
  const std::size_t shift = bucket / kHalf - 1;
  const std::size_t low = (kHalf + bucket % kHalf) << shift;
  return static_cast<double>(low) + static_cast<double>((std::size_t{1} << shift) - 1) / 2;
}

void Histogram::merge(const Histogram& other) {
  for (std::size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
}

double Histogram::percentile(double fraction) const {
  if (count_ == 0) return 0;
  const auto wanted = std::max<std::uint64_t>(
      static_cast<std::uint64_t>(std::ceil(fraction * static_cast<double>(count_))), 1);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i];
    if (seen >= wanted) return middle_of(i);
  }
  return middle_of(kBuckets - 1);
}

}  // namespace fusewire::bench
