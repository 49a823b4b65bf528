#!/usr/bin/env python3
"""The C API's headers: each compiles alone and in any order, in every standard, for every FUSE_USE_VERSION; and they
declare everything that Debian's libfuse3-dev declares, with the same prototypes, values and layouts.

usage: headers.py compile INCLUDE
       headers.py declarations INCLUDE REFERENCE WORK
       headers.py layout INCLUDE REFERENCE WORK LAYOUT.c
"""
import itertools
import os
import re
import subprocess
import sys

VERSIONS = (30, 31, 32, 34, 35, 312, 314, 316, 317, 318)
HEADERS = ("fuse_common.h", "fuse_lowlevel.h", "fuse_opt.h", "fuse_log.h")
C_STANDARDS = ("c11", "c17")
CXX_STANDARDS = ("c++17", "c++20", "c++23")
WARNINGS = ("-Wall", "-Wextra", "-pedantic", "-Werror")


def run(command, text):
    return subprocess.run(command, input=text, capture_output=True, text=True)


def check(standard, version, headers):
    """Compiles a source that includes `headers`; the compiler's complaint, or nothing."""
    cxx = standard.startswith("c++")
    source = "".join(f"#include <{header}>\n" for header in headers)
    command = ["g++" if cxx else "gcc", f"-std={standard}", *WARNINGS, f"-DFUSE_USE_VERSION={version}",
               "-I", INCLUDE, "-fsyntax-only", "-x", "c++" if cxx else "c", "-"]
    result = run(command, source)
    return "" if result.returncode == 0 else f"{' '.join(command)}\n{source}{result.stderr}"


def compile_all():
    # The full product would take minutes: every version meets every standard with the header that includes the others;
    # every header stands alone, and every order is tried, for one version of each shape that they have.
    cases = [(standard, version, ("fuse_lowlevel.h",)) for standard in C_STANDARDS + CXX_STANDARDS
             for version in VERSIONS]
    for standard, version in itertools.product(("c11", "c++17"), (30, 34, 312, 318)):
        cases += [(standard, version, (header,)) for header in HEADERS]
    for standard in ("c11", "c++17"):
        cases += [(standard, 318, order) for order in itertools.permutations(HEADERS)]
    cases += [(standard, 318, ("virtiofsd_lowlevel.h",)) for standard in C_STANDARDS + CXX_STANDARDS
              if os.path.exists(f"{INCLUDE}/virtiofsd_lowlevel.h")]
    return [problem for problem in (check(*case) for case in cases) if problem]


def include_line(directory):
    return f'#define FUSE_USE_VERSION %d\n#include "{directory}/fuse_lowlevel.h"\n'


def prototypes(directory, version):
    """Function name -> prototype, as GCC writes it down for what a header of `directory` declares."""
    path = f"{WORK}/prototypes.txt"
    result = run(["gcc", "-std=gnu11", "-aux-info", path, "-fsyntax-only", "-x", "c", "-"],
                 include_line(directory) % version)
    assert result.returncode == 0, result.stderr
    found = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            match = re.match(r"/\* (.*):\d+:\w+ \*/ (?:extern|static) (.*?(\w+) \(.*\));", line)
            if match and match[1].startswith(directory):
                found[match[3]] = match[2]
    return found


def macros(directory, version):
    """Macro name -> replacement, of those that the headers of `directory` define and that have one."""
    result = run(["gcc", "-E", "-dD", "-x", "c", "-"], include_line(directory) % version)
    assert result.returncode == 0, result.stderr
    found, ours = {}, False
    for line in result.stdout.splitlines():
        marker = re.match(r'# \d+ "(.*?)"', line)
        if marker:
            ours = marker[1].startswith(directory)
        definition = re.match(r"#define (FUSE_\w+)(\([^)]*\))? (.+)", line)
        if ours and definition and not definition[1].endswith("_H_"):
            found[definition[1] + (definition[2] or "")] = definition[3]
    return found


def values(directory, names):
    """What integer macros and enumerators come to."""
    body = "".join(f'  printf("{name} %lld\\n", (long long)({name}));\n' for name in names)
    source = include_line(directory) % 314 + "#include <stdio.h>\nint main(void) {\n" + body + "  return 0;\n}\n"
    program = f"{WORK}/values"
    result = run(["gcc", "-std=gnu11", "-w", "-o", program, "-x", "c", "-"], source)
    assert result.returncode == 0, result.stderr
    return dict(line.split() for line in run([program], "").stdout.splitlines())


# Different on purpose: the version, and what FUSE_BUFVEC_INIT and the like expand to is compared by use.
OTHER_MACROS = {"FUSE_MINOR_VERSION", "FUSE_VERSION"}


def declarations():
    problems = []
    for version in (30, 32, 34, 35, 312, 314):
        reference, ours = prototypes(REFERENCE, version), prototypes(INCLUDE, version)
        assert len(reference) > 70, f"only {len(reference)} prototypes found in {REFERENCE}"
        problems += [f"{version}: {name}: {ours.get(name)} instead of {prototype}"
                     for name, prototype in reference.items() if ours.get(name) != prototype]
        named = {name.split("(")[0] for name in macros(INCLUDE, version)}
        problems += [f"{version}: macro {name} is missing" for name in macros(REFERENCE, version)
                     if name.split("(")[0] not in named and name.split("(")[0] not in ours]
    numbers = [name for name, text in macros(REFERENCE, 314).items()
               if "(" not in name and re.fullmatch(r"[-\d()<x ]+|0x\w+", text) and name not in OTHER_MACROS]
    with open(f"{REFERENCE}/fuse_common.h", encoding="utf-8") as common, \
            open(f"{REFERENCE}/fuse_log.h", encoding="utf-8") as log, \
            open(f"{REFERENCE}/fuse_lowlevel.h", encoding="utf-8") as lowlevel:
        for body in re.findall(r"\nenum \w+ \{(.*?)\n\}", common.read() + log.read() + lowlevel.read(), re.S):
            plain = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
            numbers += re.findall(r"\b(FUSE_\w+)\s*(?:=|,|$)", plain)
    assert len(numbers) > 60, f"only {len(numbers)} constants found"
    expected, got = values(REFERENCE, numbers), values(INCLUDE, numbers)
    problems += [f"{name} is {got[name]}, not {number}" for name, number in expected.items() if got[name] != number]
    return problems


def layout(source):
    """Output of the program that prints sizes and offsets, compiled against each set of headers."""
    problems = []
    for version in (30, 34, 312, 314):
        outputs = []
        for directory in (INCLUDE, REFERENCE):
            program = f"{WORK}/layout"
            result = run(["gcc", "-std=gnu11", f"-DFUSE_USE_VERSION={version}", "-I", directory, "-o", program, source], "")
            assert result.returncode == 0, result.stderr
            outputs.append(run([program], "").stdout.splitlines())
        assert len(outputs[1]) > 100, "the layout program prints too little"
        problems += [f"{version}: {ours} instead of {reference}" for ours, reference in zip(*outputs, strict=True)
                     if ours != reference]
    return problems


MODE, INCLUDE = sys.argv[1:3]
if MODE == "compile":
    found_problems = compile_all()
else:
    REFERENCE, WORK = sys.argv[3:5]
    os.makedirs(WORK, exist_ok=True)
    found_problems = declarations() if MODE == "declarations" else layout(sys.argv[5])
print("\n".join(found_problems))
sys.exit(1 if found_problems else 0)
