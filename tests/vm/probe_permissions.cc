// Owners, modes and what other users may do. Runs as root and becomes users 1000 and 1001 where it says so.
#include <cerrno>

#include "probe.h"

namespace probe {
namespace {

constexpr uid_t kAnn = 1000;
constexpr uid_t kBob = 1001;
constexpr gid_t kAnnsGroup = 1000;
constexpr gid_t kBobsGroup = 1001;
constexpr gid_t kOtherGroup = 2000;

void owned(const std::string& path, uid_t uid, gid_t gid, mode_t mode) {
  put(path, "owned");
  must(::chown(path.c_str(), uid, gid) == 0 && ::chmod(path.c_str(), mode) == 0, path.c_str());
}

void owned_folder(const std::string& path, uid_t uid, gid_t gid, mode_t mode) {
  must(::mkdir(path.c_str(), 0700) == 0, path.c_str());
  must(::chown(path.c_str(), uid, gid) == 0 && ::chmod(path.c_str(), mode) == 0, path.c_str());
}

void as_ann(const std::function<void()>& body) { as_user(kAnn, kAnnsGroup, {}, body); }
void as_bob(const std::function<void()>& body) { as_user(kBob, kBobsGroup, {}, body); }

void show(const char* what, const std::string& path) {
  struct stat st = stat_of(path);
  say(what, "%u:%u %04o", st.st_uid, st.st_gid, st.st_mode & 07777);
}

void changing() {
  put("file", "x");
  say("chown by root", "%s", outcome(::chown("file", kAnn, kAnnsGroup)));
  say("chown of the group only", "%s", outcome(::chown("file", static_cast<uid_t>(-1), kOtherGroup)));
  say("chmod", "%s", outcome(::chmod("file", 04751)));
  show("now", "file");
  must(::symlink("file", "link") == 0, "symlink");
  say("lchown of a symlink", "%s", outcome(::lchown("link", kBob, kBobsGroup)));
  show("the symlink", "link");
  show("its target", "file");
  File folder(".", O_RDONLY | O_DIRECTORY);
  say("a large uid and gid", "%s", outcome(::chown("file", 4000000000U, 4000000001U)));
  show("now", "file");

  as_bob([] {
    say("chmod by another user", "%s", outcome(::chmod("file", 0777)));
    say("chown by another user", "%s", outcome(::chown("file", kBob, kBobsGroup)));
    say("utimes by another user", "%s", outcome(::utimensat(AT_FDCWD, "file", nullptr, 0)));
  });
  owned("anns", kAnn, kAnnsGroup, 0644);
  as_user(kAnn, kAnnsGroup, {kOtherGroup}, [] {
    say("chgrp by the owner to a group of hers", "%s",
        outcome(::chown("anns", static_cast<uid_t>(-1), kOtherGroup)));
    say("chgrp by the owner to another group", "%s",
        outcome(::chown("anns", static_cast<uid_t>(-1), kBobsGroup)));
    say("chown by the owner", "%s", outcome(::chown("anns", kBob, static_cast<gid_t>(-1))));
  });
  show("now", "anns");
  owned("foreign-group", kAnn, kOtherGroup, 0755);
  as_ann([] {
    say("chmod g+s by the owner outside the group", "%s", outcome(::chmod("foreign-group", 02755)));
  });
  show("... the bit is not set", "foreign-group");
}

// Set-uid and set-gid go when anybody but root changes contents, and with every chown.
void set_id_bits() {
  struct Change {
    const char* name;
    std::function<long(const char*)> apply;
  };
  const Change changes[] = {
      {"write",
       [](const char* path) {
         File file(path, O_WRONLY);
         return static_cast<long>(::write(file, "w", 1));
       }},
      {"truncate", [](const char* path) { return static_cast<long>(::truncate(path, 2)); }},
      {"ftruncate",
       [](const char* path) {
         File file(path, O_WRONLY);
         return static_cast<long>(::ftruncate(file, 1));
       }},
      {"O_TRUNC", [](const char* path) { return static_cast<long>(File(path, O_WRONLY | O_TRUNC)); }},
      {"fallocate",
       [](const char* path) {
         File file(path, O_WRONLY);
         return static_cast<long>(::fallocate(file, 0, 0, 10000));
       }},
      {"copy_file_range",
       [](const char* path) {
         File from("source", O_RDONLY);
         File file(path, O_WRONLY);
         return static_cast<long>(::copy_file_range(from, nullptr, file, nullptr, 3, 0));
       }},
      {"chmod", [](const char* path) { return static_cast<long>(::chmod(path, 06711)); }},
      {"chown to nobody else",
       [](const char* path) { return static_cast<long>(::chown(path, kAnn, kAnnsGroup)); }},
      {"rename",
       [](const char* path) {
         std::string other = std::string(path) + "-renamed";
         return static_cast<long>(
             ::rename(path, other.c_str()) == 0 && ::rename(other.c_str(), path) == 0 ? 0 : -1);
       }},
  };
  must(::chmod(".", 0777) == 0, "chmod");
  put("source", "source");
  for (const Change& change : changes) {
    owned("special", kAnn, kAnnsGroup, 06755);
    const char* by_root = outcome(change.apply("special"));
    say(change.name, "by root %s, mode %04o", by_root, mode_of("special"));
    must(::unlink("special") == 0, "unlink");
    owned("special", kAnn, kAnnsGroup, 06777);
    as_ann([&] { say(change.name, "by the owner %s", outcome(change.apply("special"))); });
    say(change.name, "... mode %04o", mode_of("special"));
    must(::unlink("special") == 0, "unlink");
    owned("special", kAnn, kAnnsGroup, 06777);
    as_bob([&] { say(change.name, "by another %s", outcome(change.apply("special"))); });
    say(change.name, "... mode %04o", mode_of("special"));
    must(::unlink("special") == 0, "unlink");
  }
  must(::chmod(".", 0755) == 0, "chmod");
}

void access_by_others() {
  owned("private", kAnn, kAnnsGroup, 0600);
  owned("readable", kAnn, kAnnsGroup, 0644);
  owned("read-only", kAnn, kAnnsGroup, 0444);
  owned("for-group", kAnn, kOtherGroup, 0660);
  owned_folder("closed", kAnn, kAnnsGroup, 0700);
  owned("closed/inside", kAnn, kAnnsGroup, 0666);
  owned_folder("blind", kAnn, kAnnsGroup, 0711);
  owned("blind/inside", kAnn, kAnnsGroup, 0644);
  as_bob([] {
    say("read a private file", "%s", File("private", O_RDONLY).why());
    say("read a readable file", "%s", get("readable").c_str());
    say("write a readable file", "%s", File("readable", O_WRONLY).why());
    say("look into a closed folder", "%s", File("closed", O_RDONLY | O_DIRECTORY).why());
    say("open by name in a closed folder", "%s", File("closed/inside", O_RDONLY).why());
    say("list a blind folder", "%s", File("blind", O_RDONLY | O_DIRECTORY).why());
    say("open by name in a blind folder", "%s", get("blind/inside").c_str());
    say("make a file in another's folder", "%s", File("new", O_CREAT | O_WRONLY).why());
    say("remove a file from another's folder", "%s", outcome(::unlink("readable")));
    say("access", "r %s, w %s, x %s", outcome(::access("readable", R_OK)),
        outcome(::access("readable", W_OK)), outcome(::access("readable", X_OK)));
    say("O_NOATIME on another's file", "%s", File("readable", O_RDONLY | O_NOATIME).why());
    say("a file of a group that one is not in", "%s", File("for-group", O_RDWR).why());
  });
  as_user(kBob, kBobsGroup, {kOtherGroup},
          [] { say("a file of a supplementary group", "%s", File("for-group", O_RDWR).why()); });
  as_ann([] {
    say("the owner writes a read-only file", "%s", File("read-only", O_WRONLY).why());
    File made("closed/made", O_CREAT | O_RDWR, 0400);
    say("the owner makes a read-only file and writes", "%s", outcome(::write(made, "x", 1)));
  });
  say("root writes a read-only file", "%s", File("read-only", O_WRONLY).why());

  owned("shared", kAnn, kAnnsGroup, 0666);
  as_bob([] {
    say("touch a file that one may write", "%s", outcome(::utimensat(AT_FDCWD, "shared", nullptr, 0)));
    struct timespec past[2] = {{1000, 0}, {1000, 0}};
    say("set its times to the past", "%s", outcome(::utimensat(AT_FDCWD, "shared", past, 0)));
  });

  owned_folder("sticky", 0, 0, 01777);
  owned("sticky/anns", kAnn, kAnnsGroup, 0666);
  as_bob([] {
    say("remove from a sticky folder", "%s", outcome(::unlink("sticky/anns")));
    say("rename in a sticky folder", "%s", outcome(::rename("sticky/anns", "sticky/bobs")));
    say("make in a sticky folder", "%s", File("sticky/own", O_CREAT | O_WRONLY).why());
    say("remove one's own from it", "%s", outcome(::unlink("sticky/own")));
  });
}

void creating() {
  owned_folder("open", 0, 0, 0777);
  as_user(kAnn, kAnnsGroup, {kOtherGroup}, [] {
    ::umask(027);
    put("open/file", "", 0666);
    must(::mkdir("open/folder", 0777) == 0 && ::symlink("x", "open/symlink") == 0 &&
             ::mknod("open/fifo", S_IFIFO | 0666, 0) == 0,
         "make");
  });
  for (const char* name : {"file", "folder", "symlink", "fifo"})
    show("made by a user", std::string("open/") + name);
  as_ann(
      [] { say("a device made by a user", "%s", outcome(::mknod("open/device", S_IFCHR | 0666, 0x105))); });

  // A set-gid folder hands on its group, and to folders the bit too. A file only gets the set-gid bit if its
  // maker is in that group: else anybody could make programs that run with it (CVE-2022-0358 in a peer).
  owned_folder("inherit", 0, kOtherGroup, 02777);
  as_ann([] {
    ::umask(0);
    put("inherit/file", "", 0666);
    must(::mkdir("inherit/folder", 0777) == 0, "mkdir");
    put("inherit/set-gid", "", 02775);
    must(::mknod("inherit/node", S_IFREG | 02775, 0) == 0, "mknod");
    must(::mkdir("inherit/folder/below", 0755) == 0, "mkdir");
  });
  for (const char* name : {"file", "folder", "set-gid", "node", "folder/below"}) {
    show("made in a set-gid folder", std::string("inherit/") + name);
  }
}

}  // namespace

void permissions() {
  changing();
  set_id_bits();
  access_by_others();
  creating();
}

}  // namespace probe
