"""Work of many kinds on a tree of files, and what has to come of it."""

import ctypes
import fcntl
import filecmp
import os
import shutil

from daemons import Failure, expect, expect_equal


def work_on(tree, source):
    """Work of many kinds on `tree`, which shows `source`."""
    (tree / "a").write_text("first\n")
    expect_equal((source / "a").read_text(), "first\n", "the file below")
    with open(tree / "a", "a", encoding="utf-8") as file:
        file.write("second\n")
        file.flush()
        os.fsync(file.fileno())
    os.truncate(tree / "a", 9)
    expect_equal((tree / "a").read_text(), "first\nsec", "appended and cut")
    (tree / "d").mkdir(mode=0o750)
    os.rename(tree / "a", tree / "d" / "b")
    os.link(tree / "d" / "b", tree / "d" / "c")
    os.symlink("b", tree / "d" / "l")
    os.mkfifo(tree / "d" / "fifo")
    expect_equal(os.readlink(tree / "d" / "l"), "b", "the symbolic link")
    expect_equal(sorted(os.listdir(tree / "d")), ["b", "c", "fifo", "l"], "the directory")
    expect_equal(os.stat(tree / "d" / "b").st_nlink, 2, "links")
    os.chmod(tree / "d" / "b", 0o600)
    os.chown(tree / "d" / "b", 12, 34)
    os.utime(tree / "d" / "b", (1000, 2000))
    status = os.stat(source / "d" / "b")
    expect_equal((status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime), (0o600, 12, 34, 2000),
                 "attributes below")
    block = os.urandom(1 << 20)
    with open(tree / "big", "wb") as file:
        for _ in range(16):
            file.write(block)
    expect(filecmp.cmp(tree / "big", source / "big", shallow=False), "a big file is the same below")
    check_direct_io(tree / "big", block)
    for i in range(500):
        (tree / "d" / f"many-{i:04}").touch()
    expect_equal(len(os.listdir(tree / "d")), 504, "many entries")
    check_locks(tree / "big")
    check_ranges(tree)
    expect(os.statvfs(tree).f_blocks == os.statvfs(source).f_blocks, "statfs")
    shutil.rmtree(tree / "d")
    os.unlink(tree / "big")
    expect_equal(os.listdir(source), ["ranges"], "what is left below")
    os.unlink(tree / "ranges")


def check_direct_io(path, block):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        memory = ctypes.create_string_buffer(len(block) + 4096)
        start = -ctypes.addressof(memory) % 4096
        view = memoryview(memory)[start:start + len(block)]
        expect_equal(os.preadv(fd, [view], len(block)), len(block), "a direct read")
        expect(bytes(view) == block, "directly read data")
    finally:
        os.close(fd)


def check_locks(path):
    with open(path, "rb") as one, open(path, "rb") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        try:
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raise Failure("two exclusive locks")
        except BlockingIOError:
            pass
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_ranges(tree):
    with open(tree / "ranges", "w+b") as file:
        file.write(b"x" * 8192)
        file.flush()
        os.posix_fallocate(file.fileno(), 0, 16384)
        expect_equal(os.fstat(file.fileno()).st_size, 16384, "fallocate")
        expect_equal(os.copy_file_range(file.fileno(), file.fileno(), 4096, 0, 12288), 4096, "copy_file_range")
        expect_equal(os.pread(file.fileno(), 1, 12288), b"x", "copied data")
