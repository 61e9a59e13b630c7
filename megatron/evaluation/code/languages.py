"""Programming languages: how a program is compiled and run, and one of each that shows whether that works here."""

from __future__ import annotations

import dataclasses
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class CodeError(ValueError):
    """Programs cannot be judged: says which problem or language, which rule, and what to change."""


@dataclasses.dataclass(frozen=True)
class ProgrammingLanguage:
    """How programs are run.

    Attributes:
        file: name of the file that holds a program.
        run: the command; its first word is looked for on this machine.
        compile: the command that comes before, if there is one.
        mark: what is added to a program so that it prints ``{mark}`` at its very end: one that leaves early, with all
            signs of success, has not passed its tests. Nothing where the tests themselves are the end.
        right: a program that passes, with all that the tests of this language's benchmarks load.
        reserves_addresses: whether it reserves far more addresses than it uses, so that they cannot be limited.
        stop: strings that end what a model writes, where a problem names none.
    """

    file: str
    run: Sequence[str]
    compile: Sequence[str] = ()
    mark: str = ""
    right: str = ""
    reserves_addresses: bool = False
    stop: Sequence[str] = ()


#: By MultiPL-E's names (Cassano et al., arXiv 2208.08227), whose tests need what ``right`` loads.
LANGUAGES: Mapping[str, ProgrammingLanguage] = {
    "py": ProgrammingLanguage(
        "program.py",
        ("python3", "-I", "-B", "program.py"),
        mark="\n\nprint('\\n{mark}')\n",
        right="import math, typing\nassert math.floor(1.5) == 1\n",
        # Of HumanEval (Chen et al., arXiv 2107.03374).
        stop=("\nclass", "\ndef", "\n#", "\nif", "\nprint"),
    ),
    "js": ProgrammingLanguage(
        "program.js",
        ("node", "program.js"),
        mark="\n\nconsole.log('\\n{mark}');\n",
        right="const assert = require('node:assert'); assert.deepEqual([1], [1]);\n",
        reserves_addresses=True,
        stop=("\nfunction ", "\n/*", "\n//", "\nconsole.log"),
    ),
    "pl": ProgrammingLanguage(
        "program.pl",
        ("perl", "program.pl"),
        mark='\n\nprint "\\n{mark}\\n";\n',
        right="use Test::Deep;\nexit 1 unless eq_deeply([1], [1]);\n",
        stop=("\nsub", "\n#", "\n\n"),
    ),
    "sh": ProgrammingLanguage(
        "program.sh",
        ("bash", "program.sh"),
        mark="\n\nprintf '\\n{mark}\\n'\n",
        right="set -e\n[[ $((1 + 1)) == 2 ]]\n",
        stop=("\n}",),
    ),
    "cpp": ProgrammingLanguage(
        "program.cpp",
        ("./program",),
        compile=("g++", "-std=c++17", "-o", "program", "program.cpp"),
        right="#include <assert.h>\n#include <bits/stdc++.h>\nint main() { assert(1 + 1 == 2); }\n",
        stop=("\n}",),
    ),
    "rs": ProgrammingLanguage(
        "program.rs",
        ("./program",),
        compile=("rustc", "-o", "program", "program.rs"),
        right="fn main() { assert_eq!(1 + 1, 2); }\n",
        stop=("\n}",),
    ),
    "rb": ProgrammingLanguage(
        "program.rb",
        ("ruby", "program.rb"),
        right="require 'test/unit'\nclass T < Test::Unit::TestCase\n  def test_a\n    assert_equal(1, 1)\n  end\nend\n",
        stop=("\nclass", "\ndef", "\n#", "\n\n"),
    ),
    "php": ProgrammingLanguage(
        "program.php",
        ("php", "program.php"),
        right="<?php\nif ([1] !== [1]) { exit(1); }\n",
        stop=("\nfunction", "\n?>", "\n//", "\n#"),
    ),
    "lua": ProgrammingLanguage(
        "program.lua",
        ("lua", "program.lua"),
        right="lu = require('luaunit')\nfunction test_a() lu.assertEquals({1}, {1}) end\nos.exit(lu.LuaUnit.run())\n",
        stop=("\nlocal", "\nfunction", "\n--", "\n\n"),
    ),
    "r": ProgrammingLanguage(
        "program.r",
        ("Rscript", "program.r"),
        mark="\n\ncat('\\n{mark}\\n')\n",
        right="stopifnot(identical(c(1), c(1)))\n",
        stop=("\n#", "\n```"),
    ),
    "jl": ProgrammingLanguage(
        "program.jl",
        ("julia", "program.jl"),
        mark='\n\nprintln("\\n{mark}")\n',
        right="using Test\n@testset begin @test(1 == 1) end\n",
        reserves_addresses=True,
        stop=("\nfunction", "\nmacro", "\n\n"),
    ),
}  # fmt: skip


def language_of(name: str) -> ProgrammingLanguage:
    """Return a programming language.

    Raises:
        CodeError: it is not in the table.
    """
    if name not in LANGUAGES:
        raise CodeError(f"programs in {name!r} cannot be run; known are {', '.join(LANGUAGES)}")
    return LANGUAGES[name]


def find_command(command: Sequence[str], *, for_everybody: bool) -> list[str]:
    """Return a command with the path of its program.

    Args:
        command: a name, or the path of a file in the program's own folder (``./program``), and arguments.
        for_everybody: whether a user without any rights must be able to run it.

    Raises:
        CodeError: it is not installed, or not for everybody.
    """
    name, *arguments = command
    if name.startswith("./"):
        return list(command)
    found = [path for path in _candidates(name) if path is not None]
    for path in found:
        resolved = Path(path).resolve()
        if not for_everybody or _is_for_everybody(resolved):
            return [path, *arguments]
    if found:
        raise CodeError(
            f"{found[0]} cannot be run by users without rights, and programs are not run as root: run this as another "
            f"user, or install {name} for all"
        )
    raise CodeError(f"{name} is not installed: programs that need it cannot be run")


def _candidates(name: str) -> list[str | None]:
    if name == "python3":
        return [sys.executable, shutil.which(name), shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")]
    return [shutil.which(name)]


def _is_for_everybody(path: Path) -> bool:
    folders = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
    return folders and bool(path.stat().st_mode & stat.S_IXOTH)
