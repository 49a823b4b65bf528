#include "devfuse/sync_init.h"

#include <gtest/gtest.h>

namespace fusewire::devfuse {
namespace {

// Where it works is shown in src/session/mounted_test.cc.
TEST(SyncInitTest, Kernels_ThatLetAKilledProcessGo) {
  for (const char* release :
       {"6.18.25", "6.18.44-fc-v657", "7.0.2", "7.1.0-rc1", "7.12", "8.0.0", "10.2.1-x"})
    EXPECT_TRUE(SyncInit::is_safe_with(release)) << release;
  for (const char* release : {"", "linux", "6", "6.12.80", "6.18", "6.18.0-rc1", "6.18.24", "6.19.14",
                              "7.0.0", "7.0.1-generic", "6.180.30"})
    EXPECT_FALSE(SyncInit::is_safe_with(release)) << release;
}

}  // namespace
}  // namespace fusewire::devfuse
