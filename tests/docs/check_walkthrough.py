#!/usr/bin/env python3
"""Checks docs/walkthrough.md: each function that a table row names is defined in a file that the row names."""

import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parents[2]
rows = 0
problems = []
for line in (root / "docs/walkthrough.md").read_text().splitlines():
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if not line.startswith("|") or len(cells) != 3 or not cells[1].startswith("`"):
        continue
    rows += 1
    sources = []
    for name in cells[2].split(","):
        path = root / name.strip()
        if path.is_file():
            sources.append(path.read_text())
        else:
            problems.append(f"no file {name.strip()}")
    for function in re.findall(r"`([^`]+)`", cells[1]):
        # In a class body the qualifier is missing; out of it a template may stand before the name.
        qualified = re.escape(function) + r"\("
        inside = r"\b" + re.escape(function.split("::")[-1]) + r"\("
        header = any(name.strip().endswith(".h") for name in cells[2].split(","))
        if not any(re.search(qualified, text) or (header and re.search(inside, text)) for text in sources):
            problems.append(f"{function} is not in {cells[2]}")

for problem in problems:
    print(f"docs/walkthrough.md: {problem}")
print(f"{rows} rows checked")
sys.exit(1 if problems or rows < 15 else 0)
