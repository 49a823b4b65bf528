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
from daemons import Failure, Program, Settings, eventually, expect, expect_equal

MOUNT_PROGRAM = None  # virtiofs-mount; mount_test.py fills it in


def mounts_on(folder):
    """The lines of mountinfo for mounts on `folder`."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.split()[4] == str(folder)]


def abort(connection):
    """Ends what the kernel has with a FUSE server, by the number of its file system."""
    connections = Path("/sys/fs/fuse/connections")
    # A machine without systemd may not have it mounted.
    if not any(connections.iterdir()):
        subprocess.run(["mount", "-t", "fusectl", "none", connections], check=True)
    (connections / connection / "abort").write_text("1", encoding="ascii")


class Mount(Program):
    """One virtiofs-mount or another program that mounts, in the foreground unless told otherwise."""

    def __init__(self, test, socket, folder, arguments=(), options="allow_other", program=None, **popen):
        self.folder = folder
        self.connection = None  # its number, once it is mounted
        command = [program or MOUNT_PROGRAM, "-f", *arguments, str(socket), str(folder)]
        self.name = Path(command[0]).name
        # A second mount on the same folder has a log of its own.
        number = len(list(test.sockets.glob(f"mount-{folder.name}*.log")))
        self.log = test.sockets / f"mount-{folder.name}{f'-{number}' if number else ''}.log"
        if options:
            command += ["-o", options]
        with open(self.log, "wb") as log:
            log.write((" ".join(map(str, command)) + "\n").encode())
            log.flush()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **popen)

    def await_mounted(self):
        eventually(lambda: self.process.poll() is not None or mounts_on(self.folder), "the mount is there")
        expect(self.process.poll() is None, f"{self.name} ended with {self.process.poll()}:\n{self.text()}")
        for line in mounts_on(self.folder):
            self.connection = line.split()[2].split(":")[1]
        return self

    def text(self):
        return self.log.read_text(errors="backslashreplace")

    def await_line(self, pattern, seconds=15):
        eventually(lambda: re.search(pattern, self.text()), f"{pattern!r} in the log of {self.name}", seconds)

    def expect_exit(self, status, seconds=20):
        try:
            got = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} still runs after {seconds} s") from None
        expect_equal(got, status, f"exit status of {self.name}")
        expect(not mounts_on(self.folder), "the mount is still there")

    def abort(self):
        abort(self.connection)

    def end_by_force(self):
        """Whatever state it is in, and whoever waits for it."""
        if self.process.poll() is None:
            if self.connection is not None:
                # A program that waits for its own mount cannot be killed. It may have gone meanwhile.
                with contextlib.suppress(OSError):
                    self.abort()
            self.process.kill()
        self.process.wait()
        for _ in mounts_on(self.folder):
            subprocess.run(["umount", "-l", self.folder], check=False)

    def umount(self):
        subprocess.run(["umount", self.folder], check=True)
        self.expect_exit(0)

    def no_complaints(self):
        """Nothing went wrong that only the log knows."""
        lines = [line for line in self.text().splitlines()[1:] if re.search(r"\b(warn|warning|error)\]", line)]
        expect(not lines, f"complaints of {self.name}:\n" + "\n".join(lines[:20]))


class Test(daemons.Test):
    """One scenario, with mounts."""

    def __init__(self, name, c_peer):
        super().__init__(name)
        self.c_peer = c_peer
        self.differs = {}  # how lines of the guest script begin that are others here than on the host, and why
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
            mount.end_by_force()
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
        self.stop_file = test.sockets / f"stop-{folder.name}"
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
        except (OSError, Failure) as error:
            self.outcome = error

    def result(self, seconds=10):
        """What it returned, or the OSError that it ended with."""
        self.join(seconds)
        expect(not self.is_alive(), f"a call still waits after {seconds} s")
        if isinstance(self.outcome, Failure):
            raise self.outcome
        return self.outcome


def send(mount, number=signal.SIGTERM):
    mount.process.send_signal(number)
