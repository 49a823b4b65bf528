#!/usr/bin/env python3
"""Compares the symbols that libfuse3.so.3 exports, with their versions, with those of Debian's.

usage: symbols.py OURS REFERENCE
"""
import re
import subprocess
import sys

# What is not here yet: the path-based interface, CUSE, and what mount.fuse3 alone uses.
LATER = """
    fuse_clean_cache fuse_destroy fuse_exit fuse_get_context fuse_get_session fuse_getgroups fuse_interrupted
    fuse_invalidate_path fuse_lib_help fuse_loop fuse_loop_mt fuse_loop_mt_31 fuse_loop_mt_312 fuse_loop_mt_32
    fuse_main_real fuse_mount fuse_new fuse_new_30 fuse_new_31 fuse_notify_poll fuse_open_channel
    fuse_start_cleanup_thread fuse_stop_cleanup_thread fuse_unmount
    cuse_lowlevel_main cuse_lowlevel_new cuse_lowlevel_setup cuse_lowlevel_teardown
""".split()
# Versions that are ours to fill.
OUR_VERSIONS = ("FUSE_3.18", "FUSEWIRE_1.0")


def exported(library):
    """Symbols with versions: "name@@VERSION" for what new programs link, "name@VERSION" for what only old ones use."""
    lines = subprocess.run(["nm", "-D", "--with-symbol-versions", "--defined-only", library],
                           capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[2] for line in lines if line.split()[1] == "T"}


def nodes(library):
    """Names of the version definitions."""
    text = subprocess.run(["readelf", "-VW", library], capture_output=True, text=True, check=True).stdout
    definitions = text.split("Version definition section", 1)[1].split("Version needs section")[0]
    return set(re.findall(r"Name: (FUSE\w*_[\d.]+)", definitions))


ours_path, reference_path = sys.argv[1:3]
ours, reference = exported(ours_path), exported(reference_path)
assert len(reference) > 150, f"only {len(reference)} symbols in {reference_path}"
expected = {symbol for symbol in reference
            if symbol.split("@")[0] not in LATER and not symbol.startswith("fuse_fs_")}
problems = [f"{symbol} is missing" for symbol in sorted(expected - ours)]
problems += [f"{symbol} is one too many" for symbol in sorted(ours - reference)
             if symbol.split("@@")[-1] not in OUR_VERSIONS]
problems += [f"version {node} is missing" for node in sorted(nodes(reference_path) - nodes(ours_path))]
print("\n".join(problems) if problems else f"{len(expected)} symbols as in {reference_path}")
sys.exit(1 if problems else 0)
