#!/usr/bin/env python3
"""Checks that each folder of src/ includes only from the folders below it, which the link of static libraries cannot show, and
that the installed headers include only each other.

The table is the layering: a folder and what it may use. Its own headers it may always use.
"""

import pathlib
import re
import sys

LAYERS = {
    "base": set(),
    "io": {"base"},
    "fuse": {"base"},
    "devfuse": {"base", "io", "fuse"},
    "guestmem": {"base"},
    "virtio": {"base", "guestmem"},
    "vhost_user": {"base", "guestmem", "virtio"},
    "driver": {"base", "guestmem", "virtio", "vhost_user"},
    "virtiofs": {"base", "io", "fuse", "guestmem", "virtio", "vhost_user"},
    "passthrough": {"base", "io", "fuse"},
    "session": {"base", "io", "fuse", "devfuse", "vhost_user", "virtiofs"},
    "libfuse": {"base", "io", "fuse", "devfuse", "vhost_user", "virtiofs", "session"},
    "daemon": {"base", "fuse", "vhost_user", "virtiofs", "passthrough", "session"},
}
# The installed headers by the folder whose sources implement them; those not named here are src/fuse's.
PUBLIC = {
    "base": {"bytes.h", "io_vecs.h", "result.h", "strong.h", "unique_fd.h"},
    "session": {"session.h"},
}

source = pathlib.Path(__file__).resolve().parents[2] / "src"
problems = []
included = 0
for folder in sorted(p for p in source.iterdir() if p.is_dir()):
    if folder.name not in LAYERS:
        problems.append(f"src/{folder.name} has no row in {__file__}")
        continue
    allowed = LAYERS[folder.name] | {folder.name}
    for path in sorted(folder.rglob("*")):
        if path.suffix not in {".h", ".cc", ".def"}:
            continue
        for used, header in re.findall(r'^#include "([^/"]+)/([^"]+)"', path.read_text(), re.MULTILINE):
            included += 1
            if used == "fusewire":
                used = next((layer for layer, headers in PUBLIC.items() if header in headers), "fuse")
            if used == "fuse3" and folder.name == "libfuse":
                continue
            if used not in allowed:
                problems.append(f"{path.relative_to(source.parent)} includes from {used}/")

# What is installed must not need what is not.
for path in sorted((source.parent / "include" / "fusewire").iterdir()):
    for used in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE):
        included += 1
        if not used.startswith("fusewire/"):
            problems.append(f"{path.relative_to(source.parent)} includes {used}")

for problem in problems:
    print(problem)
print(f"{included} includes checked")
sys.exit(1 if problems or not included else 0)
