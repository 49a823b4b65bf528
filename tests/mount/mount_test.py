#!/usr/bin/env python3
"""Mounts virtio-fs servers with virtiofs-mount and checks one scenario. Standard library only.

    mount_test.py [--list] [--keep] [--mount=FILE] [--virtiofsd=FILE] [--probe=FILE] [--work=FOLDER] SCENARIO...

FILEs are the programs under test (by default the release build's) and the helper that CMake builds; shares are made in
FOLDER. With --virtiofsd=/usr/lib/qemu/virtiofsd the work on the mount goes through QEMU's C virtiofsd.

The exit status is 77 if /dev/fuse, root or a program that a scenario uses is missing, and only then; it says which. A
failure prints every log.
"""

import argparse
import contextlib
import errno
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mounted
from mounted import Background, Load, Mount, Test, mounts_on, run, send
import workloads
from daemons import (ROOT, SKIPPED, Failure, Settings, become_root, eventually, expect, expect_equal, is_c_virtiofsd,
                     run_scenario)
import fake_server
from fake_server import FakeServer, attr_body, init_body, out


# -- Work on the mount, through any server --

def work(function, **daemon_options):
    """A scenario: one workload on a mount."""

    def scenario(test):
        daemon, mount = test.mounted(**daemon_options)
        function(test, daemon.share, mount.folder)
        test.finish()

    scenario.__doc__ = function.__doc__
    return scenario


def stress(test):
    """stress-ng's file system stressors, a second each, with checks of what they read."""
    # Two of its processes wait for each other's locks until a signal ends that: a guest, which sends no INTERRUPT, would
    # wait forever. QEMU's virtiofsd has no locks that wait, so that there the kernel's own are used.
    _, mount = test.mounted([] if test.c_peer else ["--interrupts"], locks=not test.c_peer)
    workloads.stress_ng(test, mount.folder)
    test.finish()


def four_queues(test):
    """Four queues with a thread and a /dev/fuse each: the guest script, and work on all of them at once."""
    daemon = test.daemon(queues=4)
    mount = test.mount(daemon.socket, ["--queues", "4"])

    def channels():
        links = [Path(entry.path).resolve() for entry in os.scandir(f"/proc/{mount.process.pid}/fd")]
        return links.count(Path("/dev/fuse"))

    # The mount is there before its workers are.
    eventually(lambda: channels() == 4, "four times /dev/fuse is open")
    load = Load(test, mount.folder, 4)
    load.await_rounds()
    workloads.guest_script(test, daemon.share, mount.folder)
    load.stop()
    test.finish()


def writeback(test):
    """With the kernel's write-back cache, what was written is on the host after umount and after SIGTERM."""
    daemon, mount = test.mounted(cache="auto", writeback=True)
    for number in range(200):
        with open(mount.folder / "appended", "a", encoding="utf-8") as file:
            file.write(f"{number}\n")
    run(Settings.probe, "fill", test.work / "wanted", 8 << 20, 9)
    run("cp", test.work / "wanted", mount.folder / "copy")
    send(mount)
    mount.expect_exit(0)
    expect_equal((daemon.share / "appended").read_text().split(), [str(number) for number in range(200)], "lines")
    run("cmp", test.work / "wanted", daemon.share / "copy")
    daemon.expect_exit()


# -- The end of the server --

def daemon_killed(test):
    """The server is killed under load: every request fails at once, the mount goes away, and it is said why."""
    queues = None if test.c_peer else 2
    daemon, mount = test.mounted(queues=queues, arguments=["--queues", str(queues or 1)])
    load = Load(test, mount.folder)
    load.await_rounds()
    held = os.open(mount.folder / "held", os.O_RDWR | os.O_CREAT, 0o644)
    blocked = hold_lock_and_wait(test, mount)
    daemon.process.kill()
    load.expect_all_fail()
    blocked.communicate(timeout=10)
    mount.expect_exit(1)
    mount.await_line("the server has gone")
    # A file that is still open belongs to a file system without a server.
    for call in (lambda: os.fsync(held), lambda: os.ftruncate(held, 100), lambda: os.close(held)):
        expect_errno(Background(call).result(), errno.ENOTCONN, "on a file that is still open")
    end_lock(test)
    expect_equal(list(mount.folder.iterdir()), [], "what is left on the mount point")


def hold_lock_and_wait(test, mount):
    """A process that waits for a lock: a request that the server does not answer."""
    path = mount.folder / "locked"
    test.lock_file = open(path, "wb")  # pylint: disable=consider-using-with
    fcntl.lockf(test.lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process = test.start(sys.executable, "-c",
                         "import fcntl, sys; f = open(sys.argv[1], 'wb'); print('waiting', flush=True);"
                         "fcntl.lockf(f, fcntl.LOCK_EX)", path)
    expect_equal(process.stdout.readline(), "waiting\n", "first line of the process that waits")
    return process


def end_lock(test):
    """Closes the file, whether its server is still there or not."""
    with contextlib.suppress(OSError):
        test.lock_file.close()


def expect_errno(outcome, number, what):
    expect(isinstance(outcome, OSError) and outcome.errno == number,
           f"{what}: got {outcome!r}, wanted {errno.errorcode[number]}")


def daemon_killed_idle(test):
    """The server is killed while nothing goes on and somebody sits in the mount: lazily unmounted, nothing hangs."""
    daemon, mount = test.mounted()
    (mount.folder / "folder").mkdir()
    sitting = test.start("sh", "-c", "echo there; read line; ls; ls .", cwd=mount.folder / "folder", )
    expect_equal(sitting.stdout.readline(), "there\n", "first line of who sits in the mount")
    daemon.process.kill()
    mount.expect_exit(1)
    output, _ = sitting.communicate(timeout=10)
    expect("Transport endpoint is not connected" in output or "not connected" in output, output)


def server_hangs_up(test):
    """A server that closes the connection in the middle of requests."""
    keep = []

    def answer(opcode, unique, _request):
        if opcode in (fake_server.GETATTR, fake_server.LOOKUP):
            keep.append(unique)
            return None
        return right_answer(opcode, unique)

    server = FakeServer(test.sockets / "fake.sock", answer)
    mount = test.mount(test.sockets / "fake.sock")
    calls = [Background(lambda number=number: os.stat(mount.folder / f"name-{number}")) for number in range(3)]
    eventually(lambda: len(keep) >= 1, "requests reach the server")
    server.hang_up()
    for call in calls:
        outcome = call.result()
        expect(isinstance(outcome, OSError) and outcome.errno in (errno.ENOTCONN, errno.ENOENT, errno.ECONNABORTED),
               f"a call in the middle of the end: {outcome!r}")
    mount.expect_exit(1)


# -- The end of the mount --

def terminated(test):
    """SIGTERM under load: those who use the mount get errors, what is written is written, every program ends well."""
    daemon, mount = test.mounted()
    load = Load(test, mount.folder)
    load.await_rounds()
    (mount.folder / "kept").write_text("kept\n")
    send(mount)
    load.expect_all_fail()
    mount.expect_exit(0)
    daemon.expect_exit()
    expect_equal((daemon.share / "kept").read_text(), "kept\n", "a file that was complete before")
    mount.await_line("is in use")


def interrupted(test):
    """Ctrl-C on a mount that nobody uses: unmounted without a word of warning, the session ends in order."""
    daemon, mount = test.mounted()
    (mount.folder / "file").write_text("x")
    send(mount, signal.SIGINT)
    mount.expect_exit(0)
    mount.no_complaints()
    daemon.expect_exit()


def stuck_server(test):
    """A server that answers no more: a second signal ends the mount all the same."""
    stuck = []

    def answer(opcode, unique, _request):
        if opcode == fake_server.LOOKUP:
            stuck.append(unique)
            return None
        return right_answer(opcode, unique)

    FakeServer(test.sockets / "fake.sock", answer)
    mount = test.mount(test.sockets / "fake.sock")
    call = Background(lambda: os.stat(mount.folder / "name"))
    eventually(lambda: stuck, "the request reaches the server")
    send(mount)
    mount.await_line("unmounting")
    send(mount)
    expect(isinstance(call.result(), OSError), "the call ends with an error")
    mount.expect_exit(0)


def waiting_lock(test):
    """SIGTERM while a process waits for a lock, which no server answers: the wait ends, and so does the mount."""
    daemon, mount = test.mounted()
    blocked = hold_lock_and_wait(test, mount)
    send(mount)
    output, _ = blocked.communicate(timeout=30)
    expect(blocked.returncode != 0, f"the process got the lock: {output}")
    end_lock(test)
    mount.expect_exit(0)
    daemon.expect_exit()


def foreign_mount(test):
    """What somebody mounts over ours is not unmounted when the server goes away."""
    daemon, mount = test.mounted()
    subprocess.run(["mount", "-t", "tmpfs", "over-it", mount.folder], check=True)
    try:
        daemon.process.kill()
        expect_equal(mount.process.wait(20), 1, "exit status of virtiofs-mount")
        expect(any("over-it" in line for line in mounts_on(mount.folder)), "the other mount was unmounted")
    finally:
        for _ in mounts_on(mount.folder):
            subprocess.run(["umount", "-l", mount.folder], check=False)


def background(test):
    """Without -f: the exit status tells whether the mount is usable, which it is at once; log lines go elsewhere."""
    daemon = test.daemon()
    folder = test.folder("mnt")
    (daemon.share / "here").write_text("here\n")
    run(mounted.MOUNT_PROGRAM, daemon.socket, folder, seconds=30)
    expect_equal((folder / "here").read_text(), "here\n", "a file, right after the start")
    subprocess.run(["umount", folder], check=True)
    daemon.expect_exit()
    (test.work / "file").touch()
    for arguments, text in (([test.sockets / "no.sock", folder], "no.sock"),
                            ([test.sockets / "no.sock", test.work / "nowhere"], "nowhere"),
                            ([test.sockets / "no.sock", test.work / "file"], "no directory")):
        done = subprocess.run([mounted.MOUNT_PROGRAM, *arguments], capture_output=True, text=True, timeout=30,
                              check=False)
        expect_equal(done.returncode, 1, f"exit status with {text}")
        expect(done.stderr.startswith("virtiofs-mount: ") and text in done.stderr and done.stderr.count("\n") == 1,
               f"the message: {done.stderr!r}")
        expect(not mounts_on(folder), "something is mounted")


def command_line(test):
    """What cannot be asked for is refused with status 2 and one line, before anything is mounted."""
    folder = test.folder("mnt")
    for arguments, text in ((["-o", "no_such"], "no_such"), (["--queues=0"], "--queues"), (["--nonsense"], "--nonsense"),
                            (["-o", "allow_root"], "allow_root")):
        done = subprocess.run([mounted.MOUNT_PROGRAM, test.sockets / "no.sock", folder, *arguments],
                              capture_output=True, text=True, timeout=30, check=False)
        expect_equal((done.returncode, done.stderr.count("\n")), (2, 1), f"status and lines with {arguments}")
        expect(text in done.stderr, done.stderr)
    expect(run(mounted.MOUNT_PROGRAM, "--version").startswith("virtiofs-mount (fusewire) "), "--version")
    expect("SOCKET MOUNTPOINT" in run(mounted.MOUNT_PROGRAM, "--help"), "--help")


def mount_options(test):
    """Mount options do what mount.fuse(8) says."""
    daemon = test.daemon()
    (daemon.share / "file").write_text("x")
    os.chmod(daemon.share, 0o755)
    mount = test.mount(daemon.socket, options="ro,noexec,noatime,fsname=some\\,name,subtype=kind,max_read=8192")
    line = mounts_on(mount.folder)[0]
    for wanted in (" ro,", "noexec", "noatime", "nosuid", "nodev", "fuse.kind", "some,name", "max_read=8192",
                   "default_permissions"):
        expect(wanted in line, f"{wanted} is not in {line!r}")
    expect_errno(Background(lambda: (mount.folder / "new").write_text("x")).result(), errno.EROFS, "a write")
    # Without allow_other nobody else gets in, root's mount or not.
    done = subprocess.run([Settings.probe, "as", "1000", "1000", "cat", mount.folder / "file"], capture_output=True,
                          text=True, check=False, timeout=20)
    expect("Permission denied" in done.stderr, f"another user: {done.stdout!r} {done.stderr!r}")
    test.finish()


def permissions(test):
    """With allow_other the kernel checks permissions, although no server does."""
    daemon, mount = test.mounted()
    (daemon.share / "secret").write_text("secret\n")
    os.chmod(daemon.share / "secret", 0o600)
    done = subprocess.run([Settings.probe, "as", "1000", "1000", "cat", mount.folder / "secret"], capture_output=True,
                          text=True, check=False, timeout=20)
    expect("Permission denied" in done.stderr, f"another user: {done.stdout!r} {done.stderr!r}")
    test.finish()


def ordinary_user(test):
    """A user without privileges mounts through fusermount3, and unmounts with it and with SIGTERM."""
    nobody = pwd.getpwnam("nobody")
    # Where that user can get at it, whatever the modes above the build tree are.
    program = shutil.copy(mounted.MOUNT_PROGRAM, test.sockets)
    probe = shutil.copy(Settings.probe, test.sockets)
    for end in ("fusermount3", "signal"):
        daemon = test.daemon(end)
        os.chmod(daemon.socket, 0o777)
        os.chmod(daemon.share, 0o777)
        folder = test.sockets / f"mnt-{end}"
        folder.mkdir()
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        mount = Mount(test, daemon.socket, folder, options="", program=program, user=nobody.pw_uid,
                      group=nobody.pw_gid, extra_groups=[])
        test.mounts.append(mount)
        line = mounts_on(mount.await_mounted().folder)[0]
        expect(f"user_id={nobody.pw_uid}" in line and "nosuid" in line and "nodev" in line, line)
        as_nobody = [probe, "as", nobody.pw_uid, nobody.pw_gid]
        expect_equal(run(*as_nobody, "sh", "-c", "echo mine > $0/file && cat $0/file", folder), "mine\n",
                     "a file of the user")
        expect_errno(Background(lambda folder=folder: os.listdir(folder)).result(), errno.EACCES, "root in the mount")
        if end == "fusermount3":
            run(*as_nobody, "fusermount3", "-u", folder)
        else:
            send(mount)
        mount.expect_exit(0)
        mount.no_complaints()
        daemon.expect_exit()


# -- Broken servers --

def right_answer(opcode, unique):
    """Enough of a server for an empty root directory."""
    if opcode == fake_server.INIT:
        return out(unique, init_body())
    if opcode == fake_server.GETATTR:
        return out(unique, attr_body())
    if opcode == fake_server.OPENDIR:
        return out(unique, bytes(16))
    if opcode in (fake_server.READDIR, fake_server.RELEASEDIR, fake_server.DESTROY):
        return out(unique)
    if opcode in (fake_server.FORGET, fake_server.BATCH_FORGET):
        return b""
    return out(unique, error=-errno.ENOENT)


def broken_replies(test):
    """Every kind of broken reply becomes EIO and a line in the log, and the mount works on."""
    broken = {
        "wrong unique": lambda unique: out(unique + 2, bytes(128)),
        "header longer than the chain": lambda unique: (fake_server.OUT_HEADER.pack(160, 0, unique) + bytes(128), 144),
        "used length longer than the header": lambda unique: (out(unique, bytes(120)) + bytes(8), 144),
        "short structure": lambda unique: out(unique, bytes(127)),
        "no body": out,
        "no header": lambda unique: out(unique)[:15],
        "nothing": lambda _unique: b"",
        "error with a body": lambda unique: out(unique, bytes(8), -errno.ENOENT),
        "positive error": lambda unique: out(unique, b"", errno.ENOENT),
        "error beyond errno": lambda unique: out(unique, b"", -512),
        "more than the room": lambda unique: (out(unique, bytes(136)), 152),
        "a used length of 4 GiB": lambda unique: (out(unique, bytes(128)), 0xffffffff),
    }
    wrong = {"answer": None}

    def answer(opcode, unique, _request):
        if opcode == fake_server.LOOKUP and wrong["answer"] is not None:
            return wrong["answer"](unique)
        return right_answer(opcode, unique)

    for number, (name, how) in enumerate(broken.items()):
        # A mount for each, so that the limit on log lines hides none.
        wrong["answer"] = how
        server = FakeServer(test.sockets / f"{number}.sock", answer)
        mount = test.mount(test.sockets / f"{number}.sock", name=f"mnt-{number}")
        expect_errno(Background(lambda folder=mount.folder: os.stat(folder / "name")).result(), errno.EIO, name)
        mount.await_line(r"the server's reply to FUSE_LOOKUP \(request \d+, node 1\) is broken")
        wrong["answer"] = None
        expect_errno(Background(lambda folder=mount.folder: os.stat(folder / "name")).result(), errno.ENOENT,
                     f"after {name}")
        expect_equal(os.listdir(mount.folder), [], f"the root directory after {name}")
        mount.umount()
        eventually(lambda server=server: (fake_server.DESTROY, 1) in server.requests, "DESTROY reaches the server")


def broken_flood(test):
    """A server all of whose replies are broken fills no log."""

    def answer(opcode, unique, _request):
        return out(unique + 2) if opcode == fake_server.LOOKUP else right_answer(opcode, unique)

    FakeServer(test.sockets / "fake.sock", answer)
    mount = test.mount(test.sockets / "fake.sock")
    for number in range(300):
        expect_errno(Background(lambda name=number: os.stat(mount.folder / f"{name}")).result(), errno.EIO, "a lookup")
    expect(mount.text().count("is broken") <= 100, f"{mount.text().count('is broken')} lines about 300 broken replies")
    mount.umount()


def broken_ring(test):
    """A server that returns a chain which it does not have is done with: ENOTCONN, unmounted, status 1."""
    server = None

    def answer(opcode, unique, _request):
        if opcode == fake_server.LOOKUP:
            server.give_back(server.rings[1], 1023, 16)
            return None
        return right_answer(opcode, unique)

    server = FakeServer(test.sockets / "fake.sock", answer)
    mount = test.mount(test.sockets / "fake.sock")
    expect_errno(Background(lambda: os.stat(mount.folder / "name")).result(), errno.ENOTCONN, "a lookup")
    mount.await_line("a chain on queue 1 that it did not have")
    mount.expect_exit(1)


def broken_init(test):
    """A server whose INIT cannot be used: a clear line, status 1, and nothing is mounted."""
    answers = {
        "refused": (lambda unique: out(unique, b"", -errno.EPERM), "not permitted"),
        "short": (lambda unique: out(unique, init_body()[:20]), "is broken"),
        "another major": (lambda unique: out(unique, b"\x08" + init_body()[1:]), "major"),
    }
    for name, (how, text) in answers.items():
        FakeServer(test.sockets / f"{name}.sock", lambda opcode, unique, _request, how=how: how(unique))
        folder = test.folder(name)
        mount = Mount(test, test.sockets / f"{name}.sock", folder)
        test.mounts.append(mount)
        mount.expect_exit(1)
        expect(text in mount.text().splitlines()[-1], f"{name}: {mount.text()}")


# -- What it shows and keeps --

def trace_and_record(test):
    """--trace has each request with its reply, --record a file with a magic number that grows with the work."""
    daemon = test.daemon()
    record = test.sockets / "record"
    mount = test.mount(daemon.socket, ["--trace", "--record", str(record)])
    (mount.folder / "odd\nname").write_text("hello\n")
    expect_equal((mount.folder / "odd\nname").read_text(), "hello\n", "what was written")
    mount.umount()
    text = mount.text()
    for pattern in (r'> FUSE_CREATE node=1 uid=0 .* "odd\\x0aname"', r"< FUSE_CREATE ok 144 bytes node=2 ",
                    r"> FUSE_WRITE .* size=6\n", r"< FUSE_WRITE ok 8 bytes size=6 \(\d+ us\)", r"< FUSE_LOOKUP ENOENT"):
        mount.await_line(pattern, 1)
    expect(text.count(" > ") >= text.count(" < "), "more replies than requests")
    expect(record.read_bytes().startswith(b"FWRECORD\x01\x00\x00\x00"), "the head of the recording")
    expect(b"odd\nname" in record.read_bytes(), "the name in the recording")
    expect(b"hello" not in record.read_bytes(), "the data of writes is in the recording")
    expect_equal(oct(record.stat().st_mode & 0o777), "0o600", "the mode of the recording")
    daemon.expect_exit()


def interrupts(test):
    """INTERRUPT reaches the server with --interrupts only: it ends a wait for a lock that a signal interrupts."""
    passed = test.daemon("passed")
    mount = test.mount(passed.socket, ["--interrupts", "--trace"], name="mnt-passed")
    blocked = hold_lock_and_wait(test, mount)
    mount.await_line("> FUSE_SETLKW")
    blocked.send_signal(signal.SIGINT)
    blocked.communicate(timeout=10)
    mount.await_line("> FUSE_INTERRUPT .* of=#")
    mount.await_line("< FUSE_SETLKW EINTR")
    end_lock(test)
    mount.umount()

    dropped = test.daemon("dropped")
    mount = test.mount(dropped.socket, ["--trace"], name="mnt-dropped")
    blocked = hold_lock_and_wait(test, mount)
    mount.await_line("> FUSE_SETLKW")
    blocked.send_signal(signal.SIGINT)
    mount.await_line("! FUSE_INTERRUPT answered with ENOSYS here")
    expect(blocked.poll() is None, "the process that waits ended")
    end_lock(test)
    blocked.communicate(timeout=10)
    mount.umount()
    expect("> FUSE_INTERRUPT" not in mount.text(), "INTERRUPT went to the server")


def forgets(test):
    """The server forgets what the kernel forgets, thousands at a time, through the high-priority queue."""
    daemon = test.daemon(handles="never")
    mount = test.mount(daemon.socket)
    os.stat(mount.folder)
    at_start = daemon.descriptors()
    run(Settings.probe, "make-tree", daemon.share / "tree", 6000)
    run("find", mount.folder, "-type", "f", "-size", "+0")
    Path("/proc/sys/vm/drop_caches").write_text("2\n", encoding="ascii")
    daemon.expect_descriptors(at_start + 50, "after the kernel's caches were dropped")
    test.finish()


def large_and_many(test):
    """More requests at a time than there are slots, and a directory that takes many replies."""
    daemon, mount = test.mounted()
    run(Settings.probe, "make-tree", daemon.share / "tree", 400)
    for number in range(400):
        (daemon.share / f"file-{number}").write_bytes(bytes([number & 0xff]) * 100000)
    script = ("import sys, threading\n"
              "def read(n):\n"
              "  if open(f'{sys.argv[1]}/file-{n}', 'rb').read() != bytes([n & 255]) * 100000: print('wrong', n)\n"
              "threads = [threading.Thread(target=read, args=(n,)) for n in range(400)]\n"
              "[t.start() for t in threads]; [t.join() for t in threads]\n")
    for _ in range(3):
        Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
        expect_equal(run(sys.executable, "-c", script, mount.folder), "", "what 400 threads read")
    expect_equal(len(os.listdir(mount.folder)), 401, "names in the directory")
    test.finish()


# Name: the function, its time limit in seconds, and the programs that it uses. tests/mount/CMakeLists.txt has the same
# names.
WORK = {
    "guest-script": (work(workloads.guest_script), 180, ["busybox"]),
    "fio": (work(workloads.fio), 180, ["fio"]),
    "stress-ng": (stress, 300, ["stress-ng"]),
    "git": (work(workloads.git), 120, ["git"]),
    "build": (work(workloads.build), 120, ["make", "cc"]),
    "sqlite": (work(workloads.sqlite), 120, []),
    "tar": (work(workloads.tar), 120, ["tar"]),
    "big-files": (work(workloads.big_files), 120, ["dd", "cmp"]),
    "daemon-killed": (daemon_killed, 60, []),
    "daemon-killed-idle": (daemon_killed_idle, 60, []),
    "terminated": (terminated, 60, []),
    "interrupted": (interrupted, 60, []),
}
OURS = {
    "four-queues": (four_queues, 240, ["busybox"]),
    "writeback": (writeback, 60, []),
    "server-hangs-up": (server_hangs_up, 60, []),
    "stuck-server": (stuck_server, 60, []),
    "waiting-lock": (waiting_lock, 60, []),
    "foreign-mount": (foreign_mount, 60, []),
    "background": (background, 60, []),
    "command-line": (command_line, 60, []),
    "mount-options": (mount_options, 60, []),
    "permissions": (permissions, 60, []),
    "ordinary-user": (ordinary_user, 60, ["fusermount3"]),
    "broken-replies": (broken_replies, 60, []),
    "broken-flood": (broken_flood, 60, []),
    "broken-ring": (broken_ring, 60, []),
    "broken-init": (broken_init, 60, []),
    "trace-and-record": (trace_and_record, 60, []),
    "interrupts": (interrupts, 60, []),
    "forgets": (forgets, 60, []),
    "large-and-many": (large_and_many, 120, []),
}
SCENARIOS = WORK | OURS


def missing_part(names):
    """What keeps the scenarios from running on this machine, or None."""
    if not os.access("/dev/fuse", os.F_OK):
        return "there is no /dev/fuse (the kernel's fuse module)"
    if not os.access(Settings.virtiofsd, os.X_OK):
        return f"{Settings.virtiofsd} is not installed (Debian's qemu-system-common; scripts/install-deps test)"
    for name in names:
        for program in SCENARIOS[name][2]:
            if not shutil.which(program):
                return f"{program} is not installed (scripts/install-deps test)"
    return None


def main():
    parser = argparse.ArgumentParser(description="Mounts virtio-fs servers with virtiofs-mount and checks scenarios.")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--keep", action="store_true", help="keep shares, sockets and logs")
    parser.add_argument("--mount", default=ROOT / "build/release/tools/virtiofs-mount/virtiofs-mount")
    parser.add_argument("--virtiofsd", default=ROOT / "build/release/src/daemon/virtiofsd")
    parser.add_argument("--probe", default=ROOT / "build/release/tests/vm/guest-probe")
    parser.add_argument("--work", default=ROOT / "build/mount", type=Path)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    options = parser.parse_args()
    mounted.MOUNT_PROGRAM = os.path.abspath(options.mount)
    Settings.virtiofsd = os.path.abspath(options.virtiofsd)
    Settings.probe = os.path.abspath(options.probe)
    Settings.work = options.work.resolve()  # as mountinfo shows what is mounted there
    if options.list:
        for name, (function, limit, _) in SCENARIOS.items():
            print(f"{name:20} {limit:4} s  {function.__doc__}")
        return 0
    if not options.scenarios or any(name not in SCENARIOS for name in options.scenarios):
        parser.error(f"scenarios are: {' '.join(SCENARIOS)}")
    missing = missing_part(options.scenarios)
    if missing:
        print(f"SKIPPED: {missing}")
        return SKIPPED
    if os.geteuid() != 0:
        become_root()
    sys.stdout.reconfigure(line_buffering=True)
    c_peer = is_c_virtiofsd()
    passed = [run_scenario(Test(name, c_peer), *SCENARIOS[name][:2], options.keep) for name in options.scenarios]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
