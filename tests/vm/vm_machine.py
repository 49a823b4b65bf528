"""What the scenarios of vm_test.py are made of: daemons, guests, and their end. Standard library only."""

import base64
import contextlib
import hashlib
import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VM = ROOT / "scripts" / "vm"
MIB = 1 << 20


class Settings:
    """Which programs to use and where to work; vm_test.py fills it in from its command line."""

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


class Daemon:
    """One virtiofsd on one share."""

    def __init__(self, test, name, share, cache="auto", writeback=False, queues=None, handles=None):
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
        options = [f"source={share}", f"cache={cache}", "xattr", "posix_acl", "posix_lock", "flock", "allow_direct_io",
                   "killpriv_v2", "announce_submounts"]
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
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
        raise Failure("no RssAnon in /proc/PID/status")

    def sanitized(self):
        """Whether it runs under a sanitizer, whose own memory says nothing about the daemon's."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        return "libasan" in maps or "libtsan" in maps or "asan" in maps

    def expect_exit(self, seconds=15.0):
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"the daemon {self.name} still runs {seconds:.0f} s after QEMU's end") from None
        expect_equal(status, 0, f"exit status of the daemon {self.name}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Guest:
    """QEMU with our initramfs, and two channels into it: the agent on the second serial port, and QMP."""

    def __init__(self, test, shares, smp=1, memory="512M", properties=()):
        self.console = test.sockets / "console.txt"
        self.qemu_log = test.sockets / "qemu.txt"
        image = subprocess.run(
            [VM / "build-initramfs", f"bin/guest-probe={Settings.probe}", f"guest-script.sh={HERE / 'guest-script.sh'}"],
            check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        command = [VM / "boot", "--initrd", image, "--run", "agent", "--smp", str(smp), "--memory", memory,
                   "--stay-on-reboot"]
        for tag, daemon in shares.items():
            command += ["--share", ",".join([f"{tag}={daemon.socket}", *properties])]
        self.agent, agent_end = socket.socketpair()
        self.qmp, qmp_end = socket.socketpair()
        command += ["--", "-serial", f"file:{self.console}",
                    "-chardev", f"socket,id=agent,fd={agent_end.fileno()}", "-serial", "chardev:agent",
                    "-chardev", f"socket,id=qmp,fd={qmp_end.fileno()}", "-mon", "chardev=qmp,mode=control"]
        with open(self.qemu_log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            pass_fds=[agent_end.fileno(), qmp_end.fileno()])
        agent_end.close()
        qmp_end.close()
        self.pending = b""
        self.qmp_pending = b""
        self.await_ready()
        self.qmp_reply("QMP")
        self.command("qmp_capabilities")

    def line(self, seconds):
        """The next line from the agent."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self.pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.agent], [], [], left)[0]:
                raise Failure(f"the guest said nothing more within {seconds:.0f} s")
            data = self.agent.recv(65536)
            expect(data, "the guest is gone (QEMU ended, or the kernel panicked)")
            self.pending += data
        line, _, self.pending = self.pending.partition(b"\n")
        return line.decode(errors="backslashreplace")

    def await_ready(self, seconds=90):
        """Waits for a boot. The firmware may leave bytes on the line, hence endswith."""
        while not self.line(seconds).endswith("@@ready"):
            pass

    def send(self, script):
        self.agent.sendall(base64.b64encode(script.encode()) + b"\n")

    def result(self, seconds=60):
        lines = []
        while True:
            line = self.line(seconds)
            if line.startswith("@@done "):
                return int(line.split()[1]), "\n".join(lines).rstrip("\n")
            lines.append(line)

    def try_run(self, script, seconds=60):
        """Runs a piece of shell text; its status and output. The time limit is per line of output."""
        self.send(script)
        return self.result(seconds)

    def run(self, script, seconds=60):
        status, output = self.try_run(script, seconds)
        expect(status == 0, f"in the guest, status {status} of: {script}\n{output}")
        return output

    def qmp_reply(self, wanted="return", seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            while b"\n" in self.qmp_pending:
                text, _, self.qmp_pending = self.qmp_pending.partition(b"\n")
                message = json.loads(text)
                if "error" in message:
                    raise Failure(f"QEMU: {message['error']['desc']}")
                if wanted in message:
                    return message[wanted]
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.qmp], [], [], left)[0]:
                raise Failure(f"QEMU's monitor said nothing within {seconds} s")
            data = self.qmp.recv(65536)
            expect(data, "QEMU closed its monitor")
            self.qmp_pending += data

    def command(self, name, **arguments):
        self.qmp.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        return self.qmp_reply()

    def mount(self, tag="share", folder="/mnt"):
        self.run(f"mkdir -p {folder} && mount -t virtiofs {tag} {folder}")

    def start_hammer(self, folder="/mnt"):
        """Begins work on the share that notices lost or wrong data, and waits until it is under way."""
        self.run(f"mkdir -p {folder}/hammer; rm -f /tmp/stop*; "
                 f"(guest-probe hammer {folder}/hammer /tmp/stop > /tmp/hammer.log 2>&1; echo $? > /tmp/stop.status) &")
        self.await_rounds(3)

    def await_rounds(self, rounds):
        """Waits until the hammer did so many more rounds, or ended."""
        self.run(f"""
            begin=$(cat /tmp/stop.rounds 2>/dev/null || echo 0)
            for i in $(seq 600); do
              now=$(cat /tmp/stop.rounds 2>/dev/null || echo 0)
              [ "${{now:-0}}" -ge $((begin + {rounds})) ] && exit 0
              [ -e /tmp/stop.status ] && break
              usleep 50000
            done
            echo "the work on the share stands still after $now rounds"; cat /tmp/hammer.log; ps | tail -n 5; exit 1""")

    def stop_hammer(self):
        self.run("""
            touch /tmp/stop
            for i in $(seq 600); do [ -s /tmp/stop.status ] && break; usleep 50000; done
            cat /tmp/hammer.log; exit $(cat /tmp/stop.status)""")

    def power_off(self):
        self.send("umount -a -t virtiofs; poweroff -f")
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise Failure("the guest did not power off") from None
        expect_equal(self.process.returncode, 0, "exit status of QEMU")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.agent.close()
        self.qmp.close()


class Test:
    """Directories, daemons and guests of one scenario, and their end."""

    def __init__(self, name):
        self.name = name
        Settings.work.mkdir(parents=True, exist_ok=True)
        # Shares lie below the build tree: /tmp may be a tmpfs, which lacks some of what the script checks.
        self.work = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=Settings.work))
        # A socket's path may have 107 bytes, which a build tree's path easily has by itself.
        self.sockets = Path(tempfile.mkdtemp(prefix="fusewire-vm."))
        for folder in (self.work, self.sockets):
            folder.chmod(0o755)
        self.daemons = []
        self.guests = []

    def share(self, name="share"):
        folder = self.work / name
        folder.mkdir(mode=0o755)
        return folder

    def daemon(self, name="share", **options):
        daemon = Daemon(self, name, self.share(name), **options)
        self.daemons.append(daemon)
        return daemon

    def guest(self, shares, **options):
        guest = Guest.__new__(Guest)
        self.guests.append(guest)
        guest.__init__(self, shares, **options)
        return guest

    def finish(self):
        """The end of every scenario: the guest powers off, and the daemons end with status 0 because of it."""
        for guest in self.guests:
            guest.power_off()
        for daemon in self.daemons:
            daemon.expect_exit()

    def clean_up(self, keep):
        for guest in self.guests:
            with contextlib.suppress(AttributeError):  # QEMU was not even started
                guest.kill()
        for daemon in self.daemons:
            daemon.kill()
        if keep:
            print(f"kept: {self.work} {self.sockets}")
            return
        for folder in (self.work, self.sockets):
            shutil.rmtree(folder, ignore_errors=True)
            # A tree deeper than PATH_MAX is too deep for Python.
            subprocess.run(["rm", "-rf", str(folder)], check=False)

    def print_logs(self):
        for path in sorted(self.sockets.glob("*")):
            if path.suffix in (".txt", ".log"):
                print(f"----- {path.name}")
                text = path.read_text(errors="backslashreplace")
                print(text[-20000:])
