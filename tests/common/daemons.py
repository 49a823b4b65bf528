"""What the tests that run a real virtiofsd share: the daemon under test, ours or a peer, and ways to wait and to compare.

Standard library only.
"""

import contextlib
import difflib
import hashlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GUEST_SCRIPT = HERE.parent / "vm" / "guest-script.sh"
MIB = 1 << 20
SKIPPED = 77  # as ctest knows it


class Settings:
    """Which programs to use and where to work; the test program fills it in from its command line."""

    virtiofsd = None
    probe = None
    work = None


class Failure(Exception):
    """What the scenario expected and did not get."""


class Unsupported(Exception):
    """The daemon under test is a peer that has not got this."""


def expect(held, message):
    if not held:
        raise Failure(message)


def expect_equal(got, wanted, what):
    if got != wanted:
        raise Failure(f"{what}: got {got!r}, wanted {wanted!r}")


def eventually(condition, what, seconds=15.0):
    """Waits until condition() is true; for what another process does when it gets to it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.02)


def is_c_virtiofsd():
    """Whether the daemon is QEMU's C one, which spells some options differently and lacks others."""
    version = subprocess.run([Settings.virtiofsd, "--version"], capture_output=True, text=True, timeout=20)
    return "using FUSE kernel interface" in version.stdout + version.stderr


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


class Program:
    """A program under test, as its process shows it."""

    process = None

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def expect_descriptors(self, limit, when):
        """Waits until it has at most so many, and else says which it has."""
        try:
            eventually(lambda: self.descriptors() <= limit, "")
        except Failure:
            open_now = []
            for entry in os.scandir(f"/proc/{self.process.pid}/fd"):
                with contextlib.suppress(OSError):
                    open_now.append(os.readlink(entry.path))
            text = "\n  ".join(sorted(open_now)[:60])
            raise Failure(f"{len(open_now)} descriptors instead of {limit} {when}:\n  {text}") from None

    def anonymous_kib(self):
        return self.status_kib("RssAnon")

    def status_kib(self, name):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise Failure(f"no {name} in /proc/PID/status")

    def sanitized(self):
        """Whether it runs under a sanitizer, whose own memory says nothing about the program's."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        return "libasan" in maps or "libtsan" in maps or "asan" in maps

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Daemon(Program):
    """One virtiofsd on one share."""

    def __init__(self, test, name, share, cache="auto", writeback=False, queues=None, handles=None,
                 locks=True):
        self.name = name
        self.share = share
        self.handles = handles
        self.socket = test.sockets / f"{name}.sock"
        self.log = test.sockets / f"{name}.log"
        peer = is_c_virtiofsd()
        if peer and cache == "never":
            cache = "none"
        if peer and cache == "metadata":
            raise Unsupported("cache=metadata")
        options = [f"source={share}", f"cache={cache}", "xattr", "posix_acl", "allow_direct_io", "killpriv_v2",
                   "announce_submounts"]
        if locks:
            options += ["posix_lock", "flock"]
        if writeback:
            options.append("writeback")
        command = [Settings.virtiofsd, f"--socket-path={self.socket}"]
        if peer:
            # Without CAP_SYS_ADMIN that daemon cannot keep trusted.* attributes.
            options += ["sandbox=chroot", "modcaps=+sys_admin"]
            if queues:
                raise Unsupported("more than one request queue")
            self.handles = None
        else:
            command.append("--sandbox=none")
            if handles:
                command.append(f"--inode-file-handles={handles}")
            if queues:
                command.append(f"--num-request-queues={queues}")
        for option in options:
            command += ["-o", option]
        command += os.environ.get("FUSEWIRE_VIRTIOFSD_ARGS", "").split()
        with open(self.log, "wb") as log:
            log.write((" ".join(command) + "\n").encode())
            log.flush()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(self.listening, f"the daemon {name} listens")

    def listening(self):
        expect(self.process.poll() is None, f"the daemon {self.name} ended with {self.process.poll()} at its start")
        # Column 4 has the flags, and 0x10000 is a socket that accepts; the file is there a little earlier.
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
            return any(line.split()[3] == "00010000" and line.rstrip().endswith(f" {self.socket}") for line in table)

    def expect_exit(self, seconds=15.0):
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"the daemon {self.name} still runs {seconds:.0f} s after its front-end's end") from None
        expect_equal(status, 0, f"exit status of the daemon {self.name}")


class Test:
    """The directories and daemons of one scenario, and their end."""

    def __init__(self, name):
        self.name = name
        Settings.work.mkdir(parents=True, exist_ok=True)
        # Shares lie below the build tree: /tmp may be a tmpfs, which lacks some of what the script checks.
        self.work = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=Settings.work))
        # A socket's path may have 107 bytes, which a build tree's path easily has by itself.
        self.sockets = Path(tempfile.mkdtemp(prefix="fusewire."))
        for folder in (self.work, self.sockets):
            folder.chmod(0o755)
        self.daemons = []

    def share(self, name="share"):
        folder = self.work / name
        folder.mkdir(mode=0o755)
        return folder

    def daemon(self, name="share", **options):
        daemon = Daemon(self, name, self.share(name), **options)
        self.daemons.append(daemon)
        return daemon

    def end_users(self):
        """Ends by force whatever uses the daemons."""

    def clean_up(self, keep):
        self.end_users()
        for daemon in self.daemons:
            daemon.kill()
        if keep:
            print(f"kept: {self.work} {self.sockets}")
            return
        for folder in (self.work, self.sockets):
            shutil.rmtree(folder, ignore_errors=True)
            # A tree deeper than PATH_MAX is too deep for Python.
            subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)

    def print_logs(self):
        for path in sorted(self.sockets.glob("*")):
            if path.suffix in (".txt", ".log"):
                print(f"----- {path.name}")
                text = path.read_text(errors="backslashreplace")
                print(text[-20000:])


class GuestScript:
    """The guest script and guest-probe, to be run on this host in folders of its choice."""

    def __init__(self, folder):
        """`folder` (new) gets the programs: the same busybox that a guest has, and nothing else in PATH."""
        self.programs = folder
        folder.mkdir(mode=0o755)
        self.busybox = shutil.which("busybox")
        for applet in subprocess.run([self.busybox, "--list"], check=True, stdout=subprocess.PIPE,
                                     text=True).stdout.split():
            (folder / applet).symlink_to(self.busybox)
        shutil.copy(Settings.probe, folder / "guest-probe")

    def run(self, folder, files):
        """Its output, with a big folder of so many files."""
        return subprocess.run([self.busybox, "sh", GUEST_SCRIPT, folder, self.programs / "guest-probe"], check=True,
                              env={"PATH": str(self.programs), "HOME": "/", "TERM": "linux",
                                   "PROBE_BIG_FOLDER": str(files)},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="backslashreplace", timeout=120).stdout


def expect_same_lines(wanted, got, who):
    """Compares what the guest script printed on the host (`wanted`) and elsewhere."""
    wanted, got = wanted.splitlines(), got.splitlines()
    expect(wanted[-1] == "== end", "the guest script did not get to its end on the host")
    if got != wanted:
        difference = "\n".join(difflib.unified_diff(wanted, got, "host", who, lineterm="", n=1))
        count = sum(line[0] in "+-" for line in difference.splitlines()[2:])
        raise Failure(f"the {who}'s lines differ from the host's ({count} lines):\n{difference}")
    print(f"{len(got)} lines are the same")


def become_root():
    """The tests give files to several users, on the host too. Does not return if root can be had by sudo."""
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], check=False, capture_output=True).returncode == 0:
        keep = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("FUSEWIRE_")]
        os.execv(sudo, [sudo, "-n", "env", *keep, sys.executable, *sys.argv])
    print("SKIPPED: needs root or sudo without a password, because it gives files to several users")
    sys.exit(SKIPPED)


# The kernel's switch for FUSE over io_uring, and the lock under which it stays on (src/devfuse/server_fixture_test.h).
URING_SWITCH = Path("/sys/module/fuse/parameters/enable_uring")
URING_LOCK = Path("/tmp/fusewire-enable_uring.lock")


def keep_uring_on():
    """Turns FUSE over io_uring on, to the end of this process. What keeps it off, or None."""
    if not URING_SWITCH.exists():
        return f"this kernel has no FUSE over io_uring ({URING_SWITCH})"
    lock = os.open(URING_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    URING_SWITCH.write_text("Y")
    return None


def run_scenario(test, function, limit, keep):
    """Runs one scenario within its time limit (seconds). Whether it passed; a test that did not shows its logs."""

    def too_late(_signal, _frame):
        raise Failure(f"not done within its {limit} s")

    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(limit)
    began = time.monotonic()
    try:
        function(test)
        print(f"{test.name}: passed in {time.monotonic() - began:.1f} s")
        return True
    except (Failure, subprocess.SubprocessError, OSError) as failure:
        signal.alarm(0)
        print(f"{test.name}: FAILED after {time.monotonic() - began:.1f} s: {failure}")
        test.print_logs()
        return False
    except Unsupported as reason:
        signal.alarm(0)
        print(f"{test.name}: this peer has not got {reason}")
        return False
    finally:
        signal.alarm(0)
        test.clean_up(keep)
