#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "fuse3/fuse_common.h"
#include "libfuse/captured_log_test.h"

namespace fusewire::libfuse {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Options = std::unique_ptr<fuse_conn_info_opts, Free>;

Options parse(const char* list) {
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  for (const char* argument : {"prog", "-o", list}) EXPECT_EQ(fuse_opt_add_arg(&args, argument), 0);
  Options options(fuse_parse_conn_info_opts(&args));
  fuse_opt_free_args(&args);
  return options;
}

// What `want` is, of what it was, once the options in `list` were applied.
unsigned wanted(const char* list, unsigned before) {
  fuse_conn_info conn{};
  conn.want = before;
  conn.want_ext = before;
  const Options options = parse(list);
  if (options == nullptr) return 0xdead;
  fuse_apply_conn_info_opts(options.get(), &conn);
  EXPECT_EQ(conn.want_ext, conn.want) << list;
  return conn.want;
}

TEST(ConnInfoOpts, Numbers_AreSet) {
  fuse_conn_info conn{};
  const Options options =
      parse("max_write=1,max_readahead=2,max_background=3,congestion_threshold=4,time_gran=10");
  ASSERT_NE(options, nullptr);

  fuse_apply_conn_info_opts(options.get(), &conn);

  EXPECT_EQ(conn.max_write, 1U);
  EXPECT_EQ(conn.max_readahead, 2U);
  EXPECT_EQ(conn.max_background, 3U);
  EXPECT_EQ(conn.congestion_threshold, 4U);
  EXPECT_EQ(conn.time_gran, 10U);
}

TEST(ConnInfoOpts, NotGiven_LeavesEverything) {
  fuse_conn_info conn{};
  conn.max_write = conn.max_readahead = conn.max_background = conn.congestion_threshold = conn.time_gran = 9;
  const Options options = parse("unrelated");
  ASSERT_NE(options, nullptr);

  fuse_apply_conn_info_opts(options.get(), &conn);

  EXPECT_EQ(conn.max_write, 9U);
  EXPECT_EQ(conn.time_gran, 9U);
  EXPECT_EQ(wanted("unrelated", 0), 0U);
  EXPECT_EQ(wanted("unrelated", ~0U), ~0U);
}

TEST(ConnInfoOpts, Zero_IsANumberToo) {
  fuse_conn_info conn{};
  conn.max_readahead = 9;
  const Options options = parse("max_readahead=0");
  ASSERT_NE(options, nullptr);

  fuse_apply_conn_info_opts(options.get(), &conn);

  EXPECT_EQ(conn.max_readahead, 0U);
}

TEST(ConnInfoOpts, Switches_SetTheirCapability) {
  EXPECT_EQ(wanted("async_read", 0), unsigned{FUSE_CAP_ASYNC_READ});
  EXPECT_EQ(wanted("atomic_o_trunc", 0), unsigned{FUSE_CAP_ATOMIC_O_TRUNC});
  EXPECT_EQ(wanted("splice_write,splice_move,splice_read", 0),
            unsigned{FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_SPLICE_READ});
  EXPECT_EQ(wanted("auto_inval_data", 0), unsigned{FUSE_CAP_AUTO_INVAL_DATA});
  EXPECT_EQ(wanted("async_dio", 0), unsigned{FUSE_CAP_ASYNC_DIO});
  EXPECT_EQ(wanted("writeback_cache", 0), unsigned{FUSE_CAP_WRITEBACK_CACHE});
  EXPECT_EQ(wanted("readdirplus=auto", 0), unsigned{FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO});
}

TEST(ConnInfoOpts, Switches_ClearTheirCapability) {
  EXPECT_EQ(~wanted("sync_read", ~0U), unsigned{FUSE_CAP_ASYNC_READ});
  EXPECT_EQ(~wanted("no_remote_lock", ~0U), unsigned{FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS});
  EXPECT_EQ(~wanted("no_remote_flock", ~0U), unsigned{FUSE_CAP_FLOCK_LOCKS});
  EXPECT_EQ(~wanted("no_remote_posix_lock", ~0U), unsigned{FUSE_CAP_POSIX_LOCKS});
  EXPECT_EQ(~wanted("no_splice_write,no_splice_move,no_splice_read", ~0U),
            unsigned{FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_SPLICE_READ});
  EXPECT_EQ(~wanted("no_auto_inval_data", ~0U), unsigned{FUSE_CAP_AUTO_INVAL_DATA});
  EXPECT_EQ(~wanted("no_async_dio", ~0U), unsigned{FUSE_CAP_ASYNC_DIO});
  EXPECT_EQ(~wanted("no_writeback_cache", ~0U), unsigned{FUSE_CAP_WRITEBACK_CACHE});
  EXPECT_EQ(~wanted("readdirplus=no", ~0U), unsigned{FUSE_CAP_READDIRPLUS});
  EXPECT_EQ(~wanted("readdirplus=yes", ~0U), unsigned{FUSE_CAP_READDIRPLUS_AUTO});
}

TEST(ConnInfoOpts, SwitchOff_Wins_WhereverItStands) {
  EXPECT_EQ(wanted("sync_read,async_read", ~0U), ~unsigned{FUSE_CAP_ASYNC_READ});
  EXPECT_EQ(wanted("splice_read,no_splice_read", 0), 0U);
  EXPECT_EQ(wanted("no_writeback_cache,writeback_cache", 0), 0U);
}

TEST(ConnInfoOpts, UnknownOptions_Stay) {
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  for (const char* argument : {"prog", "-o", "other,async_read,x=1", "-f"})
    ASSERT_EQ(fuse_opt_add_arg(&args, argument), 0);

  const Options options(fuse_parse_conn_info_opts(&args));

  EXPECT_NE(options, nullptr);
  EXPECT_THAT(std::vector<std::string>(args.argv, args.argv + args.argc),
              ElementsAre("prog", "-o", "other,x=1", "-f"));
  fuse_opt_free_args(&args);
}

TEST(ConnInfoOpts, Malformed_IsRefused) {
  const CapturedLog log;

  EXPECT_EQ(parse("max_write=lots"), nullptr);

  EXPECT_THAT(log.text(), HasSubstr("max_write=lots"));
}

}  // namespace
}  // namespace fusewire::libfuse
