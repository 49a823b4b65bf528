"""virtiofs-bench as its user sees it: what it prints and writes, its exit status, and what it leaves behind.

Usage: bench_test.py VIRTIOFS_BENCH VIRTIOFSD VIRTIOFS_MOUNT [unittest arguments]. Waits on events only; ctest's time limit is for a
program that hangs.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

BENCH = ""
VIRTIOFSD = ""
VIRTIOFS_MOUNT = ""
C_VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
# A tree that is made in no time, and runs that are long enough for some operations.
QUICK = ["--seconds=0.02", "--warmup=0.01", "--files=200", "--storm-files=100", "--file-size=4M"]


def ours(*options):
    # A queue that polls may need no kick at all in so short a run.
    return " ".join([VIRTIOFSD, "--socket-path={socket}", "--shared-dir={dir}", "--sandbox=none", "--poll-us=0", *options])


def run(*arguments):
    """Runs virtiofs-bench to its end: status, standard output, standard error."""
    done = subprocess.run([BENCH, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


class Fifo:
    """What a server's command tells us: its process id."""

    def __init__(self, path):
        os.mkfifo(path)
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def pidfd(self, bench):
        """Waits until the id is there, but not longer than `bench` lives."""
        watched = os.pidfd_open(bench.pid)
        readable = select.select([self.fd, watched], [], [])[0]
        os.close(watched)
        assert self.fd in readable, "virtiofs-bench ended before its server had started"
        return os.pidfd_open(int(os.read(self.fd, 64)))

    def close(self):
        os.close(self.fd)
        os.remove(self.path)


class BenchTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="bench-test.")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def path(self, name):
        return os.path.join(self.directory, name)


class Measures(BenchTest):
    def measure(self, *arguments):
        """Status 0, and the JSON."""
        status, output, error = run(*QUICK, f"--dir={self.directory}", f"--json={self.path('json')}", *arguments)
        self.assertEqual((status, error), (0, ""))
        self.assertEqual(sorted(os.listdir(self.directory)), ["json"], "nothing else is left behind")
        with open(self.path("json"), encoding="utf-8") as file:
            return output, json.load(file)

    def check_figures(self, figures):
        self.assertGreater(figures["operations_per_second"], 0)
        self.assertLessEqual(figures["p50_us"], figures["p99_us"])
        self.assertLessEqual(figures["p99_us"], figures["p999_us"])
        self.assertGreater(figures["cpu_us_per_operation"], 0)
        self.assertGreater(figures["kicks_per_operation"], 0)
        self.assertGreater(figures["interrupts_per_operation"], 0)
        self.assertGreater(figures["peak_mib"], 0)
        self.assertGreater(figures["descriptors"], 0)

    def test_server_and_peer_are_measured_in_every_case(self):
        output, measured = self.measure(f"--start={ours()}", f"--peer={ours('--num-request-queues=1')}",
                                        "--names=one,other", "--workloads=getattr,randread4k", "--qd=1,4",
                                        "--queues=1,2", "--rounds=2")
        self.assertEqual([server["name"] for server in measured["servers"]], ["one", "other"])
        self.assertEqual([server["request_queues"] for server in measured["servers"]], [2, 1])
        self.assertEqual(measured["directory"], self.directory)
        cases = [(case["workload"], case["queues"], case["depth"], case["wait"]) for case in measured["results"]]
        self.assertEqual(cases, [(workload, queues, depth, "irq") for workload in ("getattr", "randread4k")
                                 for queues in (1, 2) for depth in (1, 4)])
        for case in measured["results"]:
            one, other = case["servers"]
            self.assertEqual(len(one["runs"]), 2)
            for figures in [one["median"], *one["runs"]]:
                self.check_figures(figures)
            if case["queues"] == 1:
                self.check_figures(other["median"])
            else:
                self.assertEqual(other["not_measured"], "it has 1 of 2 request queues")
        self.assertIn("ops ratio", output)

    def test_every_workload_by_default(self):
        _, measured = self.measure(f"--start={ours()}", "--qd=2", "--rounds=1")
        workloads = [case["workload"] for case in measured["results"]]
        self.assertEqual(len(workloads), len(set(workloads)))
        self.assertGreaterEqual(set(workloads), {"nop", "readdirplus", "append-fsync"})
        for case in measured["results"]:
            with self.subTest(case["workload"]):
                self.check_figures(case["servers"][0]["median"])

    def test_uid(self):
        _, measured = self.measure(f"--start={ours()}", "--uid=1234", "--workloads=create-unlink", "--rounds=1")
        self.assertEqual(measured["options"]["uid"], 1234)

    def test_packed_rings(self):
        _, measured = self.measure(f"--start={ours()}", "--packed", "--workloads=nop,seqwrite1m", "--rounds=1")
        self.assertTrue(int(measured["servers"][0]["features"], 16) & 1 << 34)
        for case in measured["results"]:
            self.check_figures(case["servers"][0]["median"])

    def test_markdown(self):
        output, _ = self.measure(f"--start={ours()}", "--workloads=nop", "--qd=1", "--rounds=1", "--markdown")
        lines = [line for line in output.splitlines() if line.startswith("|")]
        self.assertEqual(len(lines), 3)
        self.assertEqual({line.count("|") for line in lines}, {lines[0].count("|")})

    @unittest.skipUnless(shutil.which("gnuplot"), "gnuplot is not installed")
    def test_svg(self):
        with tempfile.NamedTemporaryFile(suffix=".svg") as chart:
            self.measure(f"--start={ours()}", f"--peer={ours()}", "--names=left,right", "--workloads=nop,getattr",
                         "--qd=1", "--rounds=1", f"--svg={chart.name}")
            text = "".join(xml.etree.ElementTree.parse(chart.name).getroot().itertext())
        for word in ("left", "right", "nop", "getattr"):
            self.assertIn(word, text)

    def test_a_server_that_runs(self):
        share = self.path("share")
        os.mkdir(share)
        command = ours().format(socket=self.path("socket"), dir=share).split()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
            for line in daemon.stderr:
                if "waiting for a front-end" in line:
                    break
            status, _, error = run(*QUICK, f"--socket={self.path('socket')}", "--workloads=getattr", "--rounds=1",
                                   f"--json={self.path('json')}")
            daemon.stderr.read()
            self.assertEqual(daemon.wait(), 0, "it ended when its front-end had gone")
        self.assertEqual((status, error), (0, ""))
        with open(self.path("json"), encoding="utf-8") as file:
            self.check_figures(json.load(file)["results"][0]["servers"][0]["median"])
        self.assertEqual(os.listdir(share), [], "the tree was removed through FUSE")


@unittest.skipUnless(os.geteuid() == 0 and os.path.exists("/dev/fuse"), "mounting needs root and /dev/fuse")
class Replays(BenchTest):
    def record(self, contents, work):
        """The recording of `work`, which gets the mount point, on a copy of the directory `contents`."""
        share, mountpoint, socket = self.path("recorded"), self.path("mount"), self.path("socket")
        shutil.copytree(contents, share)
        os.mkdir(mountpoint)
        with subprocess.Popen(ours().format(socket=socket, dir=share).split(), stderr=subprocess.PIPE,
                              text=True) as daemon:
            for line in daemon.stderr:
                if "waiting for a front-end" in line:
                    break
            subprocess.run([VIRTIOFS_MOUNT, "--record", self.path("recording"), socket, mountpoint], check=True)
            try:
                work(mountpoint)
            finally:
                subprocess.run(["umount", mountpoint], check=True)
            daemon.stderr.read()
        return self.path("recording")

    @staticmethod
    def work(mountpoint):
        """Some of everything: files and directories that were there, that are made, and that go away."""
        def path(*names):
            return os.path.join(mountpoint, *names)
        os.makedirs(path("made", "deeper"))
        for number in range(50):
            with open(path("made", f"file{number}"), "wb") as file:
                file.write(os.urandom(10000 * number))
        for number in range(0, 50, 2):
            os.rename(path("made", f"file{number}"), path("made", "deeper", f"moved{number}"))
        for number in range(1, 50, 4):
            os.unlink(path("made", f"file{number}"))
        os.symlink("target", path("link"))
        os.readlink(path("link"))
        with open(path("there", "old"), "r+b") as file:
            file.read()
            file.write(b"more")
            os.fsync(file.fileno())
        for _ in os.walk(mountpoint):
            pass
        shutil.rmtree(path("there", "gone"))

    def replay(self, *arguments):
        status, output, error = run(f"--json={self.path('json')}", *arguments)
        self.assertEqual((status, error), (0, ""), output)
        with open(self.path("json"), encoding="utf-8") as file:
            measured = json.load(file)
        self.assertEqual(measured["notes"], [], "every reply had the recorded outcome")
        case, = measured["results"]
        self.assertEqual(case["workload"], "replay")
        for server in case["servers"]:
            self.assertGreater(server["median"]["operations_per_second"], 0)
        return case

    @staticmethod
    def listing(directory):
        """Kind, name, size, target, links and mode of everything below."""
        done = subprocess.run(["find", directory, "-printf", "%y %P %s %l %n %m\n"], check=True, capture_output=True,
                              text=True)
        return sorted(line for line in done.stdout.splitlines() if not line.startswith("d  "))

    def test_a_recording_replays_on_every_server(self):
        contents = self.path("contents")
        os.makedirs(os.path.join(contents, "there", "gone", "nested"))
        with open(os.path.join(contents, "there", "old"), "wb") as file:
            file.write(b"old" * 5000)
        recording = self.record(contents, self.work)

        shutil.copytree(contents, self.path("replayed"))
        fixed = ours().replace("{dir}", self.path("replayed"))
        self.replay(f"--replay={recording}", f"--start={fixed}", "--rounds=1")
        self.assertEqual(self.listing(self.path("replayed")), self.listing(self.path("recorded")))

        peers = [f"--peer={ours('--num-request-queues=1')}"]
        if os.access(C_VIRTIOFSD, os.X_OK):
            peers.append(f"--peer={C_VIRTIOFSD} --socket-path={{socket}} -o source={{dir}} -o sandbox=chroot")
        case = self.replay(f"--replay={recording}", f"--contents={contents}", f"--dir={self.directory}",
                           "--wait=poll", "--rounds=2", f"--start={ours()}", *peers)
        self.assertEqual([len(server["runs"]) for server in case["servers"]], [2] * (1 + len(peers)))


class Fails(BenchTest):
    def test_a_server_that_ends_at_once(self):
        status, _, error = run(*QUICK, "--start=echo no room in {socket} >&2; exit 3", f"--dir={self.directory}")
        self.assertEqual(status, 1)
        self.assertIn("the server ended with status 3 before it listened", error)
        self.assertIn("no room in", error)
        self.assertEqual(os.listdir(self.directory), [])

    def test_a_server_that_cannot_be_killed_politely(self):
        # Its child ignores SIGTERM and keeps running when the shell has ended.
        fifo = Fifo(self.path("fifo"))
        command = f"trap '' TERM; sh -c 'echo $$ > {fifo.path}; exec sleep 1000' & exit 1 # {{socket}}"
        with subprocess.Popen([BENCH, *QUICK, f"--start={command}", f"--dir={self.directory}"],
                              stderr=subprocess.DEVNULL) as bench:
            child = fifo.pidfd(bench)
            self.assertEqual(bench.wait(), 1)
        self.assertTrue(select.select([child], [], [])[0], "it has ended")
        os.close(child)
        fifo.close()

    def test_an_end_by_signal_ends_the_servers(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number.name):
                fifo = Fifo(self.path("fifo"))
                command = f"echo $$ > {fifo.path}; exec {ours()}"
                with subprocess.Popen([BENCH, *QUICK, f"--start={command}", "--seconds=3600",
                                       f"--dir={self.directory}"],
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as bench:
                    server = fifo.pidfd(bench)
                    bench.send_signal(number)
                    bench.stdout.read()
                    self.assertEqual(bench.wait(), 130)
                self.assertTrue(select.select([server], [], [], 0)[0], "the server has ended")
                os.close(server)
                fifo.close()
                self.assertEqual(os.listdir(self.directory), [])

    def test_nobody_listens(self):
        status, _, error = run("--socket", self.path("socket"))
        self.assertEqual(status, 1)
        self.assertIn(self.path("socket"), error)

    def test_outputs_that_cannot_be_written_are_found_before_the_measurement(self):
        for option in ("--json", "--svg"):
            status, output, error = run(f"--start={ours()}", f"{option}=/no/such/directory/file")
            self.assertEqual((status, output), (1, ""))
            self.assertIn("/no/such/directory/file cannot be written", error)


class Usage(BenchTest):
    def test_help(self):
        status, output, error = run("--help")
        self.assertEqual((status, error), (0, ""))
        for word in ("--start", "--peer", "--replay", "create-unlink", "irq, poll"):
            self.assertIn(word, output)

    def test_mistakes_have_status_2_and_a_pointer_to_the_help(self):
        for arguments in ([], ["--fast"], ["--start=x {socket}", "--workloads=fast"], ["--start=no placeholder"]):
            status, output, error = run(*arguments)
            self.assertEqual((status, output), (2, ""))
            self.assertTrue(error.startswith("virtiofs-bench: "), error)
            self.assertIn("See virtiofs-bench --help.", error)


if __name__ == "__main__":
    BENCH, VIRTIOFSD, VIRTIOFS_MOUNT = sys.argv[1:4]
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
