#!/usr/bin/env python3
"""Writes the measured section of docs/benchmarks.md from the results of bench/compare.

Usage: report.py RESULTS_DIRECTORY OUTPUT. What stands outside of the two markers in OUTPUT stays as it is.
"""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

BEGIN = "<!-- measured: written by bench/compare, do not edit -->"
END = "<!-- measured: end -->"
NEW = """# Benchmarks

`bench/compare` measures and writes what follows; [virtiofs-bench.md](virtiofs-bench.md) says what each workload does.

"""


@dataclasses.dataclass
class Bar:
    """What issue 3 wants of one workload: limits of our median divided by the C virtiofsd's."""

    workload: str
    depth: int
    figure: str
    at_least: float | None = None
    at_most: float | None = None


OPERATIONS = "operations_per_second"
CPU = "cpu_us_per_operation"
P50 = "p50_us"
FIGURES = {OPERATIONS: "operations", CPU: "CPU per operation", P50: "p50"}
BARS = [
    Bar("nop", 32, OPERATIONS, at_least=2.0),
    Bar("nop", 32, CPU, at_most=0.5),
    Bar("getattr", 32, OPERATIONS, at_least=1.8),
    Bar("getattr", 32, CPU, at_most=0.55),
    Bar("lookup-hit", 32, OPERATIONS, at_least=1.4),
    Bar("lookup-hit", 32, CPU, at_most=0.7),
    Bar("randread4k", 32, OPERATIONS, at_least=1.4),
    Bar("randread4k", 32, CPU, at_most=0.7),
    Bar("randwrite4k", 32, OPERATIONS, at_least=1.1),
    Bar("readdirplus", 1, OPERATIONS, at_least=1.8),
    Bar("create-unlink", 1, OPERATIONS, at_least=1.2),
    Bar("getattr", 1, P50, at_most=0.6),
    Bar("lookup-hit", 1, P50, at_most=0.6),
    Bar("randread4k", 1, P50, at_most=0.6),
    Bar("seqread1m", 8, OPERATIONS, at_least=1.0),
    Bar("seqwrite1m", 8, OPERATIONS, at_least=1.0),
]
# Two queues against one, with two driver threads: needs a CPU for each of four threads.
QUEUES_BAR = 1.5
QUEUES_WORKLOADS = ("getattr", "randread4k")
QUEUES_CPUS = 4
MILLION_PEAK_MIB = 150
MILLION_DESCRIPTORS = 20000


def table(headings, rows, text_columns=1):
    """A Markdown table; columns after the first ones are aligned to the right."""
    lines = [headings, ["---"] * text_columns + ["--:"] * (len(headings) - text_columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value):
    """Three digits that count, thousands apart."""
    if value == 0:
        return "0"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def verdict(passed):
    return "pass" if passed else "**fail**"


class Results:
    """One JSON file of virtiofs-bench."""

    def __init__(self, path):
        self.all = json.loads(path.read_text(encoding="utf-8"))
        self.servers = [server["name"] for server in self.all["servers"]]

    def median(self, server, **case):
        """The figures of a server in the only case that is so; None: not measured."""
        found = [entry for result in self.all["results"] if all(result[key] == value for key, value in case.items())
                 for entry in result["servers"] if entry["server"] == server]
        if len(found) > 1:
            raise LookupError(f"{case} is not one case but {len(found)}")
        return found[0].get("median") if found else None

    def comparison(self):
        """Every case: the servers' operations, CPU and latencies, with the ratios of the first to each other one."""
        headings = ["workload", "depth", "server", "ops/s", "MB/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/op",
                    "kicks/op", "irqs/op", "peak MiB", "fds", "ops ratio", "CPU ratio", "p50 ratio"]
        rows = []
        for result in self.all["results"]:
            first = result["servers"][0].get("median")
            for entry in result["servers"]:
                row = [result["workload"], result["depth"], entry["server"]]
                own = entry.get("median")
                if own is None:
                    rows.append(row + ["–"] * (len(headings) - len(row)))
                    continue
                row += [number(own[OPERATIONS]), number(own["megabytes_per_second"]) if own["megabytes_per_second"]
                        else "–", number(own[P50]), number(own["p99_us"]), number(own["p999_us"]), number(own[CPU]),
                        f"{own['kicks_per_operation']:.3f}", f"{own['interrupts_per_operation']:.3f}",
                        f"{own['peak_mib']:.1f}", f"{own['descriptors']:.0f}"]
                if entry is result["servers"][0] or first is None:
                    row += ["", "", ""]
                else:
                    row += [ratio(first, own, figure) for figure in (OPERATIONS, CPU, P50)]
                rows.append(row)
        return table(headings, rows, 3)


def ratio(ours, theirs, figure):
    return f"{ours[figure] / theirs[figure]:.2f}" if theirs[figure] else "–"


def bars(main):
    rows = []
    for bar in BARS:
        case = {"workload": bar.workload, "depth": bar.depth}
        ours, theirs = main.median("ours", **case), main.median("C", **case)
        limit = f"≥ {bar.at_least:.2f}" if bar.at_least is not None else f"≤ {bar.at_most:.2f}"
        if ours is None or theirs is None or not theirs[bar.figure]:
            rows.append([bar.workload, bar.depth, FIGURES[bar.figure], "–", "–", "–", limit, "not measured"])
            continue
        quotient = round(ours[bar.figure] / theirs[bar.figure], 2)
        passed = quotient >= bar.at_least if bar.at_least is not None else quotient <= bar.at_most
        rows.append([bar.workload, bar.depth, FIGURES[bar.figure], number(ours[bar.figure]),
                     number(theirs[bar.figure]), f"{quotient:.2f}", limit, verdict(passed)])
    return table(["workload", "depth", "what", "ours", "C", "ours / C", "bar", ""], rows, 3)


def queue_bars(queues):
    """Two queues of our own against one."""
    cpus = queues.all["machine"]["cpus"]
    rows = []
    for workload in dict.fromkeys(result["workload"] for result in queues.all["results"]):
        one = queues.median("ours", workload=workload, queues=1)
        two = queues.median("ours", workload=workload, queues=2)
        if one is None or two is None:
            rows.append([workload, "–", "–", "–", "", "not measured"])
            continue
        quotient = round(two[OPERATIONS] / one[OPERATIONS], 2)
        limit = QUEUES_BAR if workload in QUEUES_WORKLOADS and cpus >= QUEUES_CPUS else 1.0
        rows.append([workload, number(one[OPERATIONS]), number(two[OPERATIONS]), f"{quotient:.2f}", f"≥ {limit:.2f}",
                     verdict(quotient >= limit)])
    text = table(["workload", "one queue, ops/s", "two queues, ops/s", "two / one", "bar", ""], rows)
    if cpus < QUEUES_CPUS:
        text += (f"\n\nThe bar of {QUEUES_BAR} asks for a CPU for each of two driver threads and two workers; with the "
                 f"{cpus} of this machine it is \"never slower\".")
    return text


def million_bars(million):
    figures = [entry["median"] for result in million.all["results"] for entry in result["servers"]
               if "median" in entry]
    if not figures:
        return "Not measured."
    peak = max(one["peak_mib"] for one in figures)
    descriptors = max(one["descriptors"] for one in figures)
    return table(["", "measured", "bar", ""],
                 [["peak resident memory, MiB", f"{peak:.1f}", f"≤ {MILLION_PEAK_MIB}",
                   verdict(peak <= MILLION_PEAK_MIB)],
                  ["open descriptors", f"{descriptors:.0f}", f"≤ {MILLION_DESCRIPTORS}",
                   verdict(descriptors <= MILLION_DESCRIPTORS)]])


def system_calls(path):
    """What the calls cost alone: the limit under the daemon's CPU time for an operation."""
    found = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    rows = [[one["run_name"], f"{one['cpu_time'] / 1000:.2f}"] for one in found if one.get("aggregate_name") == "median"]
    return table(["system call", "µs"], rows)


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def version_of(server):
    """What the server says of itself: the first line of --version."""
    words = server["command"].split()
    program = next((word for word in words if word.startswith("/")), words[0])
    return output_of(program, "--version").split("\n")[0] or "version unknown"


def setting(main):
    machine, options = main.all["machine"], main.all["options"]
    commit = output_of("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    changed = output_of("git", "status", "--porcelain", "--untracked-files=no", "--", "src", "tools", "CMakeLists.txt",
                        "cmake")
    lines = [f"- {main.all['date']}, commit {commit}{' with local changes' if changed else ''}",
             f"- {machine['cpu']}, {machine['cpus']} CPUs, {machine['memory']} of memory, {machine['kernel']}",
             f"- files on {main.all['file_system']} ({main.all['directory']})",
             f"- {options['rounds']} runs of {options['seconds']:g} s of each server, in turns, after "
             f"{options['warmup']:g} s of warm-up each; rings of {options['ring_size']}; the figures are medians, the "
             "ratios are ours divided by theirs"]
    root = str(pathlib.Path.cwd())
    for server in main.all["servers"]:
        command = server["command"].replace(root + "/", "")
        lines.append(f"- {server['name']}: {version_of(server)}: `{command}`")
    return "\n".join(lines)


def section(directory, chart):
    main = Results(directory / "main.json")
    parts = [setting(main), "### Bars\n\n" + bars(main)]
    if (directory / "queues.json").exists():
        parts.append("### Two queues\n\n" + queue_bars(Results(directory / "queues.json")))
    if (directory / "million.json").exists():
        parts.append("### A million known inodes\n\nWith `--rlimit-nofile=20000`, one queue, a million files looked "
                     "up:\n\n" + million_bars(Results(directory / "million.json")))
    if (directory / "syscalls.json").exists():
        parts.append("### Bare system calls\n\nThe same calls from a loop, in the same minutes: what the daemon cannot do "
                     "without.\n\n" + system_calls(directory / "syscalls.json"))
    if chart:
        parts.append(f"### Every workload\n\n![Operations per second, relative to the C virtiofsd]({chart})")
        parts.append(main.comparison())
    else:
        parts.append("### Every workload\n\n" + main.comparison())
    if (directory / "poll.json").exists():
        parts.append("### With a driver that polls\n\nThe driver spins instead of sleeping until the signal: no wake-up "
                     "of its own is in the figures.\n\n" + Results(directory / "poll.json").comparison())
    return "## Measured\n\n" + "\n\n".join(parts)


def merge(old, new):
    """`old` with what is between the markers replaced; without markers it goes to the end."""
    marked = f"{BEGIN}\n\n{new}\n\n{END}\n"
    if BEGIN not in old or END not in old:
        return (old.rstrip("\n") + "\n\n" if old else NEW) + marked
    before, rest = old.split(BEGIN, 1)
    return before + marked + rest.split(END, 1)[1].lstrip("\n")


def main():
    directory, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    chart = ""
    if (directory / "main.svg").exists():
        chart = output.with_suffix(".svg").name
        shutil.copyfile(directory / "main.svg", output.with_suffix(".svg"))
    old = output.read_text(encoding="utf-8") if output.exists() else ""
    output.write_text(merge(old, section(directory, chart)), encoding="utf-8")


if __name__ == "__main__":
    main()
