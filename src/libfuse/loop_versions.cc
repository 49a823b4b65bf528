// fuse_session_loop_mt, whose second argument was another one in each of its versions.

#include "libfuse/loop_config.h"
#include "libfuse/session.h"
#include "libfuse/symver.h"

extern "C" {

int fusewire_session_loop_mt_30(struct fuse_session* se, int clone_fd);
int fusewire_session_loop_mt_32(struct fuse_session* se, struct fuse_loop_config_v1* v1);
int fusewire_session_loop_mt_312(struct fuse_session* se, struct fuse_loop_config* config);

int fusewire_session_loop_mt_30(struct fuse_session* se, int clone_fd) {
  return fuse_session_loop_mt_31(se, clone_fd);
}
int fusewire_session_loop_mt_32(struct fuse_session* se, struct fuse_loop_config_v1* v1) {
  return fuse_session_loop_mt_32(se, v1);
}
int fusewire_session_loop_mt_312(struct fuse_session* se, struct fuse_loop_config* config) {
  return fuse_session_loop_mt_312(se, config);
}

}  // extern "C"

FUSEWIRE_SYMVER(fusewire_session_loop_mt_30, "fuse_session_loop_mt@FUSE_3.0");
FUSEWIRE_SYMVER(fusewire_session_loop_mt_32, "fuse_session_loop_mt@FUSE_3.2");
FUSEWIRE_SYMVER(fusewire_session_loop_mt_312, "fuse_session_loop_mt@@FUSE_3.12");
