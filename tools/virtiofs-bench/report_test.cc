#include "virtiofs-bench/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace fusewire::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Figures speed(double operations, double cpu = 1) {
  return {.operations_per_second = operations, .p50_us = 10, .cpu_us = cpu};
}

// One case of two servers, the second half as fast, and one that the second cannot do.
Measured two_servers() {
  Measured measured;
  measured.servers = {{.name = "ours", .command = "a"}, {.name = "c", .command = "b"}};
  measured.rows.push_back({{find_workload("nop"), 1, 32, Wait::irq},
                           {{.runs = {speed(900), speed(1000), speed(1100)}}, {.runs = {speed(500, 4)}}}});
  measured.rows.push_back(
      {{find_workload("nop"), 2, 32, Wait::irq}, {{.runs = {speed(2000)}}, {.obstacle = "it has 1 queue"}}});
  return measured;
}

TEST(Figures, OfARun_AreForEachOperation) {
  RunResult run;
  run.seconds = 2;
  run.operations = 1000;
  run.bytes = 8'000'000;
  run.latency.add(5000);
  run.cpu_seconds = 0.01;
  run.kicks = 500;
  run.interrupts = 250;
  run.footprint = {.peak_bytes = 3 << 20, .descriptors = 17};
  const Figures figure = figures(run);
  EXPECT_DOUBLE_EQ(figure.operations_per_second, 500);
  EXPECT_DOUBLE_EQ(figure.megabytes_per_second, 4);
  EXPECT_NEAR(figure.p50_us, 5, 0.05);
  EXPECT_DOUBLE_EQ(figure.cpu_us, 10);
  EXPECT_DOUBLE_EQ(figure.kicks, 0.5);
  EXPECT_DOUBLE_EQ(figure.interrupts, 0.25);
  EXPECT_DOUBLE_EQ(figure.peak_mib, 3);
  EXPECT_DOUBLE_EQ(figure.descriptors, 17);
}

TEST(Figures, OfARunThatDidNothing_AreZero) {
  RunResult run;
  run.seconds = 1;
  EXPECT_EQ(figures(run).cpu_us, 0);
  EXPECT_EQ(figures(run).p99_us, 0);
}

TEST(Figures, Median_OfAnOddNumber_IsTheMiddleOne) {
  EXPECT_EQ(median({speed(3), speed(1), speed(2)}).operations_per_second, 2);
}

TEST(Figures, Median_OfAnEvenNumber_IsBetweenTheMiddleOnes) {
  EXPECT_EQ(median({speed(4), speed(1), speed(2), speed(100)}).operations_per_second, 3);
}

TEST(Table, WithAPeer_HasRatiosInItsLine) {
  const std::string text = table(two_servers(), false);
  EXPECT_THAT(text, HasSubstr("ops ratio"));
  EXPECT_THAT(text, HasSubstr("2.00"));  // operations
  EXPECT_THAT(text, HasSubstr("0.25"));  // CPU
  EXPECT_THAT(text, HasSubstr("nop, queues 2, depth 32: not measured with c: it has 1 queue\n"));
}

TEST(Table, OfOneServer_HasNoRatios) {
  Measured measured = two_servers();
  measured.servers.pop_back();
  for (Row& row : measured.rows) row.servers.pop_back();
  EXPECT_THAT(table(measured, false), Not(HasSubstr("ratio")));
}

TEST(Table, AsMarkdown_HasOneColumnCountThroughout) {
  const std::string text = table(two_servers(), true);
  std::vector<std::ptrdiff_t> bars;
  for (std::size_t at = 0; at < text.size() && text[at] == '|';) {
    const std::size_t end = text.find('\n', at);
    bars.push_back(std::count(text.begin() + static_cast<std::ptrdiff_t>(at),
                              text.begin() + static_cast<std::ptrdiff_t>(end), '|'));
    at = end + 1;
  }
  EXPECT_THAT(bars, ElementsAre(19, 19, 19, 19, 19, 19));
}

TEST(Json, HasRunsMediansAndObstacles) {
  const auto parsed = nlohmann::json::parse(json(two_servers(), Options{}));
  EXPECT_EQ(parsed["servers"][1]["name"], "c");
  const auto& first = parsed["results"][0];
  EXPECT_EQ(first["workload"], "nop");
  EXPECT_EQ(first["depth"], 32);
  EXPECT_EQ(first["servers"][0]["runs"].size(), 3U);
  EXPECT_EQ(first["servers"][0]["median"]["operations_per_second"], 1000);
  EXPECT_EQ(parsed["results"][1]["servers"][1]["not_measured"], "it has 1 queue");
}

TEST(Gnuplot, WithAPeer_DrawsWhatCanBeComparedRelativeToIt) {
  const std::string script = gnuplot_script(two_servers(), "/tmp/a\"b.svg");
  EXPECT_THAT(script, HasSubstr("\"nop q1\" 2.0000 1.0000\n"));
  EXPECT_THAT(script, Not(HasSubstr("\"nop q2\"")));
  EXPECT_THAT(script, HasSubstr("set output \"/tmp/a\\\"b.svg\""));
}

TEST(Gnuplot, OfOneServer_DrawsAbsoluteNumbers) {
  Measured measured = two_servers();
  measured.servers.pop_back();
  for (Row& row : measured.rows) row.servers.pop_back();
  EXPECT_THAT(gnuplot_script(measured, "x.svg"), HasSubstr("\"nop q2\" 2000.0000\n"));
}

}  // namespace
}  // namespace fusewire::bench
