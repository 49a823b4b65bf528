#!/usr/bin/env python3
"""Programs that were built for Debian's libfuse 3, over our library.

usage: abi.py probe LIBRARY_DIR WORK PROBE.c          prints the same over either library
       abi.py mount LIBRARY_DIR WORK EXAMPLES         hello_ll serves a mount (77: none can be made here)
       abi.py installed BUILD WORK EXAMPLES           what is installed is found by pkg-config, compiles and runs
"""
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile

PATIENCE = 120


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **options)


def compiled(source, program, *flags):
    result = run(["gcc", "-D_GNU_SOURCE", "-w", str(source), "-o", str(program), *flags])
    assert result.returncode == 0, result.stderr
    return str(program)


def over(library_dir):
    return {**os.environ, "LD_LIBRARY_PATH": str(library_dir)}


def probe(library_dir, work, source):
    for version in (30, 31, 32, 34, 35, 312, 314):
        program = compiled(source, work / "probe", f"-DFUSE_USE_VERSION={version}", "-I/usr/include/fuse3", "-lfuse3")
        reference, ours = run([program]), run([program], env=over(library_dir))
        assert reference.returncode == 0 and reference.stdout.count("\n") > 10, reference
        assert (ours.returncode, ours.stdout) == (0, reference.stdout), \
            f"{version}: {ours.returncode} {ours.stderr}\n--- ours\n{ours.stdout}--- reference\n{reference.stdout}"
        # The dynamic linker took ours, and found each version that the program asks for.
        bound = run(["ldd", program], env=over(library_dir)).stdout
        assert str(library_dir) in bound, bound


def wait_for_mount(mountpoint, process):
    """Until the mount is there: the kernel says so by making /proc/self/mountinfo ready for POLLPRI."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        changes = select.poll()
        changes.register(mounts, select.POLLPRI | select.POLLERR)
        while True:
            mounts.seek(0)
            if f" {mountpoint} " in mounts.read():
                return
            assert process.poll() is None, "hello_ll ended"
            changes.poll(1000)


def mount(library_dir, work, examples):
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0:
        print("needs root and /dev/fuse")
        sys.exit(77)
    program = compiled(examples / "hello_ll.c", work / "hello_ll", "-I/usr/include/fuse3", "-lfuse3")
    mountpoint = os.path.realpath(tempfile.mkdtemp(dir=work))
    process = subprocess.Popen([program, "-f", mountpoint], env=over(library_dir))
    try:
        wait_for_mount(mountpoint, process)
        assert os.listdir(mountpoint) == ["hello"]
        with open(f"{mountpoint}/hello", encoding="utf-8") as file:
            assert file.read() == "Hello World!\n"
        assert run(["umount", mountpoint]).returncode == 0
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        run(["umount", "-l", mountpoint])
        os.rmdir(mountpoint)


def installed(build, work, examples):
    prefix = work / "prefix"
    shutil.rmtree(prefix, ignore_errors=True)
    result = run(["cmake", "--install", str(build), "--component", "fuse3", "--prefix", str(prefix)])
    assert result.returncode == 0, result.stderr
    pc = next(prefix.rglob("fuse3.pc"))
    search = {**os.environ, "PKG_CONFIG_PATH": str(pc.parent)}
    flags = run(["pkg-config", "--cflags", "--libs", "fuse3"], env=search).stdout.split()
    assert run(["pkg-config", "--modversion", "fuse3"], env=search).stdout == "3.18.0\n"
    program = compiled(examples / "hello_ll.c", work / "installed", *flags)
    library_dir = next(prefix.rglob("libfuse3.so.3")).parent
    result = run([program, "--version"], env=over(library_dir))
    assert result.returncode == 0 and "3.18.0" in result.stdout, result


mode = {"probe": probe, "mount": mount, "installed": installed}[sys.argv[1]]
where, scratch, subject = (pathlib.Path(argument) for argument in sys.argv[2:5])
scratch.mkdir(parents=True, exist_ok=True)
mode(where, scratch, subject)
