"""bench/report.py: verdicts from figures, and what it leaves alone in the file that it writes into."""

import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import report  # pylint: disable=wrong-import-position


def figures(operations, cpu=1.0, p50=10.0):
    return {"operations_per_second": operations, "megabytes_per_second": 0.0, "p50_us": p50, "p99_us": p50,
            "p999_us": p50, "cpu_us_per_operation": cpu, "kicks_per_operation": 1.0, "interrupts_per_operation": 1.0,
            "peak_mib": 10.0, "descriptors": 20.0}


def results(cases, cpus=2):
    """`cases`: (workload, depth, queues, figures by server; None for what was not measured)."""
    return {"date": "2026-01-01T00:00:00Z", "directory": "/dev/shm", "file_system": "tmpfs",
            "machine": {"cpu": "A CPU", "cpus": cpus, "memory": "1 kB", "kernel": "Linux"},
            "options": {"rounds": 3, "seconds": 1.0, "warmup": 0.2, "ring_size": 1024},
            "servers": [{"name": "ours", "command": "/bin/true"}, {"name": "C", "command": "/bin/true"}],
            "results": [{"workload": workload, "depth": depth, "queues": queues, "wait": "irq",
                         "servers": [{"server": name, **({"median": one} if one else {"not_measured": "why"})}
                                     for name, one in servers.items()]}
                        for workload, depth, queues, servers in cases]}


class ReportTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="report-test.")
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def results_of(self, cases, cpus=2):
        path = self.directory / "main.json"
        path.write_text(json.dumps(results(cases, cpus)), encoding="utf-8")
        return report.Results(path)

    def row(self, text, *beginning):
        """The cells of the row of a table that begins with these."""
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells[:len(beginning)] == list(beginning):
                return cells
        self.fail(f"no row {beginning} in\n{text}")

    def test_a_bar_is_passed_at_its_limit_and_failed_beyond(self):
        text = report.bars(self.results_of([
            ("nop", 32, 1, {"ours": figures(2000, cpu=0.51), "C": figures(1000, cpu=1.0)}),
            ("getattr", 1, 1, {"ours": figures(1, p50=6.0), "C": figures(1, p50=10.0)})]))
        self.assertEqual(self.row(text, "nop", "32", "operations")[-3:], ["2.00", "≥ 2.00", "pass"])
        self.assertEqual(self.row(text, "nop", "32", "CPU per operation")[-3:], ["0.51", "≤ 0.50", "**fail**"])
        self.assertEqual(self.row(text, "getattr", "1", "p50")[-3:], ["0.60", "≤ 0.60", "pass"])

    def test_what_was_not_measured_is_neither_passed_nor_failed(self):
        text = report.bars(self.results_of([("nop", 32, 1, {"ours": figures(1), "C": None})]))
        self.assertEqual(self.row(text, "nop", "32", "operations")[-1], "not measured")
        self.assertEqual(self.row(text, "seqread1m", "8", "operations")[-1], "not measured")

    def test_two_queues_have_to_win_only_where_cpus_allow(self):
        cases = [("getattr", 32, queues, {"ours": figures(1000 + 200 * queues), "C": None}) for queues in (1, 2)]
        few = report.queue_bars(self.results_of(cases, cpus=2))
        self.assertEqual(self.row(few, "getattr")[-2:], ["≥ 1.00", "pass"])
        many = report.queue_bars(self.results_of(cases, cpus=4))
        self.assertEqual(self.row(many, "getattr")[-2:], ["≥ 1.50", "**fail**"])

    def test_what_stands_around_the_section_stays(self):
        self.results_of([("nop", 32, 1, {"ours": figures(3), "C": figures(1)})])
        once = report.merge("# Title\n\nBefore.\n", report.section(self.directory, "chart.svg"))
        twice = report.merge(once + "\nAfter.\n", report.section(self.directory, "chart.svg"))
        self.assertTrue(twice.startswith("# Title\n\nBefore.\n\n" + report.BEGIN))
        self.assertTrue(twice.endswith(report.END + "\nAfter.\n"), twice)
        self.assertEqual(twice.count(report.BEGIN), 1)
        self.assertEqual(twice.count("### Bars"), 1)
        self.assertIn("![Operations per second, relative to the C virtiofsd](chart.svg)", twice)

    def test_a_new_file_gets_a_title(self):
        self.assertTrue(report.merge("", "text").startswith("# Benchmarks\n"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
