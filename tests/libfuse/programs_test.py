#!/usr/bin/env python3
"""Programs written for libfuse's low-level interface, on our libfuse3.so.3.

The sources of Debian's libfuse3-dev examples, unmodified, are compiled against our headers and library; programs of
Debian's (squashfuse_ll, fuse-overlayfs) run on the library as they are. Each serves a mount of its own and, where that
makes sense, a vhost-user socket that virtiofs-mount mounts.

usage: programs_test.py --include DIR --lib DIR --mount VIRTIOFS_MOUNT SCENARIO
Exit status 77: something that the scenario needs is not installed.
"""

import argparse
import contextlib
import ctypes
import errno
import fcntl
import filecmp
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "common"))
from daemons import SKIPPED, Failure, Unsupported, eventually, expect, expect_equal, keep_uring_on  # noqa: E402

EXAMPLES = Path("/usr/share/doc/libfuse3-dev/examples")
SECONDS = 60


class Settings:
    include = lib = mount = work = None
    link = []  # more for the linker
    environment = {}  # and for the programs

    @classmethod
    def use_sanitizers(cls):
        """Their runtime has to come before everything else, in programs that know nothing of it. What those leak is
        theirs."""
        runtime = [subprocess.run(["gcc", f"-print-file-name={name}.so"], capture_output=True, text=True,
                                  check=True).stdout.strip() for name in ("libasan", "libubsan")]
        cls.link = ["-Wl,--unresolved-symbols=ignore-in-shared-libs"]
        cls.environment = {"LD_PRELOAD": ":".join(runtime), "ASAN_OPTIONS": "detect_leaks=0"}


def mounted(path):
    with open("/proc/self/mounts", encoding="utf-8") as table:
        return any(line.split()[1] == str(path) for line in table)


def lazily_unmount(path):
    subprocess.run(["umount", "-l", str(path)], stderr=subprocess.DEVNULL, check=False)


def compiled(name, folder=EXAMPLES):
    """The program made from a source: of Debian's examples as they are, or of ours."""
    source = folder / f"{name}.c"
    if not source.exists():
        raise Unsupported(f"{source} is not there: install libfuse3-dev")
    program = Settings.work / name
    shim = Settings.work / "kernel"  # libfuse's own name for <linux/fuse.h>
    shim.mkdir(exist_ok=True)
    (shim / "fuse_kernel.h").write_text("#include <linux/fuse.h>\n", encoding="utf-8")
    command = ["gcc", "-D_FILE_OFFSET_BITS=64", f"-I{Settings.include}", f"-I{Settings.include}/fuse3", f"-I{shim}",
               str(source), "-o", str(program), f"-L{Settings.lib}", "-lfuse3", "-lpthread", *Settings.link]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    expect(done.returncode == 0, f"{' '.join(command)}:\n{done.stderr}")
    return program


class Program:
    """A file system's process, from its start to the end of its mount."""

    def __init__(self, command, env=None, user=None, descriptors=()):
        environment = {**os.environ, "LD_LIBRARY_PATH": str(Settings.lib), **Settings.environment, **(env or {})}
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([str(word) for word in command], env=environment, stdout=self.log,
                                        stderr=self.log, cwd=Settings.work, user=user, pass_fds=descriptors)

    def text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def alive(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.process.args} ended with {self.process.returncode}: {self.text()}")
        return True

    def uses_our_library(self):
        maps = Path(f"/proc/{self.process.pid}/maps").read_text(encoding="utf-8")
        return str(Settings.lib / "libfuse3.so.3") in maps

    def ended(self):
        """Its exit status, waited for."""
        try:
            return self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.process.args} does not end: {self.text()}") from None

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


@contextlib.contextmanager
def on_mount(command, mountpoint, env=None):
    """Runs `command`, which mounts on `mountpoint`; in the end it is unmounted and must exit with 0."""
    program = Program(command, env)
    try:
        eventually(lambda: program.alive() and mounted(mountpoint), f"{command[0]} has mounted", SECONDS)
        expect(program.uses_our_library(), "it runs on our library")
        yield program
        subprocess.run(["umount", str(mountpoint)], check=True, timeout=SECONDS)
        expect_equal(program.ended(), 0, f"exit status, log: {program.text()}")
    finally:
        lazily_unmount(mountpoint)
        program.stop()


@contextlib.contextmanager
def on_socket(command, mountpoint, env=None):
    """Runs `command`, which listens on the work directory's socket, and mounts that."""
    path = Settings.work / "fs.sock"
    program = Program(command, env)
    front_end = None
    try:
        eventually(lambda: program.alive() and path.is_socket(), f"{command[0]} listens", SECONDS)
        front_end = subprocess.Popen([Settings.mount, "-f", str(path), str(mountpoint)])
        eventually(lambda: program.alive() and mounted(mountpoint), "virtiofs-mount has mounted", SECONDS)
        expect(program.uses_our_library(), "it runs on our library")
        yield program
        subprocess.run(["umount", str(mountpoint)], check=True, timeout=SECONDS)
        expect_equal(front_end.wait(SECONDS), 0, "virtiofs-mount's exit status")
        expect_equal(program.ended(), 0, f"exit status, log: {program.text()}")
        expect(not path.exists(), "the socket file is removed")
    finally:
        lazily_unmount(mountpoint)
        if front_end is not None and front_end.poll() is None:
            front_end.kill()
            front_end.wait()
        program.stop()


def directory(name):
    path = Settings.work / name
    path.mkdir()
    return path


def served_both_ways(command, mountpoint):
    """Once on a mount, once on a socket."""
    yield on_mount([*command, mountpoint], mountpoint)
    yield on_socket([*command, f"--socket-path={Settings.work}/fs.sock"], mountpoint)


def check_hello(mountpoint):
    expect_equal(os.listdir(mountpoint), ["hello"], "the directory")
    expect_equal((mountpoint / "hello").read_text(), "Hello World!\n", "the file")
    try:
        with open(mountpoint / "hello", "w", encoding="utf-8"):
            raise Failure("hello could be opened for writing")
    except PermissionError:
        pass
    expect(not (mountpoint / "other").exists(), "there is nothing else")


def hello_ll():
    program = compiled("hello_ll")
    mountpoint = directory("mnt")
    for threads in ([], ["-s"]):
        for served in served_both_ways([program, "-f", *threads], mountpoint):
            with served:
                check_hello(mountpoint)
    with on_mount([program, "-f", "-o", "clone_fd,max_idle_threads=2", mountpoint], mountpoint):
        check_hello(mountpoint)


def hello_ll_inherited():
    """The socket is open and listens already, as one that systemd passes on."""
    program = compiled("hello_ll")
    mountpoint = directory("mnt")
    path = Settings.work / "fs.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        served = Program([program, "-f", f"--fd={listener.fileno()}"], descriptors=(listener.fileno(),))
    front_end = subprocess.Popen([Settings.mount, "-f", str(path), str(mountpoint)])
    try:
        eventually(lambda: served.alive() and mounted(mountpoint), "virtiofs-mount has mounted", SECONDS)
        check_hello(mountpoint)
        subprocess.run(["umount", str(mountpoint)], check=True, timeout=SECONDS)
        expect_equal(front_end.wait(SECONDS), 0, "virtiofs-mount's exit status")
        expect_equal(served.ended(), 0, f"exit status, log: {served.text()}")
    finally:
        lazily_unmount(mountpoint)
        if front_end.poll() is None:
            front_end.kill()
            front_end.wait()
        served.stop()


def hello_ll_background():
    """It returns when it is mounted, and goes on in the background."""
    program = compiled("hello_ll")
    mountpoint = directory("mnt")
    try:
        done = subprocess.run([str(program), str(mountpoint)], timeout=SECONDS, check=False,
                              env={**os.environ, "LD_LIBRARY_PATH": str(Settings.lib), **Settings.environment})
        expect_equal(done.returncode, 0, "exit status")
        expect(mounted(mountpoint), "it has mounted when it returns")
        check_hello(mountpoint)
        subprocess.run(["umount", str(mountpoint)], check=True, timeout=SECONDS)
    finally:
        lazily_unmount(mountpoint)


def hello_ll_terminated():
    """A signal ends the loop, and the mount goes with it."""
    program = compiled("hello_ll")
    mountpoint = directory("mnt")
    for arguments in ([], ["-s"]):
        server = Program([program, "-f", *arguments, mountpoint])
        try:
            eventually(lambda: server.alive() and mounted(mountpoint), "hello_ll has mounted", SECONDS)
            check_hello(mountpoint)
            server.process.send_signal(signal.SIGTERM)
            expect_equal(server.ended(), 1, "exit status: the loop has returned the signal's number")
            expect(not mounted(mountpoint), "the mount is gone")
        finally:
            lazily_unmount(mountpoint)
            server.stop()


def refusals():
    """What fails at once says why."""
    program = compiled("hello_ll")
    mountpoint = directory("mnt")
    for arguments, text in ((["-f", "--no-such-option", mountpoint], "--no-such-option"),
                            (["-f", "-o", "no_such_option", mountpoint], "no_such_option"),
                            (["-f", "--socket-path=/no/such/directory/s"], "/no/such/directory")):
        server = Program([program, *arguments])
        try:
            expect_equal(server.ended(), 1, f"exit status of {arguments}")
            expect(text in server.text(), f"{arguments}: {server.text()!r}")
        finally:
            server.stop()


def hello_ll_uds():
    """Its own input and output functions: FUSE over a stream socket, with this test as the kernel."""
    program = compiled("hello_ll_uds")
    path = Path("/tmp/libfuse-hello-ll.sock")
    path.unlink(missing_ok=True)
    server = Program([program])
    try:
        eventually(lambda: server.alive() and path.is_socket(), "hello_ll_uds listens", SECONDS)
        with socket.socket(socket.AF_UNIX) as kernel:
            kernel.settimeout(SECONDS)
            eventually(lambda: kernel.connect_ex(str(path)) == 0, "it accepts", SECONDS)

            def ask(opcode, node, body):
                unique = ask.unique = ask.unique + 2
                header = struct.pack("<IIQQIIII", 40 + len(body), opcode, unique, node, 0, 0, 0, 0)
                kernel.sendall(header + body)
                size, error, answered = struct.unpack("<IiQ", kernel.recv(16, socket.MSG_WAITALL))
                expect_equal(answered, unique, "the request's number")
                return error, kernel.recv(size - 16, socket.MSG_WAITALL) if size > 16 else b""
            ask.unique = 0

            error, answer = ask(26, 0, struct.pack("<IIII48x", 7, 38, 65536, 0))
            expect_equal((error, struct.unpack_from("<I", answer)[0]), (0, 7), "INIT")
            error, answer = ask(1, 1, b"hello\0")
            expect_equal((error, struct.unpack_from("<Q", answer)[0]), (0, 2), "LOOKUP")
            expect_equal(ask(1, 1, b"other\0")[0], -2, "LOOKUP of what is not there")
            expect_equal(ask(14, 2, struct.pack("<II", os.O_RDONLY, 0))[0], 0, "OPEN")
            expect_equal(ask(15, 2, struct.pack("<QQIIQII", 0, 0, 4096, 0, 0, 0, 0)), (0, b"Hello World!\n"), "READ")
        expect_equal(server.ended(), 0, f"exit status at the stream's end: {server.text()}")
    finally:
        server.stop()
        path.unlink(missing_ok=True)


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


def installed(program):
    path = shutil.which(program)
    if path is None:
        raise Unsupported(f"{program} is not installed")
    return path


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


SCENARIOS = {function.__name__: function for function in (
    hello_ll, hello_ll_inherited, hello_ll_background, hello_ll_terminated, refusals, hello_ll_uds, passthrough_ll,
    waiting_lock, notify_inval_entry, notify_inval_inode, notify_store_retrieve, squashfuse_ll, fuse_overlayfs, backing_fs,
    regular_file_root, qemu_storage_daemon, auto_unmount, blkdev, io_uring)}


def main():
    parser = argparse.ArgumentParser()
    for name in ("include", "lib", "mount"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--sanitized", action="store_true", help="the library needs GCC's sanitizers")
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    arguments = parser.parse_args()
    Settings.include, Settings.lib, Settings.mount = (Path(path).resolve() for path in (
        arguments.include, arguments.lib, arguments.mount))
    if arguments.sanitized:
        Settings.use_sanitizers()
    if os.geteuid() != 0:
        print("mounting needs root", file=sys.stderr)
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="fw-libfuse-") as work:
        Settings.work = Path(work)
        try:
            SCENARIOS[arguments.scenario]()
        except Unsupported as missing:
            print(missing, file=sys.stderr)
            return SKIPPED
        except Failure as failure:
            print(f"FAILED: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
