#include "fuse3/fuse_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syslog.h>

#include <cerrno>

#include "libfuse/captured_log_test.h"

namespace fusewire::libfuse {
namespace {

using testing::HasSubstr;

TEST(Log, Receiver_GetsLevelAndText) {
  const CapturedLog log;

  fuse_log(FUSE_LOG_WARNING, "%d of %s\n", 3, "four");

  EXPECT_EQ(log.text(), "4:3 of four\n");
}

TEST(Log, NoReceiver_StandardError) {
  testing::internal::CaptureStderr();

  fuse_log(FUSE_LOG_DEBUG, "seen %s\n", "here");

  EXPECT_EQ(testing::internal::GetCapturedStderr(), "seen here\n");
}

TEST(Log, Message_KeepsErrno) {
  fuse_set_log_func([](fuse_log_level, const char*, va_list) { errno = EBADF; });
  errno = ENOENT;

  fuse_log(FUSE_LOG_ERR, "x");

  EXPECT_EQ(errno, ENOENT);
  fuse_set_log_func(nullptr);
}

TEST(Log, Syslog_TakesMessagesUntilItIsClosed) {
  testing::internal::CaptureStderr();

  fuse_log_enable_syslog("log_test", LOG_PERROR,
                         LOG_USER);  // LOG_PERROR: to standard error too, with the name
  fuse_log(FUSE_LOG_ERR, "through the system log");
  fuse_log_close_syslog();
  fuse_log(FUSE_LOG_ERR, "and not\n");

  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, HasSubstr("log_test: through the system log\n"));
  EXPECT_THAT(text, HasSubstr("\nand not\n"));
}

}  // namespace
}  // namespace fusewire::libfuse
