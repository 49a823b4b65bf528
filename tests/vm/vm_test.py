#!/usr/bin/env python3
"""Boots a Linux guest on a virtiofsd and checks one scenario. Standard library only.

    vm_test.py [--list] [--keep] [--virtiofsd=FILE] [--probe=FILE] [--work=FOLDER] SCENARIO...

FILE is the daemon under test (by default the release build's), the static helper that CMake builds; shares are made in
FOLDER. In the environment, FUSEWIRE_VIRTIOFSD overrides the daemon (QEMU's C virtiofsd works too, as far as it goes),
and FUSEWIRE_VIRTIOFSD_ARGS holds more arguments for it.

The exit status is 77 if QEMU, the guest kernel or root is missing, and only then. A failure prints the guest's console
and every daemon's log.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from vm_machine import Test  # which also makes the folder of daemons.py known
import served_programs
from daemons import (MIB, ROOT, SKIPPED, GuestScript, Settings, Unsupported, become_root, expect, expect_equal,
                     expect_same_lines, run_scenario, sha256)


def many(daemon):
    """How many files a guest may know of at once: 20,000, or fewer if each costs a descriptor and there are not so many."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if daemon.handles in ("prefer", "mandatory") or limit >= 30000:
        return 20000
    print(f"10,000 instead of 20,000 files: each needs a descriptor, and the hard limit is {limit}")
    return 10000


def compare_with_host(test, daemon, guest, folder):
    files = many(daemon)
    script = GuestScript(test.sockets / "bin")
    wanted = script.run(test.share("host"), files)
    status, got = guest.try_run(f"PROBE_BIG_FOLDER={files} sh /guest-script.sh {folder} /bin/guest-probe", 120)
    expect_equal(status, 0, "status of the guest script")
    expect_same_lines(wanted.replace(str(script.programs), "/bin"), got, "guest")


# The scenarios. Each begins with its daemons, so that one can be read by itself.

def same_as_host(test):
    """The guest script prints on the share what it prints on the host's own file system."""
    daemon = test.daemon(handles="prefer")
    guest = test.guest({"share": daemon})
    guest.mount()
    guest.run("mkdir /mnt/work")
    compare_with_host(test, daemon, guest, "/mnt/work")
    test.finish()


def reboot(test):
    """The guest restarts, in an orderly way and by surprise; the daemon stays and serves it again."""
    daemon = test.daemon()
    guest = test.guest({"share": daemon})
    at_start = daemon.descriptors()
    guest.mount()
    guest.run("mkdir /mnt/d && echo kept > /mnt/d/file && sync")
    guest.send("reboot -f")
    guest.await_ready()
    guest.mount()
    expect_equal(guest.run("cat /mnt/d/file"), "kept", "the file after a reboot")
    # Now with open files and a large cache of names in the daemon, and no word to it.
    guest.run("cd /mnt/d; for i in $(seq 300); do echo $i > f$i; done; ls -l > /dev/null;"
              "(exec 3< f1 4< f2 5> f3; sleep 1000) & sync")
    guest.command("system_reset")
    guest.await_ready()
    guest.mount()
    expect_equal(guest.run("cat /mnt/d/f300; ls /mnt/d | wc -l"), "300\n301", "the files after a reset")
    guest.run("echo again > /mnt/d/file; umount /mnt")
    expect_equal((daemon.share / "d/file").read_text(), "again\n", "what the guest wrote after a reset")
    daemon.expect_descriptors(at_start, "after a reboot, a reset and umount")
    test.finish()


def two_shares(test):
    """Two daemons and two tags in one guest do not mix."""
    one, two = test.daemon("one"), test.daemon("two")
    (one.share / "here").write_text("in one\n")
    (two.share / "here").write_text("in two\n")
    guest = test.guest({"first": one, "second": two})
    guest.mount("first", "/one")
    guest.mount("second", "/two")
    expect_equal(guest.run("cat /one/here /two/here"), "in one\nin two", "a file of the same name on both")
    guest.run("echo moved > /one/file; mv /one/file /two/file; cat /two/file; [ ! -e /one/file ]")
    expect_equal((two.share / "file").read_text(), "moved\n", "a file moved from one share to the other")
    status, output = guest.try_run("ln /one/here /two/linked")
    expect(status != 0 and "ross-device link" in output, f"a hard link between shares: {status} {output}")
    guest.run("guest-probe make-tree /one/tree 300 & guest-probe make-tree /two/tree 300 & wait; "
              "[ $(find /one/tree | wc -l) = $(find /two/tree | wc -l) ]")
    guest.run("umount /one; echo still > /two/still; cat /two/still")
    guest.mount("first", "/one")
    expect_equal(guest.run("cat /one/here"), "in one", "a share that was mounted again")
    test.finish()


def queues(test):
    """Four request queues and four processors; the guest script too, here with a descriptor for each file."""
    daemon = test.daemon(queues=4)
    guest = test.guest({"share": daemon}, smp=4, properties=["num-request-queues=4"])
    guest.mount()
    guest.run("mkdir /mnt/work")
    guest.run("for i in 1 2 3 4; do guest-probe make-tree /mnt/tree$i 500 & done; wait;"
              "for i in 1 2 3 4; do mkdir /mnt/h$i;"
              "  (guest-probe hammer /mnt/h$i /tmp/stop$i > /tmp/log$i 2>&1; echo $? > /tmp/status$i) & done;"
              "sleep 5; touch /tmp/stop1 /tmp/stop2 /tmp/stop3 /tmp/stop4; wait;"
              "cat /tmp/log?; [ \"$(cat /tmp/status? | tr -d '\\n')\" = 0000 ]", 90)
    compare_with_host(test, daemon, guest, "/mnt/work")
    test.finish()


def packed(test):
    """Packed rings: the guest script, work on two queues, and QEMU's stop, cont and reset in the middle of it."""
    daemon = test.daemon(queues=2)
    guest = test.guest({"share": daemon}, smp=2, properties=["num-request-queues=2", "packed=on"])
    # A character a feature bit; 34 is VIRTIO_F_RING_PACKED.
    expect_equal(guest.run("cut -c 35 /sys/bus/virtio/drivers/virtiofs/virtio*/features"), "1", "feature bit 34")
    guest.mount()
    guest.run("mkdir /mnt/work")
    compare_with_host(test, daemon, guest, "/mnt/work")
    guest.start_hammer()
    for _ in range(3):
        guest.command("stop")
        time.sleep(0.2)
        guest.command("cont")
        guest.await_rounds(3)
    guest.command("system_reset")
    guest.await_ready()
    guest.mount()
    guest.start_hammer()
    guest.await_rounds(20)
    guest.stop_hammer()
    test.finish()


def big_file(test):
    """256 MiB in each direction, with the same checksum on both sides."""
    daemon = test.daemon()
    size = 256 * MIB
    guest = test.guest({"share": daemon})
    subprocess.run([Settings.probe, "fill", daemon.share / "from-host", str(size), "1"], check=True)
    guest.mount()
    guest.run(f"guest-probe fill /mnt/from-guest {size} 2", 120)
    expect_equal((daemon.share / "from-guest").stat().st_size, size, "size of what the guest wrote")
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    for name in ("from-guest", "from-host"):
        in_guest = guest.run(f"sha256sum < /mnt/{name}", 120).split()[0]
        expect_equal(in_guest, sha256(daemon.share / name), f"checksum of {name}")
    test.finish()


def leak(test):
    """Descriptors and memory return to the start after walks over 20,000 files and umount, however files are kept."""
    for handles in ("never", "prefer"):
        daemon = test.daemon(handles, handles=handles)
        files = many(daemon)
        subprocess.run([Settings.probe, "make-tree", daemon.share / "tree", str(files)], check=True)
    guest = test.guest({daemon.name: daemon for daemon in test.daemons})
    for daemon in test.daemons:
        walk_and_forget(daemon, guest)
    test.finish()


def walk_and_forget(daemon, guest):
    files = sum(len(names) for _, _, names in os.walk(daemon.share))
    guest.mount(daemon.name)
    guest.run("cat /mnt/tree/folder-0/file-0; umount /mnt")
    descriptors, memory = daemon.descriptors(), daemon.anonymous_kib()
    after_first = None
    for walk in (1, 2):
        guest.mount(daemon.name)
        expect_equal(guest.run("find /mnt/tree -type f -exec stat -c %s {} + | sort | uniq -c", 120).split(),
                     [str(files), "6"], "what the walk saw")
        guest.run("find /mnt/tree -name '*7' -type f | xargs cat > /dev/null", 120)
        at_most = daemon.descriptors()
        if walk == 1:
            # Without umount: the guest forgets what it dropped from its cache, and so must the daemon.
            guest.run("echo 2 > /proc/sys/vm/drop_caches")
            daemon.expect_descriptors(descriptors + 20, "when the guest has dropped its caches")
        guest.run("umount /mnt")
        daemon.expect_descriptors(descriptors, "after umount")
        print(f"inode-file-handles={daemon.name}, walk {walk} over {files} files: descriptors "
              f"{descriptors} -> {at_most} -> {daemon.descriptors()}, "
              f"RssAnon {memory} -> {daemon.anonymous_kib()} KiB")
        after_first = after_first or daemon.anonymous_kib()
    if not daemon.sanitized():
        # What malloc keeps for the next time is allowed; what grows with every walk is not.
        expect(daemon.anonymous_kib() <= memory + 16 * 1024, "more than 16 MiB stay after umount")
        expect(daemon.anonymous_kib() <= after_first + 2 * 1024, "memory grows from walk to walk")


def daemon_exit(test):
    """The daemon ends with status 0 when QEMU goes away, also in the middle of work."""
    daemon = test.daemon()
    guest = test.guest({"share": daemon})
    guest.mount()
    guest.start_hammer()
    guest.process.kill()
    daemon.expect_exit()
    # The next one on the same path: what the first left behind must not be in its way.
    daemon.__init__(test, "share", daemon.share)
    guest = test.guest({"share": daemon})
    guest.mount()
    guest.run("ls /mnt/hammer")
    test.guests.pop(0).kill()
    test.finish()


def caches(test):
    """Every cache mode, and writeback: what one side writes the other reads, as soon as the mode promises it."""
    modes = {}
    for name in ("auto", "always", "never", "metadata", "writeback"):
        try:
            modes[name] = test.daemon(name, cache="auto" if name == "writeback" else name,
                                      writeback=name == "writeback")
        except Unsupported:
            test.share(name + "-unsupported")
            print(f"cache={name}: this peer has no such mode")
    for daemon in modes.values():
        (daemon.share / "from-host").write_text("first\n")
        (daemon.share / "folder").mkdir()
    guest = test.guest(modes)
    for name, daemon in modes.items():
        folder = f"/{name}"
        guest.mount(name, folder)
        expect_equal(guest.run(f"cat {folder}/from-host"), "first", f"{name}: a file of the host")
        guest.run(f"cd {folder}; seq 1 20000 > numbers; for i in 1 2 3; do echo line $i >> lines; done;"
                  "dd if=/dev/zero of=numbers bs=1 seek=7 count=3 conv=notrunc 2>/dev/null; truncate -s 50000 numbers;"
                  "sha256sum < numbers > sum; sync")
        expect_equal((daemon.share / "lines").read_text(), "line 1\nline 2\nline 3\n", f"{name}: lines of the guest")
        expect_equal((daemon.share / "sum").read_text().split()[0], sha256(daemon.share / "numbers"),
                     f"{name}: checksum of the guest's file")
        expect_equal((daemon.share / "numbers").stat().st_size, 50000, f"{name}: size of the guest's file")
        # Fill the caches with what the host is about to change.
        guest.try_run(f"cd {folder}; stat from-host; ls -l; cat later")

    # Host-side changes: at once where nothing is cached, after the time-out of a second with auto.
    for name, daemon in modes.items():
        (daemon.share / "from-host").write_text("changed, and longer\n")
        (daemon.share / "later").write_text("new\n")
        (daemon.share / "folder").rmdir()
    # Not with writeback: there the guest's idea of a file's size counts, for as long as it knows the file.
    for name, wait in (("never", 0), ("auto", 1.5)):
        if name in modes:
            time.sleep(wait)
            expect_equal(guest.run(f"cd /{name}; stat -c %s from-host; cat from-host later; ls -d folder 2>&1; true"),
                         "20\nchanged, and longer\nnew\nls: folder: No such file or directory",
                         f"{name}: what the host changed")
    # A file that the guest holds open: without a cache each read goes to the host.
    if "never" in modes:
        guest.run("exec 3< /never/from-host; dd bs=8 count=1 <&3 2>/dev/null; (cat <&3; sleep 0) > /dev/null")
        (modes["never"].share / "from-host").write_text("third\n")
        expect_equal(guest.run("cat /never/from-host"), "third", "never: a change right before the read")
    if "metadata" in modes:
        # Data is not cached, attributes are: bytes within the known size are the new ones.
        (modes["metadata"].share / "from-host").write_text("CHANGED, and longer\n")
        expect(guest.run("cat /metadata/from-host").startswith("CHANG"), "metadata: data must not be cached")
    # Writeback: what was only in the guest's cache reaches the host with umount.
    if "writeback" in modes:
        guest.run("for i in $(seq 200); do echo $i >> /writeback/appended; done; cp /writeback/numbers /writeback/copy;"
                  "umount /writeback")
        expect_equal((modes["writeback"].share / "appended").read_text().split(), [str(i) for i in range(1, 201)],
                     "writeback: lines after umount")
        expect_equal(sha256(modes["writeback"].share / "copy"), sha256(modes["writeback"].share / "numbers"),
                     "writeback: a copy after umount")
    test.finish()


def stop_and_reset(test):
    """QEMU's stop and cont, several times, and a reset, all in the middle of work on the share."""
    daemon = test.daemon()
    guest = test.guest({"share": daemon})
    guest.mount()
    guest.start_hammer()
    for _ in range(5):
        guest.command("stop")
        time.sleep(0.2)
        guest.command("cont")
        guest.await_rounds(3)
    guest.stop_hammer()
    guest.start_hammer()
    guest.command("system_reset")
    guest.await_ready()
    guest.mount()
    guest.start_hammer()
    guest.await_rounds(20)
    guest.stop_hammer()
    test.finish()


def memory_hotplug(test):
    """Memory is plugged in while requests are in flight, and then used for them."""
    daemon = test.daemon()
    subprocess.run([Settings.probe, "fill", daemon.share / "big", str(128 * MIB), "3"], check=True)
    guest = test.guest({"share": daemon}, memory="512M,slots=2,maxmem=2G")
    guest.mount()
    guest.start_hammer()
    for number in range(2):
        guest.command("object-add", **{"qom-type": "memory-backend-memfd", "id": f"more{number}", "size": 256 * MIB,
                                       "share": True})
        guest.command("device_add", driver="pc-dimm", id=f"dimm{number}", memdev=f"more{number}")
        # Movable memory is what the page cache takes first: the data of the share now comes to lie in it.
        guest.run("""
            for i in $(seq 200); do
              for state in /sys/devices/system/memory/memory*/state; do
                if [ "$(cat $state)" = offline ]; then echo online_movable > $state && found=1; fi
              done
              [ -n "$found" ] && exit 0
              usleep 50000
            done
            echo "no new memory came"; exit 1""")
        guest.await_rounds(5)
    expect(int(guest.run("sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo")) > 900 * 1024,
           "the guest uses the new memory")
    expect_equal(guest.run("sha256sum < /mnt/big", 120).split()[0], sha256(daemon.share / "big"),
                 "checksum of a file read into the new memory")
    movable = guest.run("awk '/Movable/ {m=1} m && /nr_zone_inactive_file|nr_zone_active_file/ {n+=$2} END {print n+0}'"
                        " /proc/zoneinfo")
    expect(int(movable) * 4096 > 64 * MIB, f"the file's pages lie in the new memory ({movable} pages)")
    guest.run(f"guest-probe fill /mnt/written {64 * MIB} 4", 120)
    subprocess.run([Settings.probe, "fill", test.work / "wanted", str(64 * MIB), "4"], check=True)
    expect_equal(sha256(daemon.share / "written"), sha256(test.work / "wanted"),
                 "checksum of a file written from the new memory")
    guest.stop_hammer()
    test.finish()


# Name: the function and its time limit in seconds. tests/vm/CMakeLists.txt has the same names.
SCENARIOS = {
    "same-as-host": (same_as_host, 400),
    "reboot": (reboot, 120),
    "two-shares": (two_shares, 120),
    "queues": (queues, 500),
    "packed": (packed, 500),
    "big-file": (big_file, 180),
    "leak": (leak, 180),
    "daemon-exit": (daemon_exit, 120),
    "caches": (caches, 120),
    "stop-and-reset": (stop_and_reset, 180),
    "memory-hotplug": (memory_hotplug, 180),
    "libfuse-programs": (served_programs.libfuse_programs, 300),
    "libfuse-notify": (served_programs.libfuse_notify, 180),
    "cpp-examples": (served_programs.cpp_examples, 180),
}


def missing_part():
    """What keeps a guest from booting at all on this machine, or None."""
    qemu = os.environ.get("FUSEWIRE_QEMU", "qemu-system-x86_64")
    for program, package in ((qemu, "qemu-system-x86"), ("busybox", "busybox-static"), ("cpio", "cpio")):
        if not shutil.which(program):
            return f"{program} is not installed (Debian's {package}; scripts/install-deps test)"
    if not os.environ.get("FUSEWIRE_GUEST_KERNEL") and not list(Path("/boot").glob("vmlinuz-*-cloud-amd64")):
        return "no guest kernel in /boot (Debian's linux-image-cloud-amd64; scripts/install-deps test)"
    return None


def main():
    parser = argparse.ArgumentParser(description="Boots a Linux guest on a virtiofsd and checks scenarios.")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--keep", action="store_true", help="keep shares, sockets and logs")
    parser.add_argument("--virtiofsd", default=ROOT / "build/release/src/daemon/virtiofsd")
    parser.add_argument("--probe", default=ROOT / "build/release/tests/vm/guest-probe")
    parser.add_argument("--lib", default=ROOT / "build/release/lib", help="where libfuse3.so.3 is")
    parser.add_argument("--examples", default=ROOT / "build/release/examples", help="where the C++ examples are")
    parser.add_argument("--sanitized", action="store_true", help="the library needs GCC's sanitizers")
    parser.add_argument("--work", default=ROOT / "build/vm", type=Path)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    options = parser.parse_args()
    Settings.virtiofsd = os.environ.get("FUSEWIRE_VIRTIOFSD") or str(options.virtiofsd)
    Settings.probe = str(options.probe)
    Settings.work = options.work
    served_programs.use(options.lib, options.examples, options.sanitized)
    if options.list:
        for name, (function, limit) in SCENARIOS.items():
            print(f"{name:16} {limit:4} s  {function.__doc__}")
        return 0
    if not options.scenarios or any(name not in SCENARIOS for name in options.scenarios):
        parser.error(f"scenarios are: {' '.join(SCENARIOS)}")
    missing = missing_part()
    if missing:
        print(f"SKIPPED: {missing}")
        return SKIPPED
    if os.geteuid() != 0:
        become_root()
    sys.stdout.reconfigure(line_buffering=True)
    passed = [run_scenario(Test(name), *SCENARIOS[name], options.keep) for name in options.scenarios]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
