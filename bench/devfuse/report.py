"""The measured section of docs/devfuse-benchmarks.md."""

import dataclasses
import importlib.util
import os
from pathlib import Path

import peers
import served

# bench/report.py, which is of the same name.
_spec = importlib.util.spec_from_file_location("bench_report", served.REPOSITORY / "bench/report.py")
common = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(common)

NEW = """# Benchmarks of /dev/fuse

`bench/devfuse/run` measures and writes what follows; `bench/devfuse/peers.py` lists who is compared.

"""


@dataclasses.dataclass(frozen=True)
class Bar:
    """What our peer must reach, as a multiple of the other's operations per second."""

    workload: str
    jobs: int
    where: str
    ours: str
    other: str
    at_least: float


def _classic_bars():
    """As programs run unless told otherwise, and with a descriptor for each thread."""
    for mode in ("threads", "clone_fd"):
        for where in ("anywhere", "one CPU"):
            for workload in ("stat", "open-close", "create-unlink", "readdir", "randread4k"):
                yield Bar(workload, 1, where, f"ours, {mode}", f"libfuse, {mode}", 1.3)
        for workload in ("stat", "randread4k"):
            yield Bar(workload, 4, "anywhere", f"ours, {mode}", f"libfuse, {mode}", 1.3)


BARS = [
    *_classic_bars(),
    *(Bar("randread4k", 1, where, "ours, io_uring", "libfuse, threads", 3.0) for where in ("anywhere", "one CPU")),
    Bar("seqread1m", 1, "anywhere", "ours, io_uring", "ours, threads", 1.0),
    Bar("seqwrite1m", 1, "anywhere", "ours, io_uring", "ours, threads", 1.0),
    *(Bar(workload, 1, "anywhere", f"{ours}, backing file{place}", f"native{place}", 0.9) for place in ("", ", disk")
      for ours in ("ours", "C++") for workload in ("randread4k", "randwrite4k", "seqread1m", "seqwrite1m")),
]


def bars(results):
    found = {(case["workload"], case["jobs"], case["where"], case["peer"]): case for case in results["cases"]}
    rows = []
    for bar in BARS:
        ours = found.get((bar.workload, bar.jobs, bar.where, bar.ours))
        other = found.get((bar.workload, bar.jobs, bar.where, bar.other))
        row = [bar.workload, bar.jobs, bar.where, bar.ours, bar.other]
        if ours is None or other is None:
            rows.append([*row, "–", f"≥ {bar.at_least:.2f}", "not measured"])
            continue
        quotient = round(ours["operations_per_second"] / other["operations_per_second"], 2)
        rows.append([*row, f"{quotient:.2f}", f"≥ {bar.at_least:.2f}", common.verdict(quotient >= bar.at_least)])
    return common.table(["workload", "jobs", "where", "ours", "other", "ours / other", "bar", ""], rows, 5)


def figures(results, group):
    rows = []
    for case in results["cases"]:
        if case["group"] != group:
            continue
        megabytes = case["megabytes_per_second"]
        rows.append([case["workload"], case["jobs"], case["where"], case["peer"], common.number(case["operations_per_second"]),
                     f"{common.number(case['least'])} – {common.number(case['most'])}",
                     common.number(megabytes) if megabytes else "–", common.number(case["p50_us"]),
                     common.number(case["p99_us"]), common.number(case["cpu_us_per_operation"])])
    return common.table(["workload", "jobs", "where", "peer", "ops/s", "least – most", "MB/s", "p50 µs", "p99 µs", "CPU µs/op"],
                        rows, 4)


def memory(results):
    rows = [[one["peer"], one["threads"], common.number(one["kib"]),
             "–" if one["kib_per_thread"] is None else common.number(one["kib_per_thread"])] for one in results["memory"]]
    return common.table(["peer", "threads", "anonymous KiB", "KiB per further thread"], rows)


def setting(results):
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
                if line.startswith("model name")), "unknown")
    library = common.output_of("dpkg-query", "-W", "-f=${Version}", "libfuse3-3") or "unknown"
    commit = common.output_of("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    commands = "\n".join(f"  - {peer.name}: `{Path(peer.program).name} {' '.join(peer.arguments)}`"
                         for peer in peers.PEERS if peer.program is not None)
    return (f"- {results['date']}, commit {commit}; {cpu}, {os.cpu_count()} CPUs, Linux {os.uname().release}, "
            f"libfuse {library}; share on tmpfs, \"disk\" on {results['disk']}\n"
            f"- {results['rounds']} runs of {results['seconds']:g} s of each peer, mounted alone, in turns, after as long a "
            "time unmeasured; the figures are medians. CPU is the server's alone\n"
            f"- peers:\n{commands}" + "".join(f"\n- not measured: {missing}" for missing in results["missing"]))


def write(results, output):
    section = "\n\n".join(["## Measured", setting(results), "### Bars", bars(results), "### Requests over /dev/fuse",
                           figures(results, peers.CLASSIC), "### Backing files", figures(results, peers.BACKING),
                           "### Backing files on a disk", figures(results, peers.BACKING_DISK),
                           "### Memory", memory(results)])
    old = output.read_text(encoding="utf-8") if output.exists() else NEW
    output.write_text(common.merge(old, section), encoding="utf-8")
