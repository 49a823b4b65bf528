#!/usr/bin/env python3
"""Installs libfusewire to a new folder and builds the hello example with it, found by CMake and by pkg-config.

Looks at what was installed as well: each header compiles alone, and the library exports the API and nothing else.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
for option in ("cmake", "cxx", "build", "source", "work"):
    parser.add_argument(f"--{option}", required=True)
arguments = parser.parse_args()
source = Path(arguments.source)
work = Path(arguments.work)
prefix = work / "prefix"


def run(*command, status=0, **options):
    """What the command prints; it must end with `status`."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=600, check=False, **options)
    if done.returncode != status:
        sys.exit(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout[-6000:]}")
    return done.stdout


def install():
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    run(arguments.cmake, "--install", arguments.build, "--prefix", prefix, "--component", "fusewire")
    headers = {path.name for path in (prefix / "include/fusewire").iterdir()}
    expected = {path.name for path in (source / "include/fusewire").iterdir()}
    assert headers == expected, headers ^ expected


def check_headers():
    """Each compiles alone, with the strictest warnings, and includes nothing that is not installed."""
    for header in sorted((prefix / "include/fusewire").glob("*.h")):
        for included in re.findall(r'^#include "(.*)"', header.read_text(), re.MULTILINE):
            assert (prefix / "include" / included).exists(), f"{header.name} includes {included}"
        run(arguments.cxx, "-std=c++23", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion",
            "-Wno-sign-conversion", "-Woverloaded-virtual", "-Wnon-virtual-dtor", "-Werror", "-fsyntax-only",
            "-I", prefix / "include", "-include", header, "-x", "c++", "/dev/null")


def check_exports(library):
    names = run("nm", "-D", "-C", "--defined-only", library).splitlines()
    names = [line.split(maxsplit=2)[2] for line in names]
    inside = [name for name in names
              if not re.match(r"(vtable for |typeinfo for |non-virtual thunk to )?fusewire::[A-Za-z_]+", name)
              or re.match(r"(\w+ for )?fusewire::(base|io|log|devfuse|guestmem|virtio|vhost_user|virtiofs|Engine)\b", name)]
    assert not inside, f"exported without being part of the API: {inside[:10]}"
    for wanted in ("fusewire::FileSystem::read(", "fusewire::SyncFileSystem::do_read(", "fusewire::Session::mount(",
                   "vtable for fusewire::SyncFileSystem"):
        assert any(name.startswith(wanted) for name in names), f"not exported: {wanted}"


def check_program(program, **environment):
    """It starts with the installed library."""
    environment = os.environ | environment
    loaded = run("ldd", program, env=environment)
    found = re.search(r"libfusewire\.so\.0 => (\S+)", loaded)
    assert found and Path(found[1]).resolve().is_relative_to(prefix.resolve()), loaded
    usage = run(program, status=2, env=environment)
    assert usage.startswith("usage: "), usage
    return Path(found[1])


install()
check_headers()

build = work / "by-cmake"
run(arguments.cmake, "-S", source / "examples", "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}",
    f"-DCMAKE_CXX_COMPILER={arguments.cxx}")
run(arguments.cmake, "--build", build, "--target", "example_hello")
check_exports(check_program(build / "hello"))

[pc_file] = prefix.rglob("fusewire.pc")
environment = os.environ | {"PKG_CONFIG_PATH": str(pc_file.parent)}
flags = run("pkg-config", "--cflags", "--libs", "fusewire", env=environment).split()
run(arguments.cxx, "-std=c++23", source / "examples/hello.cc", *flags, "-o", work / "hello")
check_program(work / "hello", LD_LIBRARY_PATH=str(pc_file.parent.parent))
print("built with the installed library by CMake and by pkg-config")
