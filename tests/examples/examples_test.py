#!/usr/bin/env python3
"""Runs one of examples/ and uses it, over a mountpoint or over a vhost-user socket. Standard library only.

    examples_test.py --mount=FILE --example=FILE --work=FOLDER [--keep] SCENARIO mount|socket

With `socket`, virtiofs-mount (--mount) mounts what the example serves. The exit status is 77 if /dev/fuse or root is
missing, and only then.
"""

import argparse
import contextlib
import errno
import fcntl
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "mount"))
# pylint: disable=wrong-import-position
import mounted
from mounted import Background
import daemons
from daemons import Failure, Settings, eventually, expect, expect_equal

EXAMPLE = None  # the program
WAY = None  # "mount" or "socket"


class Example:
    """The example under test, mounted at `folder`."""

    def __init__(self, test, *arguments, options="allow_other,default_permissions"):
        self.test = test
        self.folder = test.folder("mnt")
        self.log = test.sockets / "example.log"
        self.mount = None
        socket = test.sockets / "example.sock"
        way = [f"--socket-path={socket}"] if WAY == "socket" else [str(self.folder), "-o", options]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([EXAMPLE, *map(str, arguments), *way], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        test.processes.append(self.process)
        test.examples.append(self)
        if WAY == "socket":
            eventually(lambda: self.ended() or listening(socket), "the example listens", 60)
            expect(not self.ended(), f"the example ended with {self.process.poll()}")
            self.mount = mounted.Mount(test, socket, self.folder, ["--interrupts"])
            test.mounts.append(self.mount)
            self.mount.await_mounted()
        else:
            eventually(lambda: self.ended() or mounted.mounts_on(self.folder), "the mount is there", 60)
            expect(not self.ended(), f"the example ended with {self.process.poll()}")

    def ended(self):
        return self.process.poll() is not None

    def expect_exit(self, status=0):
        try:
            got = self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise Failure("the example still runs after 60 s") from None
        expect_equal(got, status, "exit status of the example")
        expect(not mounted.mounts_on(self.folder), "the mount is still there")

    def finish(self):
        """Unmounts, after which the example ends by itself."""
        subprocess.run(["umount", self.folder], check=True, timeout=60)
        if self.mount:
            self.mount.expect_exit(0, 60)
        self.expect_exit()


class Test(mounted.Test):
    """One scenario; what it leaves behind is ended by force."""

    def __init__(self, name):
        super().__init__(name, False)
        self.examples = []

    def end_users(self):
        super().end_users()
        for example in self.examples:
            for _ in mounted.mounts_on(example.folder):
                subprocess.run(["umount", "-l", example.folder], check=False)


def listening(socket):
    # Column 4 has the flags, and 0x10000 is a socket that accepts.
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
        return any(line.split()[3] == "00010000" and line.rstrip().endswith(f" {socket}") for line in table)


def expect_error(number, call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        expect_equal(error.errno, number, f"errno of {call.__name__}{arguments}")
        return
    raise Failure(f"{call.__name__}{arguments} succeeded")


def hello(test):
    example = Example(test)
    file = example.folder / "hello"
    expect_equal(os.listdir(example.folder), ["hello"], "the folder's entries")
    expect_equal(file.read_text(), "Hello, world!\n", "the file")
    expect_equal(os.stat(file).st_size, 14, "its size")
    with open(file, "rb") as opened:
        expect_equal(os.pread(opened.fileno(), 5, 7), b"world", "a part of it")
        expect_equal(os.pread(opened.fileno(), 5, 100), b"", "what is behind its end")
    expect_error(errno.ENOENT, os.stat, example.folder / "other")
    expect_error(errno.ENOSYS, os.mkdir, example.folder / "new")
    example.finish()


def endings(test):
    """SIGTERM, SIGINT and SIGHUP end an example with status 0, also while its mount is used; a mount that cannot be, with 1."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        example = Example(test)
        used = os.open(example.folder / "hello", os.O_RDONLY)
        example.process.send_signal(number)
        example.expect_exit()
        with contextlib.suppress(OSError):  # nobody answers the FLUSH
            os.close(used)
        example.folder.rmdir()
    for wrong in (["/nowhere/at/all"], [str(test.work), "-o", "no-such-option"]):
        done = subprocess.run([EXAMPLE, *wrong], capture_output=True, text=True, timeout=60, check=False)
        expect_equal(done.returncode, 1, f"exit status with {wrong}")
        expect(wrong[-1].rsplit("/", maxsplit=1)[-1] in done.stderr, f"the message does not name it: {done.stderr}")


def work_on_a_tree(folder):
    """Files, folders, links and renames; leaves one file behind."""
    (folder / "a" / "b").mkdir(parents=True)
    data = os.urandom(300_001)
    file = folder / "a" / "file"
    file.write_bytes(data)
    expect_equal(file.read_bytes(), data, "what was written")
    with open(file, "r+b") as opened:
        os.pwrite(opened.fileno(), b"middle", 100_000)
        os.pwrite(opened.fileno(), b"end", 400_000)
        expect_equal(os.pread(opened.fileno(), 8, 99_999), data[99_999:100_000] + b"middle" + data[100_006:100_007],
                     "a part of it")
        expect_equal(os.pread(opened.fileno(), 100, 399_990), b"\0" * 10 + b"end", "its end behind a hole")
        os.ftruncate(opened.fileno(), 10)
        os.fsync(opened.fileno())
    expect_equal(file.read_bytes(), data[:10], "what is left of it")
    os.chmod(file, 0o640)
    os.utime(file, ns=(1_000_000_001, 2_000_000_002))
    status = os.stat(file)
    expect_equal((status.st_mode & 0o7777, status.st_mtime_ns), (0o640, 2_000_000_002), "mode and time")

    os.link(file, folder / "a" / "link")
    os.symlink("file", folder / "a" / "symlink")
    expect_equal(os.stat(file).st_nlink, 2, "links")
    expect_equal((folder / "a" / "symlink").read_bytes(), data[:10], "the file through its symbolic link")
    os.rename(folder / "a" / "link", folder / "a" / "b" / "moved")
    (folder / "other").write_text("other")
    os.rename(folder / "other", folder / "a" / "b" / "moved")
    expect_equal((folder / "a" / "b" / "moved").read_text(), "other", "what took its place")
    expect_error(errno.EEXIST, os.mkdir, folder / "a")
    expect_error(errno.ENOTEMPTY, os.rmdir, folder / "a")
    expect_error(errno.ENOTDIR, os.rmdir, file)
    expect_error(errno.ENOENT, os.unlink, folder / "a" / "nothing")

    names = {f"entry-{number:04}" for number in range(700)}
    many = folder / "many"
    many.mkdir()
    for name in names:
        (many / name).touch()
    expect_equal(set(os.listdir(many)), names, "a folder's entries")
    # Removing while reading loses no entry that stays.
    with os.scandir(many) as entries:
        for number, entry in enumerate(entries):
            names.discard(entry.name)
            if number % 2:
                os.unlink(entry.path)
    expect_equal(names, set(), "entries that a reader missed while others went")
    with open(file, "r+b") as opened:
        os.unlink(file)
        os.pwrite(opened.fileno(), b"still here", 0)
        expect_equal(os.pread(opened.fileno(), 100, 0), b"still here", "a file without a name")
    (folder / "rest").write_text("rest")
    mounted.run("rm", "-r", folder / "a", many)
    expect_equal(os.listdir(folder), ["rest"], "what is left")


def work_in_parallel(folder):
    """Processes that make, write, read and remove in one folder at once."""
    script = ("import os, sys; n = sys.argv[2]\n"
              "for i in range(150):\n"
              "  name = f'{sys.argv[1]}/{n}-{i}'; text = (name * 50).encode()\n"
              "  open(name, 'wb').write(text); assert open(name, 'rb').read() == text\n"
              "  os.rename(name, name + 'x'); os.unlink(name + 'x')\n")
    processes = [subprocess.Popen([sys.executable, "-c", script, str(folder), str(number)], stderr=subprocess.PIPE)
                 for number in range(3)]
    for process in processes:
        _, text = process.communicate(timeout=120)
        expect_equal(process.returncode, 0, f"status of the work in parallel ({text.decode()[-500:]})")


def memory(test):
    example = Example(test)
    work_on_a_tree(example.folder)
    work_in_parallel(example.folder)
    expect_error(errno.EFBIG, os.truncate, example.folder / "rest", 1 << 40)
    expect_equal((example.folder / "rest").read_text(), "rest", "a file that could not grow")
    expect_equal(os.listdir(example.folder), ["rest"], "what is left")
    example.finish()


def passthrough(test):
    source = test.share("source")
    os.mknod(source / "device", 0o666 | 0o020000, os.makedev(1, 3))
    example = Example(test, f"--source={source}")
    expect_error(errno.EACCES, open, example.folder / "device")
    os.unlink(example.folder / "device")
    work_on_a_tree(example.folder)
    work_in_parallel(example.folder)
    expect_equal((source / "rest").read_text(), "rest", "the file in the source")
    (source / "behind").write_bytes(bytes(range(256)) * 4096)
    expect_equal((example.folder / "behind").read_bytes(), bytes(range(256)) * 4096, "a file made behind its back")
    example.finish()


def kernel_has_backing_files():
    return tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 9)


def backing(test):
    """The kernel reads the file itself on a mount, and by requests over a socket."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as source:  # no stacked file system, as the work folder may be on
        data = os.urandom(300_001)
        source.write(data)
        source.flush()
        example = Example(test, f"--source={source.name}")
        file = example.folder / "file"
        expect_equal(file.read_bytes(), data, "the file")
        with open(file, "rb") as opened, open(file, "rb") as again:
            with mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                expect_equal(mapped[:], data, "the mapped file")
            expect_equal(os.pread(again.fileno(), 5, 300_000), data[300_000:], "its end")
        expect_error(errno.EACCES, open, file, "r+b")
        reads = int((example.folder / "reads").read_text())
        expect((reads == 0) == (WAY == "mount" and kernel_has_backing_files()), f"{reads} reads came to the example")
        example.finish()


def async_(test):
    example = Example(test)
    mail = example.folder / "mail"

    def read():
        with open(mail, "rb", buffering=0) as opened:
            return opened.read(100)

    # A reader that is killed leaves: its read ends, or it could not.
    script = "import sys; f = open(sys.argv[1], 'rb', buffering=0); print('opened', flush=True); f.read(100)"
    killed = test.start(sys.executable, "-c", script, str(mail))
    expect_equal(killed.stdout.readline(), "opened\n", "the reader's word")
    killed.terminate()
    expect_equal(killed.wait(60), -signal.SIGTERM, "the reader's end")

    readers = [Background(read) for _ in range(5)]

    def write_until_all_have_it():
        # Who comes after a write waits for the next one.
        mail.write_text("news")
        return not any(reader.is_alive() for reader in readers)

    eventually(write_until_all_have_it, "every reader has an answer", 60)
    for reader in readers:
        expect_equal(reader.result(), b"news", "what a reader got")

    # Requests that wait do not keep it from ending.
    waiting = test.start(sys.executable, "-c", script, str(mail))
    expect_equal(waiting.stdout.readline(), "opened\n", "the reader's word")
    waiting.terminate()
    waiting.wait(60)
    example.finish()


def invalidate(test):
    example = Example(test)
    message = example.folder / "message"
    expect_equal(message.read_text(), "nothing yet\n", "the message at first")
    for _ in range(50):
        expect_equal(message.read_text(), "nothing yet\n", "the message still")
    reads = int((example.folder / "reads").read_text())
    if WAY == "mount":
        # Whatever else runs here may empty the caches, but not as often.
        expect(reads < 40, f"51 reads came to the file system {reads} times: they were not cached")
    for text in ("a\n", "something longer\n", "b\n"):
        (example.folder / "update").write_text(text)
        eventually(lambda text=text: message.read_text() == text, f"the message is {text!r}", 60)
        expect_equal(os.stat(message).st_size, len(text), "its size")
    example.finish()


def poll(test):
    example = Example(test)
    events = os.open(example.folder / "events", os.O_RDONLY)
    post = example.folder / "post"
    poller = select.poll()
    poller.register(events, select.POLLIN)
    try:
        expect_error(errno.EAGAIN, os.read, events, 100)
        if WAY == "mount":
            expect_equal(poller.poll(0), [], "poll with nothing to read")
            waiting = Background(lambda: poller.poll(60_000))
            # Whether the wait or the text comes first, it must end.
            post.write_text("first")
            expect_equal(waiting.result(60), [(events, select.POLLIN)], "poll once there is something")
        else:
            post.write_text("first")
        post.write_text("second")
        expect_equal(poller.poll(0), [(events, select.POLLIN)], "poll with something to read")
        expect_equal(os.read(events, 100), b"first", "the first text")
        expect_equal(os.read(events, 3), b"sec", "the beginning of the second")
        expect_error(errno.EAGAIN, os.read, events, 100)
    finally:
        os.close(events)
    example.finish()


def ioctl(test):
    example = Example(test)
    get, put, add = 0x8008_7701, 0x4008_7702, 0xc008_7703  # _IOR, _IOW and _IOWR of 8 bytes
    file = os.open(example.folder / "counter", os.O_RDWR)

    def call(command, value=0):
        return struct.unpack("Q", fcntl.ioctl(file, command, struct.pack("Q", value)))[0]

    try:
        expect_equal(call(get), 0, "the counter at first")
        call(put, 40)
        expect_equal(call(add, 2), 42, "the sum")
        expect_equal(call(get), 42, "the counter")
        expect_equal((example.folder / "counter").read_text(), "42\n", "the file")
        expect_error(errno.ENOTTY, call, 0x8008_7704)
        # No bytes of a value: the command's number says so.
        expect_error(errno.ENOTTY, fcntl.ioctl, file, 0x7701)
    finally:
        os.close(file)
    example.finish()


SCENARIOS = {"hello": hello, "memory": memory, "passthrough": passthrough, "backing": backing, "async": async_, "invalidate": invalidate,
             "poll": poll, "ioctl": ioctl, "endings": endings}


def main():
    global EXAMPLE, WAY  # pylint: disable=global-statement
    parser = argparse.ArgumentParser()
    parser.add_argument("--mount", required=True)
    parser.add_argument("--example", required=True)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("way", choices=["mount", "socket"])
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        daemons.become_root()
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("SKIPPED: needs /dev/fuse")
        sys.exit(daemons.SKIPPED)
    EXAMPLE, WAY = arguments.example, arguments.way
    mounted.MOUNT_PROGRAM = arguments.mount
    Settings.work = arguments.work
    test = Test(f"example-{arguments.scenario}-{arguments.way}")
    os.umask(0o022)
    passed = daemons.run_scenario(test, SCENARIOS[arguments.scenario], 180, arguments.keep)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
