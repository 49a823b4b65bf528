"""What a mount does when memory, pipes or descriptors run out, or a file is shorter than it was: right answers, or errors that
name the shortage, and everything is as before once there is enough again."""

import contextlib
import errno
import fcntl
import os
import pwd
import resource
import shutil
import sys
from pathlib import Path

import mounted
from daemons import Failure, Settings, expect, expect_equal
from mounted import Background, run

KIB, MIB = 1 << 10, 1 << 20
PAGE = os.sysconf("SC_PAGESIZE")


@contextlib.contextmanager
def limited(mount, what, limit):
    """A lower limit of the program's, for a time."""
    before = resource.prlimit(mount.process.pid, what)
    resource.prlimit(mount.process.pid, what, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(mount.process.pid, what, before)


def allow_descriptors(count):
    """For this process and those that it starts, as far as the system permits."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = count if limit == resource.RLIM_INFINITY else min(count, limit)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, limit))


def names_of(folder):
    return [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in sorted(names)]


def open_until_it_fails(paths):
    """Opens one after the other; the descriptors, and the error that ended it."""
    held = []
    for path in paths:
        try:
            held.append(os.open(path, os.O_RDONLY))
        except OSError as error:
            return held, error
    raise Failure(f"{len(held)} files were opened with no memory to have")


def try_all(paths):
    """Reads each; how often that failed. Only for want of memory it may."""
    failures = 0
    for path in paths:
        try:
            if Path(path).read_bytes() != b"small\n":
                raise Failure(f"{path} was read wrong")
        except OSError as error:
            expect_equal(error.errno, errno.ENOMEM, f"the error of {path}")
            failures += 1
    return failures


def memory(test):
    """No memory to have: calls fail with ENOMEM, the program lives, and goes on when there is some again."""
    files = 4000
    allow_descriptors(files + 1000)
    # One heap that grows a little at a time, so that the first request which needs more than there is notices.
    mount = test.serve(env={**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_TOP_PAD_": "0", "MALLOC_TRIM_THRESHOLD_": "0"})
    run(Settings.probe, "make-tree", mount.share / "tree", files)
    paths = [str(mount.folder / os.path.relpath(path, mount.share)) for path in names_of(mount.share / "tree")]
    expect_equal(len(paths), files, "files")
    expect_equal(try_all(paths[:100]), 0, "failures before")
    with limited(mount, resource.RLIMIT_AS, mount.status_kib("VmSize") * KIB):
        held, error = open_until_it_fails(paths)
        try:
            expect_equal(error.errno, errno.ENOMEM, f"the error after {len(held)} files")
            print(f"{len(held)} files were opened before memory ran out")
            readers = [Background(lambda part=part: try_all(paths[-400 * (part + 1):][:400])) for part in range(4)]
            failures = sum(reader.result(60) for reader in readers)
            expect(failures > 0, "nothing failed while there was no memory")
            expect_equal(mount.process.poll(), None, "exit status")
        finally:
            for descriptor in held:
                os.close(descriptor)
    expect_equal(try_all(paths), 0, "failures after")
    mount.umount()


def pipe_sizes(mount):
    """The sizes of the pipes that the program has open."""
    sizes = []
    for entry in os.scandir(f"/proc/{mount.process.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(entry.path).startswith("pipe:") and int(entry.name) > 2:
                end = os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK)
                sizes.append(fcntl.fcntl(end, fcntl.F_GETPIPE_SZ))
                os.close(end)
    return sizes


# Until the kernel gives the user no more than two pages for a pipe.
TAKE_ALL_PAGES = f"""
import fcntl, os, signal, sys
os.setgroups([])
os.setresgid(*[int(sys.argv[2])] * 3)
os.setresuid(*[int(sys.argv[1])] * 3)
ends = []
while not ends or fcntl.fcntl(ends[-1], {fcntl.F_GETPIPE_SZ}) > {2 * PAGE}:
    ends += os.pipe()
print('taken', flush=True)
signal.pause()
"""


def read_through(blocks, source, path, prefix=()):
    """Compares a file on the mount with `source`, read in blocks that are large enough to be spliced."""
    for block in blocks:
        run(*prefix, "sh", "-c", 'dd if="$0" bs="$1" status=none | cmp - "$2"', path, block, source)


def pipe_pages(test):
    """A user who has used up all pages for pipes: replies do not fit into a pipe of two pages, and are copied."""
    nobody = pwd.getpwnam("nobody")
    who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    # Where that user can get at them, whatever the modes above the build tree are.
    program, probe = (shutil.copy(file, test.sockets) for file in (mounted.MOUNT_PROGRAM, Settings.probe))
    share, folder = test.sockets / "share", test.sockets / "mnt"
    share.mkdir()
    folder.mkdir()
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    run(Settings.probe, "fill", share / "file", 8 * MIB + 77, 3)
    os.chmod(share / "file", 0o644)
    allow_descriptors(5000)
    taker = test.start(sys.executable, "-c", TAKE_ALL_PAGES, str(nobody.pw_uid), str(nobody.pw_gid))
    expect_equal(taker.stdout.readline(), "taken\n", "what the process says that takes all pages")
    for arguments in (["--flat"], []):
        mount = test.serve([*arguments, "--cache=never"], share=share, folder=folder, options="", program=program, **who)
        read_through((128 * KIB, 512 * KIB, MIB, 3 * MIB), share / "file", folder / "file",
                     (probe, "as", nobody.pw_uid, nobody.pw_gid))
        sizes = pipe_sizes(mount)
        # The daemon's file system is not told of the cached pages of a file that belongs to somebody else.
        if arguments or sizes:
            expect(sizes and max(sizes) == 2 * PAGE, f"the program's pipes have {sizes} bytes instead of two pages")
        mount.umount()
        mount.no_complaints()


def descriptors(test):
    """No descriptor to have: no pipe and no thread can be made, and replies are copied; nothing can be opened for ENFILE."""
    share = test.folder("share")
    run(Settings.probe, "fill", share / "file", 16 * MIB + 77, 3)
    (share / "other").write_text("other\n")
    mount = test.serve(["--flat", "--cache=never"])
    os.stat(mount.folder / "file")  # opens it in the program
    with limited(mount, resource.RLIMIT_NOFILE, 3):
        read_through((128 * KIB, MIB, 3 * MIB), share / "file", mount.folder / "file")
        expect_equal(pipe_sizes(mount), [], "pipes")
        outcome = Background(lambda: os.stat(mount.folder / "other")).result()
        expect(isinstance(outcome, OSError) and outcome.errno in (errno.EMFILE, errno.ENFILE), f"a new file: {outcome!r}")
    read_through((MIB,), share / "file", mount.folder / "file")
    expect(pipe_sizes(mount), "there is no pipe although there are descriptors again")
    expect_equal((mount.folder / "other").read_text(), "other\n", "a new file")
    mount.umount()


def short_reads(test):
    """A file that was cut behind the kernel's back: a read returns what there is, spliced or not, and no byte more."""
    size, left = 6 * MIB, MIB + 12345
    share = test.folder("share")
    for number, arguments in enumerate((["--flat"], ["--flat", "--no-splice"], [])):
        run(Settings.probe, "fill", share / "file", size, number)
        wanted = (share / "file").read_bytes()
        mount = test.serve([*arguments, "--cache=never"], folder=test.folder(f"mnt-{number}"))
        file = os.open(mount.folder / "file", os.O_RDONLY)
        expect_equal(os.fstat(file).st_size, size, "size before")
        os.truncate(share / "file", left)
        for offset in (0, 5, MIB - 1, MIB, left - 1, left, size - 1):
            got = os.pread(file, 4 * MIB, offset)
            expect(got == wanted[offset:left], f"{arguments}: {len(got)} bytes at {offset}, which are not those of the file")
        expect_reads_while_cut(share / "file", file, wanted)
        os.close(file)
        mount.umount()


def expect_reads_while_cut(path, file, wanted):
    """Reads while the file is cut and written again: each byte is the file's, or zero where it was cut just now."""
    done = False

    def cut_and_write():
        with open(path, "r+b", buffering=0) as writer:
            while not done:
                os.truncate(path, 300 * KIB)
                os.pwrite(writer.fileno(), wanted, 0)

    writing = Background(cut_and_write)
    try:
        for number in range(120):
            offset = number * 7919 % (len(wanted) - MIB)
            got = os.pread(file, MIB, offset)
            if got != wanted[offset:offset + len(got)]:
                wrong = [at for at, byte in enumerate(got) if byte not in (0, wanted[offset + at])]
                expect(not wrong, f"{len(wrong)} bytes that were never in the file, the first at {offset} + {wrong[:1]}")
    finally:
        done = True
        writing.result(30)
