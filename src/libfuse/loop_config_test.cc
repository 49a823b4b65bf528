#include "libfuse/loop_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "libfuse/captured_log_test.h"

namespace fusewire::libfuse {
namespace {

struct Destroy {
  void operator()(fuse_loop_config* config) const { fuse_loop_cfg_destroy(config); }
};
using Config = std::unique_ptr<fuse_loop_config, Destroy>;

TEST(LoopConfig, Create_HasTheDefaults) {
  const Config config(fuse_loop_cfg_create());

  ASSERT_NE(config, nullptr);
  EXPECT_EQ(config->clone_fd, 0);
  EXPECT_EQ(config->max_idle_threads, ~0U);
  EXPECT_EQ(config->max_threads, 10U);
}

TEST(LoopConfig, Set_ChangesEachMember) {
  const Config config(fuse_loop_cfg_create());

  fuse_loop_cfg_set_clone_fd(config.get(), 5);
  fuse_loop_cfg_set_idle_threads(config.get(), 2);
  fuse_loop_cfg_set_max_threads(config.get(), 3);

  EXPECT_EQ(config->clone_fd, 1);
  EXPECT_EQ(config->max_idle_threads, 2U);
  EXPECT_EQ(config->max_threads, 3U);
}

TEST(LoopConfig, TooManyIdleThreads_AreRefused) {
  const Config config(fuse_loop_cfg_create());
  const CapturedLog log;

  fuse_loop_cfg_set_idle_threads(config.get(), ~0U);  // the default, which programs hand back
  EXPECT_EQ(log.text(), "");
  fuse_loop_cfg_set_idle_threads(config.get(), 100'001);

  EXPECT_EQ(config->max_idle_threads, ~0U);
  EXPECT_THAT(log.text(), testing::HasSubstr("100001"));
}

TEST(LoopConfig, Convert_TakesTheOlderStructure) {
  const Config config(fuse_loop_cfg_create());
  fuse_loop_config_v1 older{.clone_fd = 1, .max_idle_threads = 7};

  fuse_loop_cfg_convert(config.get(), &older);

  EXPECT_EQ(config->clone_fd, 1);
  EXPECT_EQ(config->max_idle_threads, 7U);
  EXPECT_EQ(config->max_threads, 10U);
}

}  // namespace
}  // namespace fusewire::libfuse
