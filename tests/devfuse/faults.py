"""How a mount ends: each way with a clear exit status and nobody who hangs."""

import contextlib
import errno
import os
import signal
import subprocess
from pathlib import Path

import mounted
from daemons import Settings, eventually, expect, expect_equal
from mounted import Background, Load, mounts_on, run, send

ABORTED = "passthrough_mount: the kernel's connection was aborted (/sys/fs/fuse/connections)"


def busy(test, mount):
    """Work on the mount by several processes, and a descriptor of a file there."""
    load = Load(test, mount.folder)
    load.await_rounds()
    return load, os.open(mount.folder / "held", os.O_RDWR | os.O_CREAT, 0o644)


def expect_error(call, numbers, what):
    outcome = Background(call).result()
    names = " or ".join(errno.errorcode[number] for number in numbers)
    expect(isinstance(outcome, OSError) and outcome.errno in numbers, f"{what}: got {outcome!r}, wanted {names}")


def expect_dead(held):
    """A file that is still open belongs to a file system without a server."""
    gone = (errno.ENOTCONN, errno.ECONNABORTED)
    expect_error(lambda: os.fsync(held), gone, "fsync of a file that is still open")
    expect_error(lambda: os.ftruncate(held, 100), gone, "ftruncate of a file that is still open")
    with contextlib.suppress(OSError):
        os.close(held)


def expect_last_line(mount, line):
    expect_equal(mount.text().splitlines()[-1], line, "the last line of the log")


def aborted(test):
    """The kernel's connection is aborted under load: every request fails at once, and the program says why it ends."""
    mount = test.serve()
    load, held = busy(test, mount)
    mount.abort()
    load.expect_all_fail()
    mount.expect_exit(1)
    expect_last_line(mount, ABORTED)
    mount.no_complaints()
    expect_dead(held)


def read_until_it_fails(path, rounds):
    """Reads large blocks for ever, counting in `rounds`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while True:
            expect_equal(len(os.pread(descriptor, 512 << 10, (rounds[0] % 8) << 19)), 512 << 10, "bytes read")
            rounds[0] += 1
    finally:
        os.close(descriptor)


def aborted_reads(test):
    """The connection is aborted while large parts of files are on their way: every reader fails at once."""
    share = test.folder("share")
    run(Settings.probe, "fill", share / "file", 4 << 20, 5)
    for number, arguments in enumerate((["--flat"], [])):
        mount = test.serve([*arguments, "--cache=never"], folder=test.folder(f"mnt-{number}"))
        rounds = [[0] for _ in range(4)]
        readers = [Background(lambda mine=mine, mount=mount: read_until_it_fails(mount.folder / "file", mine)) for mine in rounds]
        eventually(lambda rounds=rounds: all(mine[0] > 30 for mine in rounds), "all have read")
        mount.abort()
        for reader in readers:
            expect_error(reader.result, (errno.ENOTCONN, errno.ECONNABORTED), "a read")
        mount.expect_exit(1)
        expect_last_line(mount, ABORTED)
        mount.no_complaints()


def killed(test):
    """The program is killed under load: every request fails at once, and the next mount clears away the dead one."""
    mount = test.serve()
    load, held = busy(test, mount)
    mount.process.kill()
    load.expect_all_fail()
    expect_equal(mount.process.wait(20), -signal.SIGKILL, "exit status")
    expect_error(lambda: os.stat(mount.folder), [errno.ENOTCONN], "what is left on the mount point")
    expect_dead(held)
    expect_equal(len(mounts_on(mount.folder)), 1, "mounts before the second start")

    again = test.serve(folder=mount.folder)
    again.await_line("the process that served the file system there has died")
    eventually(lambda: (again.folder / "held").exists(), "the second mount shows the share")
    expect_equal(len(mounts_on(again.folder)), 1, "mounts after the second start")
    (again.folder / "again").mkdir()
    load = Load(test, again.folder / "again")
    load.await_rounds()
    load.stop()
    test.finish()


def terminated(test):
    """SIGTERM while files are open and written: those who use the mount get errors, and all that was written is there."""
    mount = test.serve()
    load, held = busy(test, mount)
    run(Settings.probe, "fill", test.work / "wanted", 8 << 20, 9)
    run("cp", test.work / "wanted", mount.folder / "copy")
    synced = os.open(mount.folder / "synced", os.O_WRONLY | os.O_CREAT, 0o644)
    expect_equal(os.write(synced, b"synced\n" * 5000), 35000, "bytes written")
    os.fsync(synced)
    # Not synced, and not closed: what a write-back cache still has.
    expect_equal(os.write(held, b"held\n" * 5000), 25000, "bytes written")
    send(mount)
    load.expect_all_fail()
    mount.expect_exit(0)
    mount.no_complaints()
    expect_dead(synced)
    expect_dead(held)
    run("cmp", test.work / "wanted", mount.share / "copy")
    expect_equal((mount.share / "synced").read_bytes(), b"synced\n" * 5000, "what was synced")
    expect_equal((mount.share / "held").read_bytes(), b"held\n" * 5000, "what was written and not synced")


def unmounted(test):
    """umount while busy is refused and changes nothing; umount -l lets everybody finish, and ends the program after that."""
    for number, lazily in enumerate((["umount", "-l"], ["fusermount3", "-u", "-z"])):
        mount = test.serve(folder=test.folder(f"mnt-{number}"))
        (mount.folder / f"{number}").mkdir()
        load = Load(test, mount.folder / f"{number}")
        load.await_rounds()
        held = os.open(mount.folder / f"held-{number}", os.O_RDWR | os.O_CREAT, 0o644)
        for command in (["umount"], ["fusermount3", "-u"]):
            done = subprocess.run([*command, mount.folder], capture_output=True, text=True, timeout=20, check=False)
            expect(done.returncode != 0 and "busy" in done.stderr, f"{command}: {done.returncode} {done.stderr}")
        run(*lazily, mount.folder)
        expect(not mounts_on(mount.folder), "the mount is still there")
        rounds = Path(f"{load.stop_file}.rounds")
        before = int(rounds.read_text() or "0")
        eventually(lambda rounds=rounds, before=before: int(rounds.read_text() or "0") > before + 20, "the work goes on")
        expect_equal(os.write(held, b"after\n"), 6, "bytes written after the mount has gone from the tree")
        load.stop()
        expect(mount.process.poll() is None, "the program ended although a file is open")
        os.close(held)
        mount.expect_exit(0)
        mount.no_complaints()
        expect_equal((mount.share / f"held-{number}").read_text(), "after\n", "what was written at last")


def forced(test):
    """umount -f under load, which aborts: those who use the mount get errors, and the program ends and leaves no mount."""
    mount = test.serve()
    load, held = busy(test, mount)
    subprocess.run(["umount", "-f", mount.folder], capture_output=True, timeout=20, check=False)
    load.expect_all_fail()
    mount.expect_exit(0)
    mount.no_complaints()
    expect_dead(held)


def never_answered(test):
    """A handler that never replies holds up nobody else, and is given up at the end, whatever the end is."""
    for end in ("signal", "abort"):
        mount = test.serve(["--flat", "--never-answer=stuck", "--grace=300"], folder=test.folder(f"mnt-{end}"))
        (mount.share / end).write_text("answered\n")
        call = Background(lambda mount=mount: os.stat(mount.folder / "stuck"))
        mount.await_line("stuck will not be answered")
        expect_equal(Background((mount.folder / end).read_text).result(), "answered\n", "another file")
        expect(call.is_alive(), "the call that is not answered has ended")
        if end == "signal":
            send(mount)
        else:
            mount.abort()
        expect_error(call.result, (errno.ENOTCONN, errno.ECONNABORTED), "the call that was not answered")
        mount.expect_exit(0 if end == "signal" else 1)
        mount.await_line("1 requests that nobody answered are given up")
        if end == "abort":
            expect_last_line(mount, ABORTED)


def refusals(test):
    """What cannot be mounted is refused with one line that names it."""
    share = test.folder("share")
    folder = test.folder("mnt")
    for status, arguments, text in ((1, [share, test.work / "nowhere"], "nowhere"),
                                    (1, [share, "/dev/null"], "neither a directory"),
                                    (1, [test.work / "nowhere", folder], "nowhere"),
                                    (1, [share, folder, "-o", "frobnicate"], "frobnicate"),
                                    (1, [share, folder, "--threads=0"], "threads"),
                                    (2, [share], "positions")):
        done = subprocess.run([mounted.MOUNT_PROGRAM, "-f", *arguments], capture_output=True, text=True, timeout=30,
                              check=False)
        expect_equal(done.returncode, status, f"exit status with {text}")
        lines = [line for line in done.stderr.splitlines() if line.startswith("passthrough_mount: ")]
        expect(len(lines) == 1 and text in lines[0], f"the message about {text}: {done.stderr!r}")
        expect(not mounts_on(folder), "something is mounted")
