/* Facts about this build of the library that the other headers depend on. Included by them; of no use alone.
 */
#ifndef LIBFUSE_CONFIG_H_
#define LIBFUSE_CONFIG_H_

/* The newest libfuse 3 interface whose sources compile against these headers. The binary interface is the one
 * of libfuse3.so.3 (3.14): what came later is found in space that was reserved then, or behind new symbols.
 */
#define FUSE_MAJOR_VERSION 3
#define FUSE_MINOR_VERSION 18
#define FUSE_HOTFIX_VERSION 0

/* One name may stand for several functions of different age, told apart by symbol versions. */
#define LIBFUSE_BUILT_WITH_VERSIONED_SYMBOLS 1

#endif
