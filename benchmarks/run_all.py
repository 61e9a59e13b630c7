"""Run every benchmark, write its table into docs/performance.md between the marks that name it, and print one table."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
NOT_BENCHMARKS = {"common.py", "gptdata.py", "messages.py", "run_all.py", "scaling_steps.py", "train_step_sides.py"}

ALL = "all"
"""Marks the one table of everything."""

FIRST = ("ours", "peer", "ratio", "unit")

Results = Mapping[str, Mapping[str, Any]]


def markdown(results: Results) -> str:
    """Return one benchmark's JSON line as a Markdown table."""
    more = [key for key in dict.fromkeys(key for line in results.values() for key in line) if key not in FIRST]
    lines = [f"| {' | '.join(('case', *FIRST, *more))} |", f"| --- | ---: | ---: | ---: | ---{' | ---:' * len(more)} |"]
    for case, line in results.items():
        numbers = [_number(line.get(key)) for key in (*FIRST[:3], *more)]
        cells = (case, *numbers[:3], line["unit"], *numbers[3:])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def replaced(page: str, name: str, table: str) -> str:
    """Return ``page`` with the text between ``<!-- name -->`` and ``<!-- end -->`` replaced.

    Raises:
        ValueError: the page has no such place, or has it twice.
    """
    first, last = f"<!-- {name} -->\n", "<!-- end -->"
    marks = re.compile(f"{re.escape(first)}.*?{last}", re.DOTALL)
    page, count = marks.subn(lambda _: f"{first}\n{table}\n\n{last}", page)
    if count != 1:
        raise ValueError(f"{PAGE.name}: {count} places <!-- {name} --> ... <!-- end -->; it needs one")
    return page


def table_of_all(tables: Mapping[str, str]) -> str:
    """Return one Markdown table of what :func:`markdown` has made of every benchmark, without their further columns."""
    lines = [f"| {' | '.join(('benchmark', 'case', *FIRST))} |", "| --- | --- | ---: | ---: | ---: | --- |"]
    for name, table in tables.items():
        for row in table.strip().splitlines()[2:]:
            cells = [cell.strip() for cell in row.strip().strip("|").split("|")]
            lines.append(f"| {' | '.join((name, *cells[: 1 + len(FIRST)]))} |")
    return "\n".join(lines)


def tables(page: str) -> dict[str, str]:
    """Return the tables of a page by the names of their benchmarks, in its order; not that of all."""
    found = re.findall(r"<!-- (\w+) -->\n(.*?)<!-- end -->", page, re.DOTALL)
    return {name: table for name, table in found if name != ALL}


def scripts() -> list[Path]:
    """Return the benchmarks in the order of their names."""
    return sorted(path for path in HERE.glob("*.py") if path.name not in NOT_BENCHMARKS)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> int:
    """Run them one after the other; a benchmark that fails leaves its table as it was, and the exit status says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions; the page stays as it is")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these alone, such as `--only train_step`")
    arguments = parser.parse_args()
    chosen = [script for script in scripts() if arguments.only is None or script.stem in arguments.only]
    if unknown := set(arguments.only or ()) - {script.stem for script in chosen}:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    quick, measured = arguments.quick, {}
    failed = []
    for script in chosen:
        print(f"\n{script.name}", flush=True)
        command = [sys.executable, str(script), "--json", *(["--quick"] if quick else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            lines = []
            for line in process.stdout or ():
                print(line, end="", flush=True)
                lines.append(line)
        if process.returncode:
            failed.append(script.name)
            continue
        measured[script.stem] = markdown(json.loads(lines[-1]))
        if not quick:
            page = replaced(PAGE.read_text(), script.stem, measured[script.stem])
            PAGE.write_text(replaced(page, ALL, table_of_all(tables(page))))
    print(f"\n{table_of_all(measured)}")
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
