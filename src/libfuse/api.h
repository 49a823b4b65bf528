// The C API as this library itself sees it: the newest version of every declaration.
#pragma once

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 312
#endif
#include "fuse3/fuse_lowlevel.h"
