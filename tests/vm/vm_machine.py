"""What the scenarios of vm_test.py are made of: guests, and their end. Standard library only."""

import base64
import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "common"))
# pylint: disable=wrong-import-position
import daemons
from daemons import GUEST_SCRIPT, ROOT, Failure, Settings, expect, expect_equal

VM = ROOT / "scripts" / "vm"


class Guest:
    """QEMU with our initramfs, and two channels into it: the agent on the second serial port, and QMP."""

    def __init__(self, test, shares, smp=1, memory="512M", properties=()):
        self.console = test.sockets / "console.txt"
        self.qemu_log = test.sockets / "qemu.txt"
        image = subprocess.run(
            [VM / "build-initramfs", f"bin/guest-probe={Settings.probe}", f"guest-script.sh={GUEST_SCRIPT}"],
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
        """Begins work on the share that notices lost or wrong data, and waits until it is under way.

        What an earlier one left that was cut off in the middle of a round is removed first.
        """
        self.run(f"rm -rf {folder}/hammer; mkdir -p {folder}/hammer; rm -f /tmp/stop*; "
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


class Test(daemons.Test):
    """One scenario, with guests."""

    def __init__(self, name):
        super().__init__(name)
        self.guests = []

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

    def end_users(self):
        for guest in self.guests:
            with contextlib.suppress(AttributeError):  # QEMU was not even started
                guest.kill()
