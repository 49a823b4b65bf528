#!/usr/bin/env python3
"""Programs written for libfuse's low-level interface, on our libfuse3.so.3.

The sources of Debian's libfuse3-dev examples, unmodified, are compiled against our headers and library; programs of
Debian's (squashfuse_ll, fuse-overlayfs) run on the library as they are. Each serves a mount of its own and, where that
makes sense, a vhost-user socket that virtiofs-mount mounts.

usage: programs_test.py --include DIR --lib DIR --mount VIRTIOFS_MOUNT SCENARIO
Exit status 77: something that the scenario needs is not installed.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from programs import Settings
from daemons import SKIPPED, Failure, Unsupported
import example_scenarios as example
import hello_scenarios as hello
import installed_scenarios as installed
import mount_scenarios as mount

SCENARIOS = {function.__name__: function for function in (
    hello.hello_ll, hello.hello_ll_inherited, hello.hello_ll_background, hello.hello_ll_terminated, hello.refusals,
    hello.hello_ll_uds, example.passthrough_ll, example.waiting_lock, example.notify_inval_entry,
    example.notify_inval_inode, example.notify_store_retrieve, installed.squashfuse_ll, installed.fuse_overlayfs,
    example.backing_fs, mount.regular_file_root, installed.qemu_storage_daemon, mount.auto_unmount, mount.blkdev,
    example.io_uring)}


def main():
    parser = argparse.ArgumentParser()
    for name in ("include", "lib", "mount"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--sanitized", action="store_true", help="the library needs GCC's sanitizers")
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    arguments = parser.parse_args()
    Settings.include, Settings.lib, Settings.mount = (Path(path).resolve() for path in (
        arguments.include, arguments.lib, arguments.mount))
    if arguments.sanitized:
        Settings.use_sanitizers()
    if os.geteuid() != 0:
        print("mounting needs root", file=sys.stderr)
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="fw-libfuse-") as work:
        Settings.work = Path(work)
        try:
            SCENARIOS[arguments.scenario]()
        except Unsupported as missing:
            print(missing, file=sys.stderr)
            return SKIPPED
        except Failure as failure:
            print(f"FAILED: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
