"""Scenarios of programs_test.py with the larger examples: a tree of files, locks, notifications, io_uring, backing
files.
"""

import fcntl
import os
import subprocess
from pathlib import Path

from programs import Settings, compiled, on_mount, on_socket, directory, served_both_ways, SECONDS
from daemons import Unsupported, eventually, expect, expect_equal, keep_uring_on
from tree_work import work_on


def passthrough_ll():
    program = compiled("passthrough_ll")
    source, mountpoint = directory("source"), directory("mnt")
    for options in ("cache=auto", "cache=never", "cache=always,writeback"):
        command = [program, "-f", "-o", f"source={source},{options}"]
        for served in served_both_ways(command, mountpoint):
            with served:
                work_on(mountpoint, source)
    with on_mount([program, "-f", "-s", "-o", f"source={source},cache=auto", mountpoint], mountpoint):
        work_on(mountpoint, source)


def waiting_lock():
    """A lock that is waited for holds up nobody else, the one who is to give it back least of all."""
    program = compiled("passthrough_ll")
    source, mountpoint = directory("source"), directory("mnt")
    command = [program, "-f", "-o", f"source={source},flock"]
    for served in served_both_ways(command, mountpoint):
        with served, open(mountpoint / "lock", "w", encoding="utf-8") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            waiter = subprocess.Popen(["flock", str(mountpoint / "lock"), "true"])
            eventually(lambda: has_waiter(waiter.pid), "somebody waits for the lock", SECONDS)
            (mountpoint / "meanwhile").write_text("works")
            fcntl.flock(holder, fcntl.LOCK_UN)
            expect_equal(waiter.wait(SECONDS), 0, "flock's exit status")


def has_waiter(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        state = file.read().rpartition(")")[2].split()[0]
    with open(f"/proc/{pid}/syscall", encoding="utf-8") as file:
        return state in "SD" and file.read().split()[0] == "73"  # flock


def notify_inval_entry():
    program = compiled("notify_inval_entry")
    mountpoint = directory("mnt")
    for mode in ([], ["--only-expire"]):
        command = [program, "-f", "--update-interval=1", "--timeout=60", *mode, mountpoint]
        with on_mount(command, mountpoint):
            name = os.listdir(mountpoint)[0]
            expect((mountpoint / name).exists(), "the name is there")
            eventually(lambda n=name: not (mountpoint / n).exists(), "the cached name goes", SECONDS)


def notify_inval_inode():
    check_time_file("notify_inval_inode", [])


def notify_store_retrieve():
    check_time_file("notify_store_retrieve", [])


def check_time_file(name, options):
    """The file's content is cached for good, and changes because the program says so."""
    program = compiled(name)
    mountpoint = directory(f"mnt-{name}")
    with on_mount([program, "-f", "--update-interval=1", *options, mountpoint], mountpoint):
        first = (mountpoint / "current_time").read_text()
        expect(first.startswith("The current time is "), f"content {first!r}")
        eventually(lambda: (mountpoint / "current_time").read_text() != first, "the cached content changes", SECONDS)
    command = [program, "-f", "--update-interval=1", "--no-notify", f"--socket-path={Settings.work}/fs.sock"]
    with on_socket(command, mountpoint):
        expect((mountpoint / "current_time").read_text().startswith("The current time is "), "content")


def io_uring():
    """Requests over io_uring: the tree, notifications and their answers."""
    if missing := keep_uring_on():
        raise Unsupported(missing)
    program = compiled("passthrough_ll")
    source, mountpoint = directory("source"), directory("mnt-tree")
    with on_mount([program, "-f", "-o", f"source={source},cache=never,io_uring", mountpoint], mountpoint) as served:
        work_on(mountpoint, source)
        expect("io_uring" not in served.text(), f"it is in use: {served.text()}")
    check_time_file("notify_store_retrieve", ["-o", "io_uring,io_uring_q_depth=2"])
    check_time_file("notify_inval_inode", ["-o", "io_uring"])


def backing_fs():
    """The kernel reads and writes the backing file itself: the program's own read and write answer EIO."""
    program = compiled("backing_fs", Path(__file__).resolve().parent)
    below = Settings.work / "below"
    below.write_bytes(b"what lies below\n" * 1000)
    mountpoint = directory("mnt")
    with on_mount([program, "-f", mountpoint], mountpoint, {"BACKING_FILE": str(below)}):
        expect_equal((mountpoint / "file").read_bytes(), below.read_bytes(), "what is read through the mount")
        with open(mountpoint / "file", "r+b") as file:
            file.write(b"written")
        expect_equal(below.read_bytes()[:15], b"writtenes below", "what is written through the mount")
