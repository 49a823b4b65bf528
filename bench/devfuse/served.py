"""Peers as processes: compiling their programs, mounting them, and what they cost."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

import peers

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SECONDS = 30


class Unsupported(Exception):
    """Something that a peer needs is not here."""


def compiled(peer, build, folder):
    """The program of a peer whose source is compiled against one of the libraries."""
    source = REPOSITORY / peer.program
    program = folder / f"{source.stem}-{peer.library}"
    ours = peer.library == "ours"
    include = REPOSITORY / "include/fuse3" if ours else Path("/usr/include/fuse3")
    library = build / "lib/libfuse3.so" if ours else Path(peers.THEIR_LIBRARY)
    for needed in (source, include, library):
        if not needed.exists():
            raise Unsupported(f"{peer.name}: {needed} is not there")
    shim = folder / "kernel"  # libfuse's own name for <linux/fuse.h>
    shim.mkdir(exist_ok=True)
    (shim / "fuse_kernel.h").write_text("#include <linux/fuse.h>\n", encoding="utf-8")
    subprocess.run(["gcc", "-O2", "-D_FILE_OFFSET_BITS=64", f"-I{include}", f"-I{include.parent}", f"-I{shim}", source,
                    "-o", program, library, f"-Wl,-rpath,{library.parent}", "-lpthread"], check=True)
    return program


def program_of(peer, build, folder):
    if peer.program is None:
        return None
    if peer.library is not None:
        return compiled(peer, build, folder)
    program = build / peer.program
    if not program.exists():
        raise Unsupported(f"{peer.name}: {program} is not built")
    return program


def is_mounted(path):
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return any(line.split()[1] == str(path) for line in mounts)


class Served:
    """A peer that serves; for a peer without a program, the share itself."""

    def __init__(self, peer, process, path):
        self.peer, self.process, self.path = peer, process, path

    def cpu_us(self):
        """The time that its threads have had; threads that have ended do not count."""
        if self.process is None:
            return 0.0
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += int((task / "schedstat").read_text(encoding="ascii").split()[0])
        return total / 1000

    def pin(self, cpus):
        if self.process is not None:
            subprocess.run(["taskset", "-a", "-p", "-c", cpus, str(self.process.pid)], check=True,
                           stdout=subprocess.DEVNULL)

    def _status(self, field):
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(next(line for line in text.splitlines() if line.startswith(field + ":")).split()[1])

    def memory_kib(self):
        return self._status("RssAnon")

    def threads(self):
        return self._status("Threads")


@contextlib.contextmanager
def serving(peer, program, work, places):
    """Mounts the peer for as long as the context lasts. `places` are those of peers.Peer, without the mount point."""
    mount = work / ("mount-" + "".join(c if c.isalnum() else "-" for c in peer.name))
    places = {**places, "mount": mount}
    path = peer.path.format(**places)
    if program is None:
        yield Served(peer, None, path)
        return
    mount.mkdir(exist_ok=True)
    command = [program, *(argument.format(**places) for argument in peer.arguments)]
    environment = {**os.environ, **{key: value.format(**places) for key, value in peer.environment.items()}}
    with open(work / "servers.log", "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + SECONDS
        while not is_mounted(mount):
            if process.poll() == 77:
                raise Unsupported(f"{peer.name}: the kernel does not have what it needs")
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{peer.name} does not mount; see {work}/servers.log")
            time.sleep(0.01)
        yield Served(peer, process, path)
    finally:
        subprocess.run(["umount", "-l", str(mount)], stderr=subprocess.DEVNULL, check=False)
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        mount.rmdir()
