"""Who is compared: every peer is one row of PEERS. A new one needs nothing else than its row (and its bars in report.py)."""

import dataclasses

EXAMPLES = "/usr/share/doc/libfuse3-dev/examples"
PASSTHROUGH_MOUNT = "tests/devfuse/passthrough_mount"
THEIR_LIBRARY = "/usr/lib/x86_64-linux-gnu/libfuse3.so.3"

# What is compared with what: peers of a group do the same work on the same share.
CLASSIC = "classic"
BACKING = "backing"  # on tmpfs
BACKING_DISK = "backing, disk"


@dataclasses.dataclass(frozen=True, eq=False)
class Peer:
    """One way to serve the share.

    `program` is a C source that is compiled against `library` ("ours" or "theirs"), or, where library is None, a file
    below the build directory; None: nobody serves, the share is used as it is. {share}, {file} and {mount} stand in
    `arguments` and `environment` for the share, a file in it, and the mount point; {disk} and {disk_file} for those on
    a disk. `path` is what is measured.
    """

    name: str
    group: str = CLASSIC
    mode: str = ""  # peers of one mode are compared with each other
    program: str | None = f"{EXAMPLES}/passthrough_ll.c"
    library: str | None = None
    arguments: tuple = ("-f", "-o", "source={share},cache=never", "{mount}")
    environment: dict = dataclasses.field(default_factory=dict)
    path: str = "{mount}"


def both(mode, *options):
    """The same program and options on both libraries."""
    arguments = (*options, *Peer.__dataclass_fields__["arguments"].default)
    return [Peer(f"ours, {mode}", mode=mode, library="ours", arguments=arguments),
            Peer(f"libfuse, {mode}", mode=mode, library="theirs", arguments=arguments)]


def backing(group, suffix, share, file):
    """A file that the kernel reads and writes itself, and the same without FUSE."""
    return [Peer(f"ours, backing file{suffix}", group=group, mode=BACKING, program="tests/libfuse/backing_fs.c",
                 library="ours", arguments=("-f", "{mount}"), environment={"BACKING_FILE": file}, path="{mount}/file"),
            Peer(f"C++, backing file{suffix}", group=group, mode=BACKING, program=PASSTHROUGH_MOUNT,
                 arguments=("-f", "--backing", share, "{mount}"), path="{mount}/file"),
            Peer(f"native{suffix}", group=group, mode=BACKING, program=None, path=file)]


PEERS = [
    *both("threads"),
    *both("clone_fd", "-o", "clone_fd"),
    *both("-s", "-s"),
    Peer("ours, io_uring", mode="io_uring", library="ours",
         arguments=("-o", "io_uring", *Peer.__dataclass_fields__["arguments"].default)),
    Peer("C++, threads", mode="C++", program=PASSTHROUGH_MOUNT,
         arguments=("-f", "--cache=never", "--no-xattr", "{share}", "{mount}")),
    Peer("C++, io_uring", mode="C++", program=PASSTHROUGH_MOUNT,
         arguments=("-f", "--cache=never", "--no-xattr", "-o", "io_uring", "{share}", "{mount}")),
    *backing(BACKING, "", "{share}", "{file}"),
    *backing(BACKING_DISK, ", disk", "{disk}", "{disk_file}"),
]
