"""The command line of virtiofsd, from the outside: what it prints, its exit status, its socket, and how it ends.

Usage: cli_test.py VIRTIOFSD [unittest arguments]. Waits on events only (lines of the log, ends of processes, replies);
ctest's time limit is for a daemon that hangs.
"""

import grp
import json
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import unittest

VIRTIOFSD = ""
GET_FEATURES = 1


def run(*arguments, **popen):
    """Runs virtiofsd to its end: status, standard output, lines of standard error."""
    done = subprocess.run([VIRTIOFSD, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, **popen)
    return done.returncode, done.stdout, done.stderr.splitlines()


class FrontEnd:
    """The very beginning of a vhost-user front-end."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)

    def pid(self):
        """The process that listens."""
        size = struct.calcsize("3i")
        return struct.unpack("3i", self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]

    def features(self):
        self.socket.sendall(struct.pack("=III", GET_FEATURES, 1, 0))
        reply = self.socket.recv(20, socket.MSG_WAITALL)
        request, flags, size, features = struct.unpack("=IIIQ", reply)
        assert (request, flags & 7, size) == (GET_FEATURES, 5, 8), reply
        return features

    def send(self, data):
        self.socket.sendall(data)

    def wait_until_closed(self):
        try:
            while self.socket.recv(4096):
                pass
        except ConnectionResetError:
            pass

    def close(self):
        self.socket.close()


def wait_for_end(pid):
    """Waits for the end of a process that is not our child."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([pidfd], [], [])
    os.close(pidfd)


class Daemon:
    """A virtiofsd in the foreground, started and listening."""

    def __init__(self, *arguments, **popen):
        self.process = subprocess.Popen([VIRTIOFSD, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, **popen)
        self.log = []
        self.wait_for_line("waiting for a front-end")

    def wait_for_line(self, text):
        for line in self.process.stderr:
            self.log.append(line)
            if text in line:
                return
        raise AssertionError(f"status {self.process.wait()} without {text!r}: {self.log}")

    def wait(self):
        output, rest = self.process.communicate()
        assert output == "", output
        self.log += rest.splitlines()
        return self.process.returncode

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.process.stdout.close()
        self.process.stderr.close()


class Case(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="fusewire-cli-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        # Reachable for the test that gives up root.
        os.chmod(self.directory, 0o755)
        self.share = self.path("share")
        os.mkdir(self.share)
        self.socket = self.path("socket")

    def path(self, name):
        return os.path.join(self.directory, name)

    def arguments(self, *more):
        return ["--shared-dir=" + self.share, "--socket-path=" + self.socket, *more]

    def start(self, *more, **popen):
        daemon = Daemon(*self.arguments(*more), **popen)
        self.addCleanup(daemon.kill)
        return daemon

    def connect(self, path=None):
        front_end = FrontEnd(path or self.socket)
        self.addCleanup(front_end.close)
        return front_end

    def expect_one_line(self, result, status, *texts):
        code, output, lines = result
        self.assertEqual((code, output, len(lines)), (status, "", 1), lines)
        self.assertTrue(lines[0].startswith("virtiofsd: "), lines)
        for text in texts:
            self.assertIn(text, lines[0])


class Information(Case):
    def test_Help_IsPrintedToStandardOutput(self):
        for option in "--help", "-h":
            code, output, errors = run(option)
            self.assertEqual((code, errors), (0, []))
            self.assertIn("Usage: virtiofsd", output)
            self.assertIn("--shared-dir=DIR", output)

    def test_Version_NamesProgramAndProject(self):
        for option in "--version", "-V":
            code, output, errors = run(option)
            self.assertEqual((code, errors), (0, []))
            self.assertRegex(output, r"^virtiofsd \(fusewire\) \d+\.\d+\.\d+\n$")

    def test_PrintCapabilities_IsTheJsonThatLibvirtReads(self):
        code, output, errors = run("--print-capabilities")
        self.assertEqual((code, errors), (0, []))
        self.assertEqual(json.loads(output), {"type": "fs", "features": ["separate-options"]})

    def test_OutputThatCannotBeWritten_IsAFailure(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            self.assertEqual(subprocess.run([VIRTIOFSD, "--help"], stdout=full, check=False).returncode, 1)


class Usage(Case):
    def test_WrongOptions_GiveOneLineAndStatusTwo(self):
        cases = {
            ("--bogus",): "there is no option --bogus",
            ("-o", "bogus"): "-o bogus is not a known name",
            ("--cache=sometimes",): "--cache=sometimes must be one of auto",
            ("--tag",): "--tag needs a value",
            ("--xattr=1",): "--xattr takes no value",
            ("extra",): "extra is no option",
            ("--fd=3",): "exclude each other",
            ("--sandbox=namespace",): "not available yet",
            ("--seccomp=kill",): "not available yet",
            ("--translate-uid=map:0:1000:1",): "not available yet",
            ("-o", "xattrmap=:map::user.virtiofs.:"): "not available yet",
            ("--migration-mode=find-paths",): "not available yet",
            ("--cache=with\na line break",): "--cache=with?a line break must be one of",
            ("--socket-path=/tmp/" + "s" * 103,): "at most 107",
        }
        for arguments, text in cases.items():
            with self.subTest(arguments):
                self.expect_one_line(run(*self.arguments(*arguments)), 2, text)
        self.assertFalse(os.path.exists(self.socket))

    def test_NothingToShareOrNoSocket_GivesOneLineAndStatusTwo(self):
        self.expect_one_line(run(), 2, "--shared-dir=DIR")
        self.expect_one_line(run("--socket-path=" + self.socket), 2, "--shared-dir=DIR")
        self.expect_one_line(run("--shared-dir=" + self.share), 2, "--socket-path=PATH or --fd=N")

    def test_WrongOptionsWithDaemonize_AreReportedByTheCaller(self):
        self.expect_one_line(run(*self.arguments("--daemonize", "--cache=x")), 2, "--cache=x")


class Failures(Case):
    def expect_failure(self, arguments, *texts, **popen):
        """With and without --daemonize: one line, status 1."""
        for more in [], ["--daemonize"], ["-o", "max_idle_threads=3"]:
            with self.subTest(more):
                self.expect_one_line(run(*arguments, *more, **popen), 1, *texts)

    def test_MissingDirectory(self):
        os.rmdir(self.share)
        self.expect_failure(self.arguments(), self.share, "No such file or directory: create it")

    def test_ShareThatIsAFile(self):
        os.rmdir(self.share)
        with open(self.share, "w", encoding="ascii"):
            pass
        self.expect_failure(self.arguments(), self.share, "is no directory")

    def test_UnreadableShare(self):
        os.chmod(self.share, 0)
        as_nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
        self.expect_failure(self.arguments(), self.share, "may not read it", **as_nobody)

    def test_MissingDirectoryOfTheSocket(self):
        self.socket = self.path("missing/socket")
        self.expect_failure(self.arguments(), self.path("missing/socket"), "create it")

    def test_SocketPathOfAFile_LeavesTheFileAlone(self):
        with open(self.socket, "w", encoding="ascii") as file:
            file.write("precious")
        self.expect_failure(self.arguments(), self.socket, "not a socket")
        with open(self.socket, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")

    def test_SocketPathInUse_LeavesTheSocketAlone(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(self.socket)
            other.listen(8)
            self.expect_failure(self.arguments(), self.socket, "in use")
            self.connect().close()

    def test_SocketPathOfAnotherVirtiofsd_WhichGoesOn(self):
        daemon = self.start()
        self.expect_failure(self.arguments(), self.socket, "in use")
        self.assertNotEqual(self.connect().features(), 0)
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)

    def test_UnknownSocketGroup(self):
        self.expect_failure(self.arguments("--socket-group=no-such-group"), "no-such-group")
        self.assertFalse(os.path.exists(self.socket))

    def test_DescriptorThatIsNoListeningSocket(self):
        share = "--shared-dir=" + self.share
        self.expect_failure([share, "--fd=77"], "--fd=77 is not open")
        read_end, write_end = os.pipe()
        self.expect_failure([share, f"--fd={read_end}"], f"{read_end} is not a socket", pass_fds=[read_end])
        for end in read_end, write_end:
            os.close(end)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as idle:
            self.expect_failure([share, f"--fd={idle.fileno()}"], "not a listening socket", pass_fds=[idle.fileno()])
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as inet:
            inet.listen()
            self.expect_failure([share, f"--fd={inet.fileno()}"], "not a UNIX stream socket", pass_fds=[inet.fileno()])


class Serving(Case):
    def test_FrontEndThatGoesAway_EndsTheDaemonWell(self):
        daemon = self.start()
        front_end = self.connect()
        self.assertNotEqual(front_end.features(), 0)
        front_end.close()
        self.assertEqual(daemon.wait(), 0)
        self.assertFalse(os.path.exists(self.socket))

    def test_ListsAndDescriptor_AsLibvirtStartsIt(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.socket)
            listener.listen()
            daemon = Daemon(f"--fd={listener.fileno()}", "-o", f"source={self.share},cache=always,xattr,no_flock",
                            "--thread-pool-size=4", "-d", pass_fds=[listener.fileno()])
            self.addCleanup(daemon.kill)
        front_end = self.connect()
        self.assertNotEqual(front_end.features(), 0)
        front_end.close()
        self.assertEqual(daemon.wait(), 0)
        self.assertTrue(os.path.exists(self.socket), "the file is its maker's to remove")

    def test_StandardInputAsTheSocket_Works(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.socket)
            listener.listen()
            process = subprocess.Popen([VIRTIOFSD, "--fd=0", "--shared-dir=" + self.share], stdin=listener,
                                       stderr=subprocess.DEVNULL)
        front_end = self.connect()
        self.assertNotEqual(front_end.features(), 0)
        front_end.close()
        self.assertEqual(process.wait(), 0)

    def test_ConnectionWithoutAWord_DoesNotCount(self):
        daemon = self.start("--log-level=debug")
        self.connect().close()
        daemon.wait_for_line("without a message")
        front_end = self.connect()
        self.assertNotEqual(front_end.features(), 0)
        front_end.close()
        self.assertEqual(daemon.wait(), 0)

    def test_KeepListening_ServesOneFrontEndAfterTheOther(self):
        daemon = self.start("--keep-listening")
        for _ in range(3):
            front_end = self.connect()
            self.assertNotEqual(front_end.features(), 0)
            front_end.close()
            daemon.wait_for_line("the front-end has gone")
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        self.assertFalse(os.path.exists(self.socket))

    def test_FrontEndThatBreaksTheProtocol_LosesOnlyItsConnection(self):
        daemon = self.start()
        front_end = self.connect()
        front_end.send(b"\xff" * 12)
        front_end.wait_until_closed()
        daemon.wait_for_line("connection to the front-end failed")
        front_end = self.connect()
        self.assertNotEqual(front_end.features(), 0)
        front_end.close()
        self.assertEqual(daemon.wait(), 0)

    def test_Signals_EndTheDaemonWellWhereverItIs(self):
        for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
            with self.subTest(number, state="waiting"):
                daemon = self.start()
                daemon.signal(number)
                self.assertEqual(daemon.wait(), 0)
                self.assertFalse(os.path.exists(self.socket))
                self.assertIn(f"ending: {number.name.replace('SIG', 'signal ')}", daemon.log[-1])
            with self.subTest(number, state="connected"):
                daemon = self.start("--keep-listening")
                front_end = self.connect()
                self.assertNotEqual(front_end.features(), 0)
                daemon.signal(number)
                self.assertEqual(daemon.wait(), 0)
                front_end.close()

    def test_SilentConnection_DoesNotHoldUpTheEnd(self):
        daemon = self.start("--log-level=trace")
        self.connect()
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)

    def test_StaleSocket_IsReplaced(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
            stale.bind(self.socket)
        daemon = self.start()
        self.assertNotEqual(self.connect().features(), 0)
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)

    def test_SocketFile_IsTheOwnersOrTheGroups(self):
        daemon = self.start()
        self.assertEqual(stat.S_IMODE(os.stat(self.socket).st_mode), 0o600)
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        group = grp.getgrgid(os.getgid())
        daemon = self.start("--socket-group=" + group.gr_name)
        self.assertEqual(stat.S_IMODE(os.stat(self.socket).st_mode), 0o660)
        self.assertEqual(os.stat(self.socket).st_gid, group.gr_gid)

    def test_DescriptorLimit_IsTheOneAskedFor(self):
        daemon = self.start("--rlimit-nofile=900")
        with open(f"/proc/{daemon.process.pid}/limits", encoding="ascii") as limits:
            line = next(line for line in limits if line.startswith("Max open files"))
        self.assertEqual(line.split()[3], "900")

    def test_OptionWithoutEffect_IsSaidInTheLog(self):
        daemon = self.start("-o", "max_idle_threads=10")
        self.assertTrue(any("max_idle_threads has no effect" in line for line in daemon.log), daemon.log)

    def test_RelativeSocketPath_IsRemovedAtTheEnd(self):
        daemon = Daemon("--shared-dir=share", "--socket-path=socket", cwd=self.directory)
        self.addCleanup(daemon.kill)
        self.assertTrue(os.path.exists(self.socket))
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        self.assertFalse(os.path.exists(self.socket))


class Background(Case):
    def start_in_background(self, *arguments, **popen):
        """Starts with --daemonize; the socket listens once this returns. A front-end that has said something."""
        code, output, lines = run(*arguments, "--daemonize", **popen)
        self.assertEqual((code, output), (0, ""), lines)
        front_end = self.connect()
        self.assertNotEqual(front_end.features(), 0)
        return front_end

    def test_Daemonize_ReturnsOnceTheSocketListens(self):
        front_end = self.start_in_background(*self.arguments())
        pid = front_end.pid()
        # Its own session, and nothing of ours in use.
        self.assertEqual(os.getsid(pid), pid)
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        for number in range(3):
            self.assertEqual(os.readlink(f"/proc/{pid}/fd/{number}"), "/dev/null")
        front_end.close()
        wait_for_end(pid)
        self.assertFalse(os.path.exists(self.socket))

    def test_DaemonizeWithASocketOnStandardInput_KeepsTheSocket(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.socket)
            listener.listen()
            code = subprocess.run([VIRTIOFSD, "--fd=0", "--shared-dir=" + self.share, "--daemonize"], stdin=listener,
                                  stderr=subprocess.DEVNULL, check=False).returncode
        self.assertEqual(code, 0)
        front_end = self.connect()
        self.assertNotEqual(front_end.features(), 0)
        front_end.close()

    def test_DaemonizeWithARelativeSocketPath_RemovesItAtTheEnd(self):
        front_end = self.start_in_background("--shared-dir=share", "--socket-path=socket", cwd=self.directory)
        pid = front_end.pid()
        front_end.close()
        wait_for_end(pid)
        self.assertFalse(os.path.exists(self.socket))

    def test_DaemonizeAndForeground_TheLastOneWins(self):
        daemon = self.start("--daemonize", "-f")
        self.assertEqual(self.connect().pid(), daemon.process.pid)


if __name__ == "__main__":
    VIRTIOFSD = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
