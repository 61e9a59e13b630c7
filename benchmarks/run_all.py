"""Run every benchmark, and write its table into docs/performance.md between the marks that name it."""

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

Results = Mapping[str, Mapping[str, Any]]


def markdown(results: Results) -> str:
    """Return one benchmark's JSON line as a Markdown table."""
    first = ("ours", "peer", "ratio", "unit")
    more = [key for key in dict.fromkeys(key for line in results.values() for key in line) if key not in first]
    lines = [f"| {' | '.join(('case', *first, *more))} |", f"| --- | ---: | ---: | ---: | ---{' | ---:' * len(more)} |"]
    for case, line in results.items():
        numbers = [_number(line.get(key)) for key in (*first[:3], *more)]
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
    quick = parser.parse_args().quick
    failed = []
    for script in scripts():
        print(f"\n{script.name}", flush=True)
        command = [sys.executable, str(script), "--json", *(["--quick"] if quick else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            lines = []
            for line in process.stdout or ():
                print(line, end="", flush=True)
                lines.append(line)
        if process.returncode:
            failed.append(script.name)
        elif not quick:
            PAGE.write_text(replaced(PAGE.read_text(), script.stem, markdown(json.loads(lines[-1]))))
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
