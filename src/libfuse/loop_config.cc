#include "libfuse/loop_config.h"

#include <new>

namespace {

// Above this a number of idle threads is a mistake, most often a negative one that lost its sign.
constexpr unsigned int kMostIdleThreads = 100'000;

}  // namespace

extern "C" {

fuse_loop_config* fuse_loop_cfg_create() {
  return new (std::nothrow) fuse_loop_config(fusewire::libfuse::kDefaultLoopConfig);
}

void fuse_loop_cfg_destroy(fuse_loop_config* config) { delete config; }

void fuse_loop_cfg_set_idle_threads(fuse_loop_config* config, unsigned int value) {
  if (value > kMostIdleThreads) {
    if (value != ~0U)
      fuse_log(FUSE_LOG_ERR, "fuse: %u idle threads are too many, the limit is %u\n", value,
               kMostIdleThreads);
    return;
  }
  config->max_idle_threads = value;
}

void fuse_loop_cfg_set_max_threads(fuse_loop_config* config, unsigned int value) {
  config->max_threads = value;
}

void fuse_loop_cfg_set_clone_fd(fuse_loop_config* config, unsigned int value) {
  config->clone_fd = value != 0;
}

void fuse_loop_cfg_convert(fuse_loop_config* config, fuse_loop_config_v1* v1_conf) {
  fuse_loop_cfg_set_idle_threads(config, v1_conf->max_idle_threads);
  fuse_loop_cfg_set_clone_fd(config, static_cast<unsigned int>(v1_conf->clone_fd));
}

}  // extern "C"
