// Extended attributes, and the POSIX ACLs that are stored in two of them.
#include <linux/capability.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "probe.h"

namespace probe {
namespace {

std::string value_of(const char* path, const char* name) {
  std::string value(70000, '\0');
  ssize_t size = ::lgetxattr(path, name, value.data(), value.size());
  if (size < 0) return std::string("<") + outcome(size) + ">";
  value.resize(static_cast<size_t>(size));
  return value;
}

// The names in order, without security labels, which the host's own policy may have put there.
std::string names_of(const char* path) {
  std::string buffer(70000, '\0');
  ssize_t size = ::llistxattr(path, buffer.data(), buffer.size());
  if (size < 0) return std::string("<") + outcome(size) + ">";
  std::vector<std::string> found;
  for (const char* name = buffer.data(); name < buffer.data() + size; name += std::strlen(name) + 1) {
    if (std::strncmp(name, "security.", 9) != 0) found.emplace_back(name);
  }
  std::ranges::sort(found);
  std::string text;
  for (const std::string& name : found) text += " " + name;
  return text;
}

const char* set(const char* path, const char* name, const std::string& value, int flags = 0) {
  return outcome(::lsetxattr(path, name, value.data(), value.size(), flags));
}

void capability_goes_with_a_write() {
  put("capable", "x", 0755);
  struct vfs_cap_data capability = {};
  capability.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
  capability.data[0].permitted = 1U << CAP_NET_RAW;
  std::string raw(sizeof(capability), '\0');
  std::memcpy(raw.data(), &capability, sizeof(capability));
  say("set a file capability", "%s", set("capable", "security.capability", raw));
  say("... reads back", "%d", value_of("capable", "security.capability") == raw);
  must(::chmod("capable", 0777) == 0, "chmod");
  say("... stays with chmod", "%d", value_of("capable", "security.capability") == raw);
  {
    File file("capable", O_WRONLY | O_APPEND);
    must(::write(file, "y", 1) == 1, "write");
  }
  say("... goes with a write by root", "%s", value_of("capable", "security.capability").c_str());
  must(std::strcmp(set("capable", "security.capability", raw), "ok") == 0, "set again");
  must(::truncate("capable", 0) == 0, "truncate");
  say("... goes with a truncate", "%s", value_of("capable", "security.capability").c_str());
  must(std::strcmp(set("capable", "security.capability", raw), "ok") == 0, "set again");
  must(::chown("capable", 1000, 1000) == 0, "chown");
  say("... goes with a chown", "%s", value_of("capable", "security.capability").c_str());
}

}  // namespace

void xattrs() {
  put("file", "x");
  must(::mkdir("folder", 0755) == 0 && ::symlink("file", "link") == 0, "prepare");
  say("list of none", "[%s]", names_of("file").c_str());
  say("get what is missing", "%s", value_of("file", "user.missing").c_str());
  say("remove what is missing", "%s", outcome(::lremovexattr("file", "user.missing")));
  say("set", "%s", set("file", "user.one", "first"));
  say("get", "%s", value_of("file", "user.one").c_str());
  say("replace", "%s", set("file", "user.one", "changed"));
  say("get", "%s", value_of("file", "user.one").c_str());
  say("XATTR_CREATE of what is there", "%s", set("file", "user.one", "x", XATTR_CREATE));
  say("XATTR_REPLACE of what is missing", "%s", set("file", "user.two", "x", XATTR_REPLACE));
  say("XATTR_REPLACE", "%s", set("file", "user.one", "replaced", XATTR_REPLACE));
  say("an empty value", "%s", set("file", "user.empty", ""));
  say("... get", "[%s]", value_of("file", "user.empty").c_str());
  std::string binary("\0\xff\n\0end", 7);
  say("a value with NULs", "%s", set("file", "user.binary", binary));
  say("... get", "%d", value_of("file", "user.binary") == binary);
  say("list", "%s", names_of("file").c_str());
  char small[4];
  say("size of a value", "%zd", ::lgetxattr("file", "user.one", nullptr, 0));
  say("a buffer too small for a value", "%s", outcome(::lgetxattr("file", "user.one", small, sizeof(small))));
  say("size of the list", "%d", ::llistxattr("file", nullptr, 0) > 0);
  say("a buffer too small for the list", "%s", outcome(::llistxattr("file", small, sizeof(small))));
  say("remove", "%s", outcome(::lremovexattr("file", "user.one")));
  say("list", "%s", names_of("file").c_str());

  say("a value of 3000 bytes", "%s", set("file", "user.large", std::string(3000, 'v')));
  say("... get", "%d", value_of("file", "user.large") == std::string(3000, 'v'));
  say("a value of 60000 bytes", "%s", set("file", "user.huge", std::string(60000, 'v')));
  say("a value above 64 KiB", "%s", set("file", "user.excess", std::string(65537, 'v')));
  say("a name of 255 bytes", "%s", set("folder", ("user." + std::string(250, 'n')).c_str(), "x"));
  say("a name of 256 bytes", "%s", set("folder", ("user." + std::string(251, 'n')).c_str(), "x"));
  say("a name without a prefix", "%s", set("file", "plain", "x"));
  say("a name that is only a prefix", "%s", set("file", "user.", "x"));

  say("on a folder", "%s", set("folder", "user.f", "folder"));
  say("... then", "%s", value_of("folder", "user.f").c_str());
  say("user.* on a symlink", "%s", set("link", "user.l", "x"));
  say("trusted.* on a symlink", "%s", set("link", "trusted.l", "link"));
  say("... then", "%s", value_of("link", "trusted.l").c_str());
  say("trusted.* on a file", "%s", set("file", "trusted.t", "trust"));
  say("... then", "%s", value_of("file", "trusted.t").c_str());
  say("list", "%s", names_of("file").c_str());
  File open_file("file", O_RDONLY);
  say("by descriptor", "%s", outcome(::fsetxattr(open_file, "user.fd", "d", 1, 0)));
  say("... get by name", "%s", value_of("file", "user.fd").c_str());
  as_user(1000, 1000, {}, [] {
    say("set as another user", "%s", set("file", "user.x", "x"));
    say("get as another user", "%s", value_of("file", "user.fd").c_str());
    say("set trusted.* as another user", "%s", set("file", "trusted.x", "x"));
    say("get trusted.* as another user", "%s", value_of("file", "trusted.t").c_str());
  });
  say("remove trusted.*", "%s", outcome(::lremovexattr("file", "trusted.t")));

  must(::link("file", "file-too") == 0 && ::rename("file", "file-renamed") == 0, "rename");
  say("after a link and a rename", "%s", value_of("file-too", "user.fd").c_str());
  must(::mknod("fifo", S_IFIFO | 0666, 0) == 0, "mknod");
  say("user.* on a fifo", "%s", set("fifo", "user.x", "x"));
  capability_goes_with_a_write();
}

namespace {

constexpr const char* kAccess = "system.posix_acl_access";
constexpr const char* kDefault = "system.posix_acl_default";

// The attribute's form: a version and then entries of 8 bytes, little-endian (linux/posix_acl_xattr.h).
struct AclEntry {
  uint16_t tag;
  uint16_t permissions;
  uint32_t id;
};
enum Tag : uint16_t { kOwner = 1, kUser = 2, kGroupOwner = 4, kGroup = 8, kMask = 16, kOther = 32 };
constexpr uint32_t kNobody = 0xffffffff;

std::string acl(const std::vector<AclEntry>& entries) {
  uint32_t version = 2;
  std::string raw(reinterpret_cast<const char*>(&version), 4);
  for (const AclEntry& entry : entries) raw.append(reinterpret_cast<const char*>(&entry), sizeof(entry));
  return raw;
}

std::string acl_text(const char* path, const char* name) {
  std::string raw = value_of(path, name);
  if (raw.size() < 4 || raw[0] == '<') return raw;
  std::string text;
  for (size_t at = 4; at + sizeof(AclEntry) <= raw.size(); at += sizeof(AclEntry)) {
    AclEntry entry;
    std::memcpy(&entry, raw.data() + at, sizeof(entry));
    const char* kind = entry.tag == kOwner        ? "u:"
                       : entry.tag == kUser       ? "u"
                       : entry.tag == kGroupOwner ? "g:"
                       : entry.tag == kGroup      ? "g"
                       : entry.tag == kMask       ? "m:"
                                                  : "o:";
    text += std::string(text.empty() ? "" : ",") + kind;
    if (entry.id != kNobody) text += std::to_string(entry.id) + ":";
    text += std::to_string(entry.permissions);
  }
  return text;
}

void show_acl(const char* what, const char* path) {
  say(what, "mode %04o access %s default %s", mode_of(path), acl_text(path, kAccess).c_str(),
      acl_text(path, kDefault).c_str());
}

}  // namespace

void acls() {
  const std::string access = acl({{kOwner, 6, kNobody},
                                  {kUser, 6, 1001},
                                  {kGroupOwner, 4, kNobody},
                                  {kMask, 6, kNobody},
                                  {kOther, 0, kNobody}});
  put("file", "acl", 0644);
  say("set an access ACL", "%s", set("file", kAccess, access));
  show_acl("file", "file");
  as_user(1001, 1001, {}, [] { say("the named user reads and writes", "%s", File("file", O_RDWR).why()); });
  as_user(1002, 1002, {}, [] { say("another does not", "%s", File("file", O_RDONLY).why()); });
  must(::chmod("file", 0640) == 0, "chmod");
  show_acl("chmod sets the mask", "file");
  as_user(1001, 1001, {}, [] {
    say("the mask takes writing away", "%s", File("file", O_RDWR).why());
    say("... not reading", "%s", File("file", O_RDONLY).why());
    say("another may not set an ACL", "%s",
        set("file", kAccess, acl({{kOwner, 7, kNobody}, {kGroupOwner, 7, kNobody}, {kOther, 7, kNobody}})));
  });
  say("set an ACL that is just a mode", "%s",
      set("file", kAccess, acl({{kOwner, 6, kNobody}, {kGroupOwner, 4, kNobody}, {kOther, 4, kNobody}})));
  show_acl("file", "file");
  say("a broken ACL", "%s", set("file", kAccess, "nonsense"));
  say("a default ACL on a file", "%s", set("file", kDefault, access));

  must(::mkdir("plain", 0777) == 0, "mkdir");
  ::umask(027);
  put("plain/file", "", 0666);
  must(::mkdir("plain/folder", 0777) == 0, "mkdir");
  show_acl("without a default ACL umask counts", "plain/file");
  show_acl("... for folders too", "plain/folder");

  must(::mkdir("inherit", 0777) == 0, "mkdir");
  say("set a default ACL", "%s",
      set("inherit", kDefault,
          acl({{kOwner, 7, kNobody},
               {kUser, 7, 1001},
               {kGroupOwner, 5, kNobody},
               {kGroup, 4, 2000},
               {kMask, 7, kNobody},
               {kOther, 1, kNobody}})));
  show_acl("the folder", "inherit");
  put("inherit/file", "", 0666);
  put("inherit/strict", "", 0600);
  must(::mkdir("inherit/folder", 0777) == 0 && ::mknod("inherit/fifo", S_IFIFO | 0666, 0) == 0, "make");
  show_acl("a file inherits, umask does not count", "inherit/file");
  show_acl("a file with a strict mode", "inherit/strict");
  show_acl("a folder inherits both", "inherit/folder");
  show_acl("a fifo", "inherit/fifo");
  must(::symlink("file", "inherit/link") == 0, "symlink");
  ::umask(022);
  say("remove the default ACL", "%s", outcome(::lremovexattr("inherit", kDefault)));
  put("inherit/later", "", 0666);
  show_acl("... then umask counts", "inherit/later");
}

}  // namespace probe
