"""What the scenarios of mount_test.py are made of: a mount, things to do on it, and comparing trees. Standard library only."""

import contextlib
import hashlib
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "common"))
# pylint: disable=wrong-import-position
import daemons
from daemons import Failure, Settings, eventually, expect, expect_equal

MOUNT_PROGRAM = None  # virtiofs-mount; mount_test.py fills it in


def mounts_on(folder):
    """The lines of mountinfo for mounts on `folder`."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.split()[4] == str(folder)]


class Mount:
    """One virtiofs-mount, in the foreground unless told otherwise."""

    def __init__(self, test, socket, folder, arguments=(), options="allow_other", program=None, **popen):
        self.folder = folder
        self.log = test.sockets / f"mount-{folder.name}.log"
        command = [program or MOUNT_PROGRAM, "-f", *arguments, str(socket), str(folder)]
        if options:
            command += ["-o", options]
        with open(self.log, "wb") as log:
            log.write((" ".join(map(str, command)) + "\n").encode())
            log.flush()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **popen)

    def await_mounted(self):
        eventually(lambda: self.process.poll() is not None or mounts_on(self.folder), "the mount is there")
        expect(self.process.poll() is None, f"virtiofs-mount ended with {self.process.poll()}:\n{self.text()}")
        return self

    def text(self):
        return self.log.read_text(errors="backslashreplace")

    def await_line(self, pattern, seconds=15):
        eventually(lambda: re.search(pattern, self.text()), f"{pattern!r} in the log of virtiofs-mount", seconds)

    def expect_exit(self, status, seconds=20):
        try:
            got = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"virtiofs-mount still runs after {seconds} s") from None
        expect_equal(got, status, "exit status of virtiofs-mount")
        expect(not mounts_on(self.folder), "the mount is still there")

    def umount(self):
        subprocess.run(["umount", self.folder], check=True)
        self.expect_exit(0)

    def no_complaints(self):
        """Nothing went wrong that only the log knows."""
        lines = [line for line in self.text().splitlines()[1:] if re.search(r"\b(warn|warning|error)\]", line)]
        expect(not lines, "complaints of virtiofs-mount:\n" + "\n".join(lines[:20]))


class Test(daemons.Test):
    """One scenario, with mounts."""

    def __init__(self, name, c_peer):
        super().__init__(name)
        self.c_peer = c_peer
        self.mounts = []
        self.processes = []

    def folder(self, name):
        folder = self.work / name
        folder.mkdir(mode=0o755)
        return folder

    def mount(self, socket, arguments=(), name="mnt", options="allow_other"):
        mount = Mount(self, socket, self.folder(name), arguments, options)
        self.mounts.append(mount)
        return mount.await_mounted()

    def mounted(self, arguments=(), options="allow_other", **daemon_options):
        """A daemon and its mount."""
        daemon = self.daemon(**daemon_options)
        return daemon, self.mount(daemon.socket, arguments, options=options)

    def finish(self):
        """The end of most scenarios: everything is unmounted, and every program ends well and without complaints."""
        for mount in self.mounts:
            mount.umount()
            mount.no_complaints()
        for daemon in self.daemons:
            daemon.expect_exit()

    def start(self, *command, **popen):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, **popen)
        self.processes.append(process)
        return process

    def end_users(self):
        for process in self.processes:
            process.kill()
        for mount in self.mounts:
            if mount.process.poll() is None:
                mount.process.kill()
            mount.process.wait()
            for _ in mounts_on(mount.folder):
                subprocess.run(["umount", "-l", mount.folder], check=False)
        for process in self.processes:
            process.wait()


def run(*command, seconds=120, **options):
    """Runs a program that must succeed, and returns what it printed."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="backslashreplace", timeout=seconds, check=False,
                          **options)
    expect(done.returncode == 0, f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def describe(path, status, links):
    """What of a file must be the same in a copy. `links`: inode numbers seen, with the first name of each."""
    kind = stat.S_IFMT(status.st_mode)
    entry = [stat.filemode(status.st_mode), status.st_uid, status.st_gid]
    if not stat.S_ISDIR(kind):
        entry += [status.st_nlink, links.setdefault(status.st_ino, path)]
    if stat.S_ISREG(kind):
        entry += [status.st_size, status.st_mtime_ns]
        with open(path, "rb") as file:
            entry.append(hashlib.sha256(file.read()).hexdigest())
    if stat.S_ISLNK(kind):
        entry.append(os.readlink(path))
    if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
        entry.append(status.st_rdev)
    with contextlib.suppress(OSError):
        entry.append(sorted((name, os.getxattr(path, name, follow_symlinks=False))
                            for name in os.listxattr(path, follow_symlinks=False)))
    return entry


def tree(folder):
    """Every name below `folder` with what it is."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        links = {}
        found = {}
        for parent, folders, files in os.walk("."):
            folders.sort()
            for name in sorted(folders + files):
                path = os.path.join(parent, name)
                found[path] = describe(path, os.lstat(path), links)
        return found
    finally:
        os.chdir(before)


def expect_same_tree(got, wanted, what):
    got, wanted = tree(got), tree(wanted)
    names = sorted(name for name in got.keys() | wanted.keys() if got.get(name) != wanted.get(name))
    shown = "\n".join(f"  {name}: got {got.get(name)}, wanted {wanted.get(name)}" for name in names[:10])
    expect(not names, f"{what}: {len(names)} of {len(wanted)} differ:\n{shown}")
    expect(wanted, f"{what}: there is nothing to compare")


class Load:
    """guest-probe hammer in several processes: it ends by itself when it reads something wrong, or at an error."""

    def __init__(self, test, folder, count=3):
        self.stop_file = test.sockets / "stop"
        self.processes = []
        self.folders = []
        for number in range(count):
            work = folder / f"hammer-{number}"
            work.mkdir()
            self.folders.append(work)
            self.processes.append(test.start(Settings.probe, "hammer", str(work), f"{self.stop_file}"))

    def await_rounds(self, rounds=20):
        path = Path(f"{self.stop_file}.rounds")
        eventually(lambda: path.exists() and int(path.read_text() or "0") >= rounds, f"{rounds} rounds of work")
        for process in self.processes:
            expect(process.poll() is None, "the work ended early")

    def expect_all_fail(self, seconds=10):
        """Each must see an error, at once."""
        deadline = time.monotonic() + seconds
        for process in self.processes:
            try:
                output, _ = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                raise Failure(f"a process still waits for the file system after {seconds} s") from None
            expect(process.returncode != 0, f"a process saw no error: {output}")

    def stop(self):
        self.stop_file.touch()
        for process in self.processes:
            output, _ = process.communicate(timeout=60)
            expect_equal(process.returncode, 0, f"status of the work on the mount ({output.strip()})")


class Background(threading.Thread):
    """Calls something that may block, and keeps the outcome."""

    def __init__(self, function):
        super().__init__(daemon=True)
        self.function = function
        self.outcome = None
        self.start()

    def run(self):
        try:
            self.outcome = self.function()
        except OSError as error:
            self.outcome = error

    def result(self, seconds=10):
        self.join(seconds)
        expect(not self.is_alive(), f"a call still waits after {seconds} s")
        return self.outcome


def send(mount, number=signal.SIGTERM):
    mount.process.send_signal(number)
