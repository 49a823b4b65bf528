"""Scenarios of programs_test.py with programs as Debian ships them."""

import filecmp
import os
import shutil
import signal
import subprocess
import sys

from programs import Settings, mounted, lazily_unmount, Program, on_mount, on_socket, directory, installed, SECONDS
from daemons import eventually, expect, expect_equal


def squashfuse_ll():
    """Debian's program, on a mount, and through the environment on a socket."""
    tree, mountpoint = directory("tree"), directory("mnt")
    (tree / "sub").mkdir()
    (tree / "file").write_text("content\n")
    shutil.copy(sys.executable, tree / "sub" / "binary")
    image = Settings.work / "image.sqfs"
    subprocess.run([installed("mksquashfs"), tree, image, "-quiet", "-no-progress"], check=True, timeout=SECONDS,
                   stdout=subprocess.DEVNULL)
    command = [installed("squashfuse_ll"), "-f", image, mountpoint]
    for served in (on_mount(command, mountpoint),
                   on_socket(command, mountpoint, {"FUSEWIRE_SOCKET": f"{Settings.work}/fs.sock"})):
        with served:
            expect_equal(sorted(os.listdir(mountpoint)), ["file", "sub"], "the image's root")
            expect(filecmp.cmp(mountpoint / "sub" / "binary", tree / "sub" / "binary", shallow=False), "a binary")
            expect_equal((mountpoint / "file").read_text(), "content\n", "a text")


def fuse_overlayfs():
    lower, upper, work, mountpoint = (directory(name) for name in ("lower", "upper", "workdir", "mnt"))
    (lower / "kept").write_text("below\n")
    (lower / "changed").write_text("below\n")
    (lower / "removed").write_text("below\n")
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    with on_mount([installed("fuse-overlayfs"), "-f", "-o", options, mountpoint], mountpoint):
        with open(mountpoint / "changed", "a", encoding="utf-8") as file:
            file.write("above\n")
        (mountpoint / "removed").unlink()
        (mountpoint / "new").mkdir()
        expect_equal(sorted(os.listdir(mountpoint)), ["changed", "kept", "new"], "both layers together")
        expect_equal((mountpoint / "changed").read_text(), "below\nabove\n", "a copied-up file")
    expect_equal((lower / "changed").read_text(), "below\n", "the lower layer")
    expect_equal((upper / "changed").read_text(), "below\nabove\n", "the upper layer")


def qemu_storage_daemon():
    """Debian's program exports an image as a file, over the file itself."""
    image = Settings.work / "image"
    image.write_bytes(b"sector" + bytes((1 << 20) - 6))
    command = [installed("qemu-storage-daemon"), "--blockdev", f"driver=file,node-name=disk,filename={image}",
               "--export", f"type=fuse,id=export,node-name=disk,mountpoint={image},writable=on"]
    kinds = subprocess.run([command[0], "--export", "help"], capture_output=True, text=True, timeout=SECONDS,
                           check=False).stdout
    program = Program(command)
    try:
        eventually(lambda: program.alive() and mounted(image), f"it has mounted ({kinds})", SECONDS)
        expect(program.uses_our_library(), "it runs on our library")
        expect_equal(image.stat().st_size, 1 << 20, "the image's size")
        with open(image, "r+b") as file:
            expect_equal(file.read(6), b"sector", "its first bytes")
            file.seek(512)
            file.write(b"written")
            file.flush()
            os.fsync(file.fileno())
        expect_equal(image.read_bytes()[512:519], b"written", "what was written")
        program.process.send_signal(signal.SIGTERM)
        expect_equal(program.ended(), 0, f"exit status, log: {program.text()}")
        expect(not mounted(image), "the mount is gone")
        expect_equal(image.read_bytes()[510:520], b"\0\0written\0", "the image below")
    finally:
        lazily_unmount(image)
        program.stop()
