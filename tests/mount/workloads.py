"""Work on a mounted tree, of the kind that finds faults, each compared with the host's own file system."""

import os
import shutil
import sqlite3
import subprocess
import threading
from pathlib import Path

from daemons import GuestScript, Settings, expect, expect_equal, expect_same_lines
from mounted import expect_same_tree, run, tree

KIB, MIB = 1 << 10, 1 << 20


def guest_script(test, share, mounted):
    """The script that the VM tests run in a guest: each line as on the host. `share` is unused: it prints for itself."""
    del share
    script = GuestScript(test.sockets / "bin")
    files = 2000
    wanted = script.run(test.folder("host"), files)
    work = mounted / "script"
    work.mkdir()
    got = script.run(work, files)
    differs = C_LACKS if test.c_peer else test.differs
    for beginning, why in differs.items():
        print(f"not compared: lines that begin with {beginning!r}: {why}")
    wanted, got = (without(lines, tuple(differs)) for lines in (wanted, got))
    expect_same_lines(wanted, got, "mount")


# What QEMU's virtiofsd 7.2 is not able to do: the lines of the guest script that show it.
C_LACKS = {
    "files: ... birth time": "QEMU's virtiofsd has no STATX",
    "tmpfile: ": "QEMU's virtiofsd has no O_TMPFILE",
    "permissions: fallocate: ... mode": "QEMU's virtiofsd keeps set-id bits on fallocate",
    "permissions: copy_file_range: ... mode": "QEMU's virtiofsd keeps set-id bits on copy_file_range",
    "locks: ": "QEMU's virtiofsd has no locks that wait, flock included",
}


def without(lines, beginnings):
    return "".join(f"{line}\n" for line in lines.splitlines() if not line.startswith(beginnings))


FIO_JOBS = {
    "sequential": ["--rw=write", "--bs=128k", "--size=48m"],
    "sequential, a megabyte at a time": ["--rw=write", "--bs=1m", "--size=48m"],
    "random": ["--rw=randwrite", "--bs=4k", "--size=8m"],
    "random, unaligned sizes": ["--rw=randwrite", "--bsrange=512-64k", "--bs_unaligned", "--size=8m"],
    "mixed": ["--rw=randrw", "--bs=4k", "--size=8m", "--verify_backlog=64"],
    "direct": ["--rw=randwrite", "--bs=16k", "--size=8m", "--direct=1", "--ioengine=libaio", "--iodepth=16"],
    "mapped": ["--rw=randwrite", "--bs=4k", "--size=8m", "--ioengine=mmap"],
    "with fsync": ["--rw=write", "--bs=16k", "--size=2m", "--fsync=8"],
    "two at a time": ["--rw=randwrite", "--bs=8k", "--size=8m", "--numjobs=2"],
}


def fio(test, share, mounted):
    """fio writes patterns that say where they belong, and verifies them: now, and on the host."""
    for name, arguments in FIO_JOBS.items():
        folder = "fio-" + name.replace(" ", "-").replace(",", "")
        (mounted / folder).mkdir()
        # A mixed job's second run would read in another order than the first wrote.
        verify_on_host = "--rw=randrw" not in arguments
        common = ["--name=job", "--verify=crc32c", "--verify_fatal=1", "--randrepeat=1", *arguments]
        if not any(argument.startswith("--ioengine") for argument in arguments):
            common.append("--ioengine=psync")
        run("fio", f"--directory={mounted / folder}", "--do_verify=1", "--end_fsync=1", *common,
            cwd=test.sockets)
        if verify_on_host:
            run("fio", f"--directory={share / folder}", "--verify_only=1", *common, cwd=test.sockets)
        for path in (share / folder).iterdir():
            run("cmp", path, mounted / folder / path.name)
        shutil.rmtree(mounted / folder)


# Not for us: they mount, need a kernel without other users, or do not touch the file system given.
STRESS_LEFT_OUT = ["binderfs", "bind-mount", "fanotify", "procfs", "eventfd"]


def stress_ng(test, mounted):
    folder = mounted / "stress"
    folder.mkdir()
    output = run("stress-ng", "--temp-path", folder, "--class", "filesystem", "--sequential", "1", "--timeout", "1s",
                 "--exclude", ",".join(STRESS_LEFT_OUT), "--verify", seconds=280, cwd=test.sockets)
    expect("successful run completed" in output, output)
    expect("stress-ng: fail" not in output, output)
    print("\n".join(line for line in output.splitlines() if "skipping" in line))


def make_repository(folder):
    """A git repository with some history, made on the host."""
    folder.mkdir()
    environment = git_environment()
    run("git", "init", "-q", "-b", "main", folder, env=environment)
    for commit in range(12):
        for number in range(25):
            path = folder / f"folder-{number % 5}" / f"file-{number}-{commit % 4}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"{commit} {number} {line}\n" for line in range(number * 10)))
        (folder / f"link-{commit}").symlink_to(f"folder-{commit % 5}")
        run("git", "-C", folder, "add", "-A", env=environment)
        run("git", "-C", folder, "commit", "-q", "-m", f"commit {commit}", env=environment)


def git_environment():
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
            **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", "test"), ("EMAIL", "test@localhost"), ("DATE", "2001-02-03T04:05:06Z"))}}


def git(test, share, mounted):
    """A repository is cloned onto the mount, changed and repacked there, and whole on both sides."""
    environment = git_environment()
    origin = test.sockets / "origin"
    make_repository(origin)
    clone = mounted / "clone"
    run("git", "clone", "-q", "--no-hardlinks", origin, clone, env=environment)
    run("git", "-C", clone, "fsck", "--full", "--strict", env=environment)
    expect_equal(run("git", "-C", clone, "status", "--porcelain", env=environment), "", "git status of a fresh clone")
    expect_equal(run("git", "-C", clone, "log", "--format=%H", env=environment),
                 run("git", "-C", origin, "log", "--format=%H", env=environment), "the history")
    run("git", "-C", clone, "mv", "folder-0", "renamed", env=environment)
    (clone / "new").write_text("new\n")
    run("git", "-C", clone, "add", "-A", env=environment)
    run("git", "-C", clone, "commit", "-q", "-m", "on the mount", env=environment)
    run("git", "-C", clone, "gc", "-q", "--prune=now", env=environment)
    run("git", "-C", clone, "fsck", "--full", "--strict", env=environment)
    run("git", "-C", share / "clone", "fsck", "--full", "--strict", env=environment)
    expect_equal(run("git", "-C", share / "clone", "status", "--porcelain", env=environment), "", "git status on the host")


def make_project(folder):
    """A C program of 40 files with a header that all include."""
    folder.mkdir()
    names = [f"part{number}" for number in range(40)]
    (folder / "parts.h").write_text("".join(f"int {name}(int);\n" for name in names))
    for number, name in enumerate(names):
        body = "".join(f"  x = x * {number + line} + {line};\n" for line in range(60))
        (folder / f"{name}.c").write_text(f'#include "parts.h"\nint {name}(int x) {{\n{body}  return x;\n}}\n')
    calls = "".join(f"  x ^= {name}(x);\n" for name in names)
    (folder / "main.c").write_text(
        f'#include <stdio.h>\n#include "parts.h"\nint main(void) {{\n  unsigned x = 1;\n{calls}'
        '  printf("%u\\n", x);\n  return 0;\n}\n')
    objects = " ".join(f"{name}.o" for name in [*names, "main"])
    (folder / "Makefile").write_text(
        f"CFLAGS = -O1 -fwrapv\nprogram: {objects}\n\t$(CC) -o $@ $^\n%.o: %.c parts.h Makefile\n\t$(CC) $(CFLAGS) -c -o $@ $<\n"
        f"clean:\n\trm -f program {objects}\n")


def build(test, share, mounted):
    """make -j builds the same program as on the host, rebuilds only what changed, and the program runs on the mount."""
    make_project(mounted / "project")
    make_project(test.folder("host-build") / "project")
    on_host = test.work / "host-build" / "project"
    for folder in (mounted / "project", on_host):
        run("make", "-j4", "-C", folder)
    expect_equal(run(mounted / "project" / "program"), run(on_host / "program"), "what the program prints")
    for path in sorted(on_host.glob("*.o")) + [on_host / "program"]:
        expect((share / "project" / path.name).read_bytes() == path.read_bytes(), f"{path.name} differs from the host's")
    expect("up to date" in run("make", "-C", mounted / "project"), "make finds something to do")
    # A time stamp that differs from the host's would build all or nothing.
    with open(mounted / "project" / "part7.c", "a", encoding="utf-8") as file:
        file.write("/* changed */\n")
    output = run("make", "-j4", "-C", mounted / "project")
    expect(output.count(" -c ") == 1 and "part7" in output, f"make after a change of one file:\n{output}")
    run("make", "-C", mounted / "project", "clean")
    expect_equal(sorted(path.suffix for path in (share / "project").iterdir() if path.suffix == ".o"), [], "after clean")


def write_rows(path, mode, writer, rounds, errors):
    try:
        connection = sqlite3.connect(path, timeout=60)
        connection.execute("pragma synchronous=normal")
        for number in range(rounds):
            with connection:
                connection.execute("insert into rows(writer, number, data) values (?, ?, ?)",
                                   (writer, number, os.urandom(700)))
                if number % 5 == 4:
                    connection.execute("delete from rows where writer = ? and number = ?", (writer, number - 2))
                if number % 7 == 6:
                    connection.execute("update rows set data = ? where writer = ? and number = ?",
                                       (os.urandom(3000), writer, number - 1))
        connection.close()
    except sqlite3.Error as error:
        errors.append(f"{mode}, writer {writer}: {error}")


def sqlite(test, share, mounted):
    """Several connections write into a database, in the rollback modes and with a write-ahead log; it stays whole."""
    del test
    for mode in ("delete", "truncate", "persist", "wal"):
        path = mounted / f"{mode}.db"
        connection = sqlite3.connect(path)
        expect_equal(connection.execute(f"pragma journal_mode={mode}").fetchone()[0], mode, "journal mode")
        connection.execute("create table rows(writer int, number int, data blob)")
        connection.execute("create index by_writer on rows(writer, number)")
        connection.commit()
        errors = []
        writers = [threading.Thread(target=write_rows, args=(path, mode, writer, 60, errors)) for writer in range(3)]
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        expect(not errors, "\n".join(errors))
        expect_equal(connection.execute("pragma integrity_check").fetchall(), [("ok",)], f"{mode}: integrity")
        count = connection.execute("select count(*) from rows").fetchone()[0]
        connection.close()
        expect_equal(count, 3 * (60 - 12), f"{mode}: rows")
        on_host = sqlite3.connect(share / f"{mode}.db")
        expect_equal(on_host.execute("pragma integrity_check").fetchall(), [("ok",)], f"{mode}: integrity on the host")
        expect_equal(on_host.execute("select count(*) from rows").fetchone()[0], count, f"{mode}: rows on the host")
        on_host.close()


def make_files(folder, trusted):
    """Everything that a tar archive can hold."""
    folder.mkdir()
    for number in range(60):
        path = folder / f"folder-{number % 6}" / f"file {number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(number * 700))
        os.chmod(path, 0o400 | number)
        os.chown(path, 1000 + number % 3, 2000 + number % 2)
        os.utime(path, ns=(10 ** 18 + number, 10 ** 18 + number * 10 ** 7 + 1))
        os.setxattr(path, "user.number", str(number).encode())
        if trusted:
            os.setxattr(path, "trusted.number", os.urandom(number))
    os.link(folder / "folder-0" / "file 0", folder / "folder-5" / "another name")
    os.link(folder / "folder-0" / "file 0", folder / "a third")
    (folder / "link").symlink_to("folder-1/file 1")
    (folder / "dangling").symlink_to("/no/such/file")
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "device", 0o20600, os.makedev(1, 5))
    with open(folder / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(3 * MIB)
        file.write(b"end")
    os.setxattr(folder / "folder-2", "user.folder", b"value")
    (folder / ("long " * 40)).write_text("a long name\n")


def tar(test, share, mounted):
    """A tree goes to the mount and back through tar, with attributes and hard links, and is the same everywhere."""
    original = test.sockets / "original"
    make_files(original, trusted=not test.c_peer)
    options = ["--xattrs", "--xattrs-include=*", "--sparse", "--numeric-owner"]
    archive = test.sockets / "original.tar"
    run("tar", *options, "-C", original, "-cf", archive, ".")
    (mounted / "unpacked").mkdir()
    run("tar", *options, "-C", mounted / "unpacked", "-xpf", archive)
    wanted = tree(original)
    expect(len(wanted) > 70, f"the tree has only {len(wanted)} names")
    expect_same_tree(mounted / "unpacked", original, "the tree on the mount")
    expect_same_tree(share / "unpacked", original, "the tree on the host")
    back = test.folder("back")
    subprocess.run(f"tar {' '.join(options)} -C {mounted}/unpacked -cf - . | tar {' '.join(options)} -C {back} -xpf -",
                   shell=True, check=True, timeout=60)
    expect_same_tree(back, original, "the tree that came back")
    holes = (share / "unpacked" / "sparse").stat()
    expect(holes.st_blocks * 512 < holes.st_size // 2, "the sparse file has no hole")
    run("rm", "-r", mounted / "unpacked")
    expect(not (share / "unpacked").exists(), "what was removed is still there")


def big_files(test, share, mounted):
    """A hundred megabytes in each direction, through a buffer and a mapping of every size."""
    source = test.sockets / "source"
    run(Settings.probe, "fill", source, 100 * MIB, 5)
    run("cp", source, mounted / "copy")
    run("cmp", source, share / "copy")
    run("cp", mounted / "copy", test.sockets / "back")
    run("cmp", source, test.sockets / "back")
    for block in (1, 7, 4095, 4097, 65536, 3 * MIB + 1):
        count = min(40 * MIB // block, 2000)
        run("dd", f"if={source}", f"of={mounted / 'blocks'}", f"bs={block}", f"count={count}")
        run("cmp", "-n", block * count, source, share / "blocks")
        run("cmp", "-n", block * count, mounted / "blocks", source)
    Path(test.sockets / "back").unlink()
