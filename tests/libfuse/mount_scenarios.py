"""Scenarios of programs_test.py about the mount itself: what it lies on, its options, and what is left of it."""

import contextlib
import errno
import os
import subprocess
from pathlib import Path

from programs import Settings, mounted, lazily_unmount, compiled, Program, on_mount, directory, installed, SECONDS
from daemons import Failure, Unsupported, eventually, expect, expect_equal
from hello_scenarios import check_hello


def regular_file_root():
    """A file system that is one regular file, on a file, for root and for who needs fusermount3."""
    program = compiled("file_fs", Path(__file__).resolve().parent)
    mountpoint = Settings.work / "mnt"
    mountpoint.write_text("below\n")
    for options in ([], ["-o", "auto_unmount"]):
        with on_mount([program, "-f", *options, mountpoint], mountpoint):
            expect(mountpoint.is_file(), "the root is a regular file")
            expect_equal(mountpoint.stat().st_size, 4096, "its size")
            with open(mountpoint, "r+b") as file:
                expect_equal(file.read(9), b"one file\n", "its content")
                file.seek(4)
                file.write(b"word")
            expect_equal(mountpoint.read_bytes()[:9], b"one word\n", "what was written")
        expect_equal(mountpoint.read_text(), "below\n", "the file that it was mounted on")


def killed_on(mountpoint, program, options, user=0):
    """Starts the program, and kills it as soon as it has mounted."""
    server = Program([program, "-f", *options, mountpoint], user=user)
    try:
        eventually(lambda: server.alive() and mounted(mountpoint), "the program has mounted", SECONDS)
    finally:
        server.stop()


def auto_unmount():
    """A process that is killed leaves no mount; without the option it does, until the next one mounts there.

    For users who are not root only the latter is certain: their fusermount3 may be one (3.14) that stays, but cannot see
    that the mount is dead unless it is allow_other's.
    """
    program = compiled("hello_ll")
    Settings.work.chmod(0o755)
    mountpoint = directory("mnt")
    try:
        killed_on(mountpoint, program, ["-o", "auto_unmount"])
        eventually(lambda: not mounted(mountpoint), "the mount goes", SECONDS)
        for user in (0, 65534):
            os.chown(mountpoint, user, user)
            killed_on(mountpoint, program, [], user)
            expect(mounted(mountpoint), "a mount without a process")
            killed_on(mountpoint, program, ["-o", "auto_unmount"], user)
            lazily_unmount(mountpoint)
    finally:
        lazily_unmount(mountpoint)


@contextlib.contextmanager
def loop_device():
    image = Settings.work / "disk"
    image.write_bytes(bytes(1 << 20))
    made = subprocess.run([installed("losetup"), "--find", "--show", image], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise Unsupported(f"no loop device can be had: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def blkdev():
    """A mount of a block device: its type is fuseblk, and nobody else can have the device meanwhile."""
    if "fuseblk" not in Path("/proc/filesystems").read_text(encoding="utf-8").split():
        raise Unsupported("this kernel has no fuseblk")
    program = compiled("hello_ll")
    mountpoint = directory("mnt")
    with loop_device() as device:
        options = f"blkdev,fsname={device},blksize=4096,subtype=hello"
        with on_mount([program, "-f", "-o", options, mountpoint], mountpoint):
            check_hello(mountpoint)
            with open("/proc/self/mounts", encoding="utf-8") as table:
                line = next(line.split() for line in table if line.split()[1] == str(mountpoint))
            expect_equal(line[:3:2], [device, "fuseblk.hello"], "source and type")
            expect("blksize=4096" in line[3], f"options {line[3]}")
            try:
                os.close(os.open(device, os.O_RDWR | os.O_EXCL))
                raise Failure("somebody else could have the device")
            except OSError as busy:
                expect_equal(busy.errno, errno.EBUSY, "errno of an exclusive open")
    refused = subprocess.run([str(program), "-f", "-o", "blkdev", str(mountpoint)], capture_output=True, text=True,
                             timeout=SECONDS, check=False,
                             env={**os.environ, "LD_LIBRARY_PATH": str(Settings.lib), **Settings.environment})
    expect(refused.returncode == 1 and "fsname" in refused.stderr, f"blkdev alone: {refused}")
