#include "devfuse/only_user.h"

#include <gtest/gtest.h>

namespace fusewire::devfuse {
namespace {

constexpr uid_t kOwner = 1000;

bool refused(std::uint32_t opcode, std::uint32_t uid) {
  fuse_in_header in{};
  in.opcode = opcode;
  in.uid = uid;
  return is_refused(in, kOwner);
}

TEST(OnlyUser, OwnerAndRoot_MayEverything) {
  for (std::uint32_t opcode = FUSE_LOOKUP; opcode <= FUSE_TMPFILE; ++opcode) {
    EXPECT_FALSE(refused(opcode, kOwner)) << opcode;
    EXPECT_FALSE(refused(opcode, 0)) << opcode;
  }
}

TEST(OnlyUser, Others_MayUseWhatIsOpen_AndNothingElse) {
  for (const std::uint32_t opcode :
       {FUSE_READ, FUSE_WRITE, FUSE_RELEASE, FUSE_READDIR, FUSE_FORGET, FUSE_INTERRUPT})
    EXPECT_FALSE(refused(opcode, 1001)) << opcode;
  for (const std::uint32_t opcode : {FUSE_LOOKUP, FUSE_GETATTR, FUSE_SETATTR, FUSE_OPEN, FUSE_OPENDIR,
                                     FUSE_CREATE, FUSE_UNLINK, FUSE_GETXATTR})
    EXPECT_TRUE(refused(opcode, 1001)) << opcode;
}

}  // namespace
}  // namespace fusewire::devfuse
