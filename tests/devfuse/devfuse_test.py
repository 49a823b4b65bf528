#!/usr/bin/env python3
"""Mounts a folder of this host through /dev/fuse with passthrough_mount, and checks one scenario in one mode of the channel.

    devfuse_test.py [--list] [--keep] [--program=FILE] [--probe=FILE] [--work=FOLDER] MODE SCENARIO...

FILEs are passthrough_mount (by default the release build's) and the helper that CMake builds; shares are made in FOLDER.
Standard library only.

The exit status is 77 if /dev/fuse, root or a program that a scenario uses is missing, and only then; it says which. A
failure prints every log.
"""

import argparse
import dataclasses
import os
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "mount"))
# pylint: disable=wrong-import-position
import mounted
import workloads
import faults
import shortages
from daemons import ROOT, SKIPPED, Settings, become_root, expect, expect_equal, keep_uring_on, run_scenario
from mounted import Load, Mount, run


@dataclasses.dataclass
class Mode:
    """`differs`: see mounted.Test."""

    arguments: list
    options: str = "allow_other"
    differs: dict = dataclasses.field(default_factory=dict)

    @property
    def splices(self):
        """Whether large parts of files go through a pipe."""
        return "--no-splice" not in self.arguments and "io_uring" not in self.options


# How requests and replies go through /dev/fuse: arguments of passthrough_mount, and options of the mount. A mode is a
# line here and one in CMakeLists.txt.
MODES = {
    "one": Mode(["--threads=1", "--no-splice"]),
    "many": Mode(["--threads=16", "--no-splice"]),
    "clone": Mode(["--threads=8", "--clone-fd", "--no-splice"]),
    "splice": Mode(["--threads=8"]),
    "writeback": Mode(["--threads=8", "--writeback"], differs={
        "files: write at 2^62: ": "the kernel takes what the host's file system then does not",
        "files: fsync: ": "says so for that write",
        "files: syncfs: ": "says so too",
    }),
    "backing": Mode(["--threads=8", "--backing"], differs={
        "a write by root keeps them: ": "the kernel writes, as a thread that may not keep set-id bits",
        "permissions: write: by root ok": "the same",
    }),
    "uring": Mode([], "allow_other,io_uring,io_uring_q_depth=4"),
}


class Test(mounted.Test):
    """One scenario in one mode."""

    def __init__(self, name, mode):
        super().__init__(f"{name}.{mode}", c_peer=False)
        self.mode = MODES[mode]
        self.differs = self.mode.differs

    def serve(self, arguments=(), share=None, folder=None, options=None, **popen):
        """A mount of `share` (else the test's own) on `folder` (else a new one), with `arguments` after the mode's."""
        share = share or self.work / "share"
        share.mkdir(mode=0o755, exist_ok=True)
        mount = Mount(self, share, folder or self.folder("mnt"), [*self.mode.arguments, *arguments],
                      self.mode.options if options is None else options, **popen)
        mount.share = share
        self.mounts.append(mount)
        return mount.await_mounted()

    def finish(self):
        for mount in self.mounts:
            if mount.process.poll() is None:
                mount.umount()
                mount.no_complaints()


def work(function):
    """A scenario: one workload on a mount."""

    def scenario(test):
        mount = test.serve()
        function(test, mount.share, mount.folder)
        test.finish()

    scenario.__doc__ = function.__doc__
    return scenario


def stress(test):
    """stress-ng's file system stressors, a second each, with checks of what they read."""
    mount = test.serve()
    workloads.stress_ng(test, mount.folder)
    test.finish()


class Splices:
    """strace's list of the splice(2) calls of a program, where there is strace and it may look."""

    def __init__(self, test, mount):
        self.log = test.sockets / f"splices-{mount.folder.name}"
        self.process = None
        self.missing = "strace is not installed"
        if shutil.which("strace"):
            self.process = test.start("strace", "-f", "-e", "trace=splice", "-o", self.log, "-p", str(mount.process.pid))
            line = self.process.stdout.readline()
            self.missing = None if "attached" in line else line.strip()

    def end(self):
        """How many there were; None if nobody knows."""
        if self.missing is not None:
            print(f"only the pipes show whether splice(2) is used: {self.missing}")
            return None
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)
        return self.log.read_text().count("splice(")


def expect_splices(test, mount, known):
    """That reads of half a megabyte go through a pipe in the mode that has them there, and in no other. `known`: the program
    knows that the file will not make it wait."""
    size, block = 24 << 20, 512 << 10
    splices = Splices(test, mount)
    run("dd", f"if={mount.folder / 'file'}", "of=/dev/null", f"bs={block}", f"count={size // block}")
    count = splices.end()
    wanted = test.mode.splices and known
    if count is None:
        expect(bool(shortages.pipe_sizes(mount)) == wanted, f"the program's pipes: {shortages.pipe_sizes(mount)}")
    elif wanted:
        # One into the pipe and one out of it for each, or for each 128 KiB that the kernel reads ahead.
        expect(count >= 2 * size // block, f"{count} calls of splice for {size // block} reads")
    else:
        expect_equal(count, 0, "calls of splice")


def file_ranges(test):
    """Replies that are parts of files, spliced and copied: whole at every block size, past the page cache and through it, from
    a file system that knows nothing else and from the daemon's."""
    share = test.folder("share")
    size = (24 << 20) + 4321
    run(Settings.probe, "fill", share / "file", size, 11)
    for number, arguments in enumerate((["--flat", "--cache=never"], ["--flat", "--cache=auto"], ["--cache=never"], ["--cache=auto"])):
        mount = test.serve(arguments, folder=test.folder(f"mnt-{number}"))
        for block in (512, 4095, 128 << 10, (128 << 10) + 1, 512 << 10, 1 << 20, 5 << 20):
            count = min(-(-size // block), 3000)
            copy = test.sockets / "copy"
            run("dd", f"if={mount.folder / 'file'}", f"of={copy}", f"bs={block}", f"count={count}")
            run("cmp", "-n", min(block * count, size), share / "file", copy)
        run("cmp", share / "file", mount.folder / "file")
        # cachestat(2) came with Linux 6.5.
        known = "--flat" in arguments or tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 5)
        expect_splices(test, mount, known)
    test.finish()


def no_leak(test):
    """Descriptors and memory of a program that has worked for a while are those that it had after a little work."""
    mount = test.serve()
    after_first = None
    for number in range(4):
        folder = mount.folder / f"round-{number}"
        folder.mkdir()
        load = Load(test, folder)
        load.await_rounds(60)
        for file in range(300):
            (folder / f"file-{file}").write_text("x")
        load.stop()
        shutil.rmtree(folder)
        run("sync", "-f", mount.folder)  # nothing that was removed counts as lost
        if after_first is None:
            # Threads are started as they are wanted, each with a few descriptors of its own.
            after_first = (mount.descriptors() + 100, mount.anonymous_kib() + 16384)
    mount.expect_descriptors(after_first[0], "after more of the same work")
    if not mount.sanitized():
        expect(mount.anonymous_kib() <= after_first[1], f"{mount.anonymous_kib()} KiB of memory, {after_first[1]} allowed")
    test.finish()


# Name: the function, its time limit in seconds, and the programs that it uses. CMakeLists.txt has the same names, and says
# which runs in which mode.
SCENARIOS = {
    "guest-script": (work(workloads.guest_script), 180, ["busybox"]),
    "fio": (work(workloads.fio), 180, ["fio"]),
    "stress-ng": (stress, 300, ["stress-ng"]),
    "git": (work(workloads.git), 120, ["git"]),
    "build": (work(workloads.build), 120, ["make", "cc"]),
    "sqlite": (work(workloads.sqlite), 120, []),
    "tar": (work(workloads.tar), 120, ["tar"]),
    "file-ranges": (file_ranges, 120, ["dd", "cmp"]),
    "no-leak": (no_leak, 120, []),
    "aborted": (faults.aborted, 60, []),
    "aborted-reads": (faults.aborted_reads, 60, []),
    "killed": (faults.killed, 60, []),
    "terminated": (faults.terminated, 60, ["cmp"]),
    "unmounted": (faults.unmounted, 60, ["fusermount3"]),
    "forced": (faults.forced, 60, []),
    "never-answered": (faults.never_answered, 60, []),
    "refusals": (faults.refusals, 60, []),
    "memory": (shortages.memory, 120, []),
    "pipe-pages": (shortages.pipe_pages, 60, ["fusermount3", "cmp"]),
    "descriptors": (shortages.descriptors, 60, ["cmp"]),
    "short-reads": (shortages.short_reads, 60, []),
}


def missing_part(names, mode):
    """What keeps the scenarios from running on this machine, or None."""
    if not os.access("/dev/fuse", os.F_OK):
        return "there is no /dev/fuse (the kernel's fuse module)"
    if mode == "uring" and (missing := keep_uring_on()):
        return missing
    for name in names:
        for program in SCENARIOS[name][2]:
            if not shutil.which(program):
                return f"{program} is not installed (scripts/install-deps test)"
    return None


def main():
    parser = argparse.ArgumentParser(description="Mounts folders through /dev/fuse and checks scenarios.")
    parser.add_argument("--list", action="store_true", help="list the modes and scenarios")
    parser.add_argument("--keep", action="store_true", help="keep shares and logs")
    parser.add_argument("--program", default=ROOT / "build/release/tests/devfuse/passthrough_mount")
    parser.add_argument("--probe", default=ROOT / "build/release/tests/vm/guest-probe")
    parser.add_argument("--work", default=ROOT / "build/devfuse", type=Path)
    parser.add_argument("mode", nargs="?", metavar="MODE")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    options = parser.parse_args()
    mounted.MOUNT_PROGRAM = os.path.abspath(options.program)
    Settings.probe = os.path.abspath(options.probe)
    Settings.work = options.work.resolve()  # as mountinfo shows what is mounted there
    if options.list:
        for name, mode in MODES.items():
            print(f"{name:20} {' '.join(mode.arguments)} -o {mode.options}")
        for name, (function, limit, _) in SCENARIOS.items():
            print(f"{name:20} {limit:4} s  {function.__doc__}")
        return 0
    if options.mode not in MODES:
        parser.error(f"modes are: {' '.join(MODES)}")
    if not options.scenarios or any(name not in SCENARIOS for name in options.scenarios):
        parser.error(f"scenarios are: {' '.join(SCENARIOS)}")
    if os.geteuid() != 0:
        become_root()
    missing = missing_part(options.scenarios, options.mode)
    if missing:
        print(f"SKIPPED: {missing}")
        return SKIPPED
    sys.stdout.reconfigure(line_buffering=True)
    passed = [run_scenario(Test(name, options.mode), *SCENARIOS[name][:2], options.keep) for name in options.scenarios]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
