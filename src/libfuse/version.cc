// Which library this is, in numbers and words.
#include <cstdio>

#include "fuse3/fuse_lowlevel.h"

#define FUSEWIRE_TEXT_(x) #x
#define FUSEWIRE_TEXT(x) FUSEWIRE_TEXT_(x)

extern "C" {

int fuse_version() { return FUSE_VERSION; }

const char* fuse_pkgversion() {
  return FUSEWIRE_TEXT(FUSE_MAJOR_VERSION) "." FUSEWIRE_TEXT(FUSE_MINOR_VERSION) "." FUSEWIRE_TEXT(
      FUSE_HOTFIX_VERSION);
}

}  // extern "C"
