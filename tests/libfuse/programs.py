"""The programs of programs_test.py and of the guests' tests: compiled, started, mounted, ended."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# For all that import this module, too.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "common"))
from daemons import Failure, Unsupported, eventually, expect, expect_equal  # noqa: E402

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
        expect("not mounted" not in program.text(), f"nobody complains at the end: {program.text()}")
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


def installed(program):
    path = shutil.which(program)
    if path is None:
        raise Unsupported(f"{program} is not installed")
    return path
