"""Scenarios of vm_test.py with other file systems than virtiofsd: programs on our libfuse3.so.3, which serve the guest
because of --socket-path or FUSEWIRE_SOCKET, and the examples of the C++ interface. One guest mounts them all.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from vm_machine import daemons
from daemons import ROOT, GuestScript, eventually, expect, expect_equal, expect_same_lines

sys.path.insert(0, str(ROOT / "tests" / "libfuse"))
# pylint: disable=wrong-import-position
import programs

EXAMPLES = None  # where the C++ examples are


def use(library, examples, sanitized):
    """What vm_test.py's command line says."""
    global EXAMPLES  # pylint: disable=global-statement
    EXAMPLES = Path(examples).resolve()
    programs.Settings.include = ROOT / "include"
    programs.Settings.lib = Path(library).resolve()
    if sanitized:
        programs.Settings.use_sanitizers()


class Served(daemons.Daemon):
    """A program that serves a guest in virtiofsd's place. It ends with status 0 when the guest is gone."""

    # pylint: disable=super-init-not-called
    def __init__(self, test, name, command, environment=None):
        self.name = name
        self.socket = test.sockets / f"{name}.sock"
        self.log = test.sockets / f"{name}.log"
        way = [] if environment is not None else [f"--socket-path={self.socket}"]
        if environment is not None:
            environment = {**environment, "FUSEWIRE_SOCKET": str(self.socket)}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in [*command, *way]], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=test.work,
                env={**os.environ, "LD_LIBRARY_PATH": str(programs.Settings.lib),
                     **programs.Settings.environment, **(environment or {})})
        test.daemons.append(self)

    def text(self):
        return self.log.read_text(errors="backslashreplace")

    def await_socket(self):
        eventually(self.listening, f"{self.name} listens")
        return self


def serve(test, name, command, environment=None):
    return Served(test, name, command, environment).await_socket()


def by_environment(test, name, command):
    return serve(test, name, command, {})


def mount_all(guest, names):
    for name in names:
        guest.mount(name, f"/{name}")


def expect_lines(guest, script, *lines):
    expect_equal(guest.run(script).splitlines(), list(lines), script)


# Debian's examples, unmodified.

def serve_hello_ll_uds(test):
    """Has input and output functions of its own for a stream socket; the environment puts a guest in their place."""
    program = programs.compiled("hello_ll_uds")
    path = Path("/tmp/libfuse-hello-ll.sock")
    path.unlink(missing_ok=True)
    served = Served(test, "hello_ll_uds", [program], {})
    eventually(path.is_socket, "hello_ll_uds has its own socket")
    with socket.socket(socket.AF_UNIX) as stream:
        eventually(lambda: stream.connect_ex(str(path)) == 0, "it accepts")
        served.await_socket()
    path.unlink(missing_ok=True)
    return served


def check_hello(guest, name):
    expect_lines(guest, f"ls /{name}; cat /{name}/hello; stat -c '%s %a' /{name}/hello", "hello", "Hello World!", "13 444")
    status, output = guest.try_run(f"echo > /{name}/hello")
    expect(status != 0 and "ermission denied" in output, f"writing to hello: {status} {output}")
    expect(guest.try_run(f"ls /{name}/other")[0] != 0, "there is nothing else")


# What the guest script finds otherwise than on the host, because passthrough_ll has not got it: it works as root for
# everybody, and knows neither rename's flags nor O_TMPFILE, fallocate's modes, set-id bits that a write takes away, or ACLs.
PASSTHROUGH_LACKS = ("a write drops set-id bits:", "set-gid folder:", "owner of new files:", "acls:", "names:",
                     "permissions:", "sparse:", "tmpfile:")


def check_passthrough(test, guest, source):
    guest.run("mkdir /passthrough_ll/work")
    script = GuestScript(test.sockets / "bin")
    wanted = script.run(test.share("host"), 2000).replace(str(script.programs), "/bin")
    status, got = guest.try_run("PROBE_BIG_FOLDER=2000 sh /guest-script.sh /passthrough_ll/work /bin/guest-probe", 120)
    expect_equal(status, 0, "status of the guest script")
    expect_same_lines(*("\n".join(line for line in text.splitlines() if not line.startswith(PASSTHROUGH_LACKS))
                        for text in (wanted, got)), "passthrough_ll's guest")
    expect_equal(os.listdir(source), ["work"], "what lies below")


def make_squashfs(test):
    tree = test.share("squashed")
    (tree / "sub").mkdir()
    (tree / "file").write_text("content\n")
    shutil.copy(sys.executable, tree / "sub" / "binary")
    image = test.work / "image.sqfs"
    subprocess.run([programs.installed("mksquashfs"), tree, image, "-quiet", "-no-progress"], check=True,
                   stdout=subprocess.DEVNULL)
    return tree, image


def serve_overlay(test):
    lower, upper, work = (test.share(name) for name in ("lower", "upper", "workdir"))
    for name in ("kept", "changed", "removed"):
        (lower / name).write_text("below\n")
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    by_environment(test, "overlay", [programs.installed("fuse-overlayfs"), "-f", "-o", options, test.share("unused")])
    return lower, upper


def check_overlay(guest, lower, upper):
    expect_lines(guest, "cd /overlay; echo above >> changed; rm removed; mkdir new; ls -1; cat changed",
                 "changed", "kept", "new", "below", "above")
    expect_equal((lower / "changed").read_text(), "below\n", "the lower layer")
    expect_equal((upper / "changed").read_text(), "below\nabove\n", "the upper layer")


@contextlib.contextmanager
def compiler(test):
    """Where programs.py puts what it compiles."""
    programs.Settings.work = test.share("programs")
    yield
    programs.Settings.work = None


def libfuse_programs(test):
    """Debian's low-level examples, and squashfuse and fuse-overlayfs as Debian ships them, serve one guest."""
    source = test.share("source")
    with compiler(test):
        for name in ("hello_ll", "hello_ll_single"):
            program = programs.compiled("hello_ll")
            serve(test, name, [program, "-f", *(["-s"] if name.endswith("single") else [])])
        serve_hello_ll_uds(test)
        serve(test, "passthrough_ll", [programs.compiled("passthrough_ll"), "-f", "-o",
                                       f"source={source},cache=auto,xattr,flock"])
        for name in ("notify_inval_entry", "notify_inval_inode", "notify_store_retrieve"):
            serve(test, name, [programs.compiled(name), "-f", "--update-interval=1", "--no-notify"])
    tree, image = make_squashfs(test)
    by_environment(test, "squashfuse", [programs.installed("squashfuse_ll"), "-f", image, test.share("unused-too")])
    layers = serve_overlay(test)

    guest = test.guest({daemon.name: daemon for daemon in test.daemons})
    mount_all(guest, [daemon.name for daemon in test.daemons])
    for name in ("hello_ll", "hello_ll_single", "hello_ll_uds"):
        check_hello(guest, name)
    check_passthrough(test, guest, source)
    for name in ("notify_inval_inode", "notify_store_retrieve"):
        text = guest.run(f"cat /{name}/current_time")
        expect(text.startswith("The current time is "), f"{name}: {text!r}")
    names = guest.run("ls -1 /notify_inval_entry").splitlines()
    expect(len(names) == 1 and names[0].startswith("Time_is_"), f"notify_inval_entry: {names}")
    expect_equal(guest.run("ls -1 /squashfuse; cat /squashfuse/file; sha256sum < /squashfuse/sub/binary").split()[:4],
                 ["file", "sub", "content", daemons.sha256(tree / "sub" / "binary")], "squashfuse")
    check_overlay(guest, *layers)
    for daemon in test.daemons:
        expect(daemon.process.poll() is None, f"{daemon.name} has ended: {daemon.text()}")
    test.finish()


def libfuse_notify(test):
    """A guest that takes no notifications: the file is served until the example asserts that its first one went out."""
    reactions = {"notify_inval_entry": "fuse_lowlevel_notify_inval_entry", "notify_inval_inode": "notify_inval_inode",
                 "notify_store_retrieve": "fuse_lowlevel_notify_store() failed with Function not implemented"}
    with compiler(test):
        for name in reactions:
            serve(test, name, [programs.compiled(name), "-f", "--update-interval=10"])
    guest = test.guest({daemon.name: daemon for daemon in test.daemons})
    mount_all(guest, reactions)
    for name in ("notify_inval_inode", "notify_store_retrieve"):
        text = guest.run(f"cat /{name}/current_time")
        expect(text.startswith("The current time is "), f"{name}: {text!r}")
    guest.run("ls -l /notify_inval_entry")
    for daemon in test.daemons:
        expect_equal(daemon.process.wait(60), -signal.SIGABRT, f"how {daemon.name} ends")
        expect(reactions[daemon.name] in daemon.text(), f"what {daemon.name} says: {daemon.text()}")
    guest.kill()


def cpp_examples(test):
    """Each example of the C++ interface serves a file system of one guest."""
    source = test.share("source")
    names = ("hello", "memory", "passthrough", "async", "invalidate", "poll", "ioctl")
    for name in names:
        serve(test, name, [EXAMPLES / name, *([f"--source={source}"] if name == "passthrough" else [])])
    guest = test.guest({daemon.name: daemon for daemon in test.daemons})
    mount_all(guest, names)

    expect_lines(guest, "cd /hello; ls; cat hello; dd if=hello bs=1 skip=7 count=5 2>/dev/null; echo",
                 "hello", "Hello, world!", "world")
    for folder in ("/memory", "/passthrough"):
        expect_lines(guest, f"""
            cd {folder}; mkdir -p a/b; seq 20000 > a/file; ln a/file a/link; ln -s file a/symlink; mv a/link a/b/moved
            cmp a/symlink a/b/moved && stat -c '%h %s' a/file
            truncate -s 4 a/file; cat a/b/moved; rmdir a 2>/dev/null || echo full
            mkdir many; cd many; seq 1 300 | xargs touch; ls | wc -l; cd ..; chmod 640 a/file; stat -c %a a/file
            rm -r a many; ls""", "2 108894", "1", "2", "full", "300", "640")
    guest.run("echo from the guest > /passthrough/file")
    expect_equal((source / "file").read_text(), "from the guest\n", "the file in the source")
    # Readers wait for the news; who comes after a write waits for the next one.
    expect_lines(guest, """
        cd /async; for i in 1 2 3; do head -c 4 mail > /tmp/mail$i & done
        for i in $(seq 600); do echo news > mail; [ "$(cat /tmp/mail?)" = newsnewsnews ] && break; usleep 50000; done
        cat /tmp/mail?; echo""", "newsnewsnews")
    expect_lines(guest, """
        cd /invalidate; cat message; for text in a "something longer" b; do echo $text > update; cat message; done""",
                 "nothing yet", "a", "something longer", "b")
    # The guest cannot be woken, so that the file is always ready.
    expect_lines(guest, """
        cd /poll; echo first > post; echo second > post; guest-probe poll events
        exec 3< events; dd bs=100 count=1 <&3 2>/dev/null; dd bs=3 count=1 <&3 2>/dev/null; echo""",
                 "1 readable", "first", "sec")
    expect_lines(guest, "guest-probe counter /ioctl/counter; cat /ioctl/counter", "get: ok 0", "set: ok 40", "add: ok 42",
                 "get: ok 42", "unknown: ENOTTY 42", "42")
    test.finish()
