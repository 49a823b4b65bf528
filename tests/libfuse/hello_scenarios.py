"""Scenarios of programs_test.py with the smallest example: how programs start and end, and what carries requests."""

import os
import signal
import socket
import struct
import subprocess
from pathlib import Path

from programs import (Settings, mounted, lazily_unmount, compiled,
                      Program, on_mount, directory, served_both_ways, SECONDS)
from daemons import Failure, eventually, expect, expect_equal


def check_hello(mountpoint):
    expect_equal(os.listdir(mountpoint), ["hello"], "the directory")
    expect_equal((mountpoint / "hello").read_text(), "Hello World!\n", "the file")
    try:
        with open(mountpoint / "hello", "w", encoding="utf-8"):
            raise Failure("hello could be opened for writing")
    except PermissionError:
        pass
    expect(not (mountpoint / "other").exists(), "there is nothing else")


def hello_ll():
    program = compiled("hello_ll")
    mountpoint = directory("mnt")
    for threads in ([], ["-s"]):
        for served in served_both_ways([program, "-f", *threads], mountpoint):
            with served:
                check_hello(mountpoint)
    with on_mount([program, "-f", "-o", "clone_fd,max_idle_threads=2", mountpoint], mountpoint):
        check_hello(mountpoint)


def hello_ll_inherited():
    """The socket is open and listens already, as one that systemd passes on."""
    program = compiled("hello_ll")
    mountpoint = directory("mnt")
    path = Settings.work / "fs.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        served = Program([program, "-f", f"--fd={listener.fileno()}"], descriptors=(listener.fileno(),))
    front_end = subprocess.Popen([Settings.mount, "-f", str(path), str(mountpoint)])
    try:
        eventually(lambda: served.alive() and mounted(mountpoint), "virtiofs-mount has mounted", SECONDS)
        check_hello(mountpoint)
        subprocess.run(["umount", str(mountpoint)], check=True, timeout=SECONDS)
        expect_equal(front_end.wait(SECONDS), 0, "virtiofs-mount's exit status")
        expect_equal(served.ended(), 0, f"exit status, log: {served.text()}")
    finally:
        lazily_unmount(mountpoint)
        if front_end.poll() is None:
            front_end.kill()
            front_end.wait()
        served.stop()


def hello_ll_background():
    """It returns when it is mounted, and goes on in the background."""
    program = compiled("hello_ll")
    mountpoint = directory("mnt")
    try:
        done = subprocess.run([str(program), str(mountpoint)], timeout=SECONDS, check=False,
                              env={**os.environ, "LD_LIBRARY_PATH": str(Settings.lib), **Settings.environment})
        expect_equal(done.returncode, 0, "exit status")
        expect(mounted(mountpoint), "it has mounted when it returns")
        check_hello(mountpoint)
        subprocess.run(["umount", str(mountpoint)], check=True, timeout=SECONDS)
    finally:
        lazily_unmount(mountpoint)


def hello_ll_terminated():
    """A signal ends the loop, and the mount goes with it."""
    program = compiled("hello_ll")
    mountpoint = directory("mnt")
    for arguments in ([], ["-s"]):
        server = Program([program, "-f", *arguments, mountpoint])
        try:
            eventually(lambda: server.alive() and mounted(mountpoint), "hello_ll has mounted", SECONDS)
            check_hello(mountpoint)
            server.process.send_signal(signal.SIGTERM)
            expect_equal(server.ended(), 1, "exit status: the loop has returned the signal's number")
            expect(not mounted(mountpoint), "the mount is gone")
        finally:
            lazily_unmount(mountpoint)
            server.stop()


def refusals():
    """What fails at once says why."""
    program = compiled("hello_ll")
    mountpoint = directory("mnt")
    for arguments, text in ((["-f", "--no-such-option", mountpoint], "--no-such-option"),
                            (["-f", "-o", "no_such_option", mountpoint], "no_such_option"),
                            (["-f", "--socket-path=/no/such/directory/s"], "/no/such/directory")):
        server = Program([program, *arguments])
        try:
            expect_equal(server.ended(), 1, f"exit status of {arguments}")
            expect(text in server.text(), f"{arguments}: {server.text()!r}")
        finally:
            server.stop()


def hello_ll_uds():
    """Its own input and output functions: FUSE over a stream socket, with this test as the kernel."""
    program = compiled("hello_ll_uds")
    path = Path("/tmp/libfuse-hello-ll.sock")
    path.unlink(missing_ok=True)
    server = Program([program])
    try:
        eventually(lambda: server.alive() and path.is_socket(), "hello_ll_uds listens", SECONDS)
        with socket.socket(socket.AF_UNIX) as kernel:
            kernel.settimeout(SECONDS)
            eventually(lambda: kernel.connect_ex(str(path)) == 0, "it accepts", SECONDS)

            def ask(opcode, node, body):
                unique = ask.unique = ask.unique + 2
                header = struct.pack("<IIQQIIII", 40 + len(body), opcode, unique, node, 0, 0, 0, 0)
                kernel.sendall(header + body)
                size, error, answered = struct.unpack("<IiQ", kernel.recv(16, socket.MSG_WAITALL))
                expect_equal(answered, unique, "the request's number")
                return error, kernel.recv(size - 16, socket.MSG_WAITALL) if size > 16 else b""
            ask.unique = 0

            error, answer = ask(26, 0, struct.pack("<IIII48x", 7, 38, 65536, 0))
            expect_equal((error, struct.unpack_from("<I", answer)[0]), (0, 7), "INIT")
            error, answer = ask(1, 1, b"hello\0")
            expect_equal((error, struct.unpack_from("<Q", answer)[0]), (0, 2), "LOOKUP")
            expect_equal(ask(1, 1, b"other\0")[0], -2, "LOOKUP of what is not there")
            expect_equal(ask(14, 2, struct.pack("<II", os.O_RDONLY, 0))[0], 0, "OPEN")
            expect_equal(ask(15, 2, struct.pack("<QQIIQII", 0, 0, 4096, 0, 0, 0, 0)), (0, b"Hello World!\n"), "READ")
        expect_equal(server.ended(), 0, f"exit status at the stream's end: {server.text()}")
    finally:
        server.stop()
        path.unlink(missing_ok=True)
