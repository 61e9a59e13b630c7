"""The recipes of images, as far as they can be checked without building one."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / "docker"

# Made by commands of this project, or by version control: not part of an image.
LEFT_OUT = {".git", ".venv", ".coverage", "demo", "runs", "build", "dist"}


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, such as ("RUN", "make"), each on one line."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [(word, rest.strip()) for line in joined.splitlines() if line for word, _, rest in [line.partition(" ")]]


def sections() -> dict[str, str]:
    """Return the text of every section of Apptainer's recipe by its name; the header's is empty."""
    found = re.split(r"^%(\w+)\n", (DOCKER / "apptainer.def").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {"": found[0], **dict(zip(found[1::2], found[2::2], strict=True))}


def lines_of(section: str) -> list[str]:
    return [line.strip() for line in sections()[section].splitlines() if line.strip()]


def arguments_of_docker() -> dict[str, str]:
    pairs = [rest.partition("=") for word, rest in instructions() if word == "ARG"]
    return {name: value.strip('"') for name, _, value in pairs}


def arguments_of_apptainer() -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in lines_of("arguments"))}


def install_steps(text: str) -> list[str]:
    """Return the steps of install.sh that a text runs, with their arguments' values by name."""
    steps = re.findall(r"^.*docker/install\.sh.*$", text, re.MULTILINE)
    return [re.sub(r"\$\{(\w+)\}|\{\{ (\w+) \}\}", r"\1\2", step.strip()) for step in steps]


def test_both_recipes_install_the_same() -> None:
    docker = install_steps("\n".join(rest for word, rest in instructions() if word == "RUN"))
    assert docker == install_steps(sections()["post"])
    assert len(docker) == 3
    known = set(re.findall(r"^(\w+)\)$", (DOCKER / "install.sh").read_text(encoding="utf-8"), re.MULTILINE))
    assert {re.split(r"install\.sh ", step)[1].split()[0] for step in docker} == known


def test_both_recipes_have_the_same_arguments() -> None:
    apptainer = arguments_of_apptainer()
    assert apptainer.pop("BOOTSTRAP") == "docker"
    assert apptainer == arguments_of_docker()
    used = set(re.findall(r"\{\{ (\w+) \}\}", (DOCKER / "apptainer.def").read_text(encoding="utf-8")))
    assert used == {*apptainer, "BOOTSTRAP"}
    assert (ROOT / "requirements" / apptainer["REQUIREMENTS"]).is_file()


def test_both_recipes_have_the_same_labels() -> None:
    docker = {
        name: value
        for word, rest in instructions()
        if word == "LABEL"
        for name, _, value in (part.partition("=") for part in shlex.split(rest))
    }
    apptainer = {name: value for name, _, value in (line.partition(" ") for line in lines_of("labels"))}
    assert docker == apptainer
    version = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert version is not None and docker["org.opencontainers.image.version"] == version[1]


def test_both_recipes_set_the_same_variables() -> None:
    environment = dict(
        part.split("=", 1) for word, rest in instructions() if word == "ENV" for part in shlex.split(rest)
    )
    # Users of Docker may be unknown to the image; Apptainer knows its user.
    assert environment.pop("USER")
    exports = dict(line.removeprefix("export ").split("=", 1) for line in lines_of("environment"))
    assert {name: value.replace("${PATH}", "$PATH") for name, value in environment.items()} == exports
    assert f"{exports['EMMA_NEOX_BIN']}/python" in (DOCKER / "install.sh").read_text(encoding="utf-8")


def test_what_is_copied_is_there() -> None:
    copied = [part for word, rest in instructions() if word == "COPY" for part in rest.split()[:-1]]
    sources = [part for part in copied if not part.startswith("--")]
    assert "requirements" in sources and "." in sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_apptainer_copies_the_whole_project() -> None:
    """Apptainer knows no .dockerignore, so its recipe names everything."""
    pairs = [line.split() for line in lines_of("files")]
    assert {target for _, target in pairs} == {"/opt/emma-neox/"}
    named = [source for source, _ in pairs]
    assert named == sorted(named)
    try:
        git = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(git, capture_output=True, text=True, check=True).stdout.splitlines()
        present = {name.partition("/")[0] for name in listed}
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive has no git
        made = ("*_cache", "*.egg-info", ".hypothesis", "__pycache__")
        entries = {entry.name for entry in ROOT.iterdir()} - LEFT_OUT
        present = {name for name in entries if not any(fnmatch.fnmatch(name, pattern) for pattern in made)}
    assert set(named) == present


def hidden(path: str, patterns: list[str]) -> bool:
    """Tell whether a .dockerignore keeps a path out; ``**/`` is any folder or none."""
    parts = path.split("/")
    starts = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return any(
        fnmatch.fnmatch(start, pattern) or (pattern.startswith("**/") and fnmatch.fnmatch(start, pattern[3:]))
        for start in starts
        for pattern in patterns
        if "**/" in pattern or start.count("/") == pattern.count("/")
    )


def ignored_patterns() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_dockerignore_hides_nothing_that_is_needed() -> None:
    patterns = ignored_patterns()
    assert not any(pattern.startswith("!") for pattern in patterns), "what comes back is not understood here"
    needed = [line.split()[0] for line in lines_of("files")]
    folders = [name for name in needed if (ROOT / name).is_dir()]
    inside = [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if not any(part in ("__pycache__",) or part.endswith((".egg-info", "_cache")) for part in path.parts)
    ]
    assert [path for path in needed + inside if hidden(path, patterns)] == []


@pytest.mark.parametrize(
    "path",
    [".git", ".git/config", ".venv/bin/python", "demo/run/x", "runs", "build/lib", "megatron/data/__pycache__/x.pyc",
     ".pytest_cache/x", "emma_neox.egg-info", "x.sif", ".env", "tools/.env"],
)  # fmt: skip
def test_dockerignore_hides_what_no_image_may_have(path: str) -> None:
    assert hidden(path, ignored_patterns())


def test_images_do_not_run_as_root() -> None:
    users = [rest for word, rest in instructions() if word == "USER"]
    assert int(users[-1]) > 0, "a number, since the machine that runs the image cannot look names up in it"
    made = "\n".join(rest for word, rest in instructions() if word == "RUN")
    assert f"useradd --create-home --uid {users[-1]} " in made


def test_compose_names_what_is_there() -> None:
    text = (DOCKER / "compose.yml").read_text(encoding="utf-8")
    project = yaml.safe_load(text)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(project["services"]) == {"demo", "tests", "demo-gpu"}
    for service in project["services"].values():
        build = service["build"]
        assert (DOCKER / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()
        defaults = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in build["args"].items()}
        assert defaults == arguments_of_docker()
        targets = re.findall(r"make (\w+)", service["command"])
        assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in project["volumes"]
    for service in re.findall(r"run --rm ([\w-]+)", text):
        assert service in project["services"]
    devices = project["services"]["demo-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]


def test_the_install_script_is_sound() -> None:
    script = DOCKER / "install.sh"
    assert script.stat().st_mode & 0o111, "the recipes run it"
    subprocess.run(["sh", "-n", str(script)], check=True)
    done = subprocess.run([str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "usage" in done.stderr
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(script)], check=True)


@pytest.mark.parametrize("target", ["demo", "test", "bench"])
def test_make_installs_nothing_where_all_is_installed(target: str) -> None:
    command = ["make", "-n", "-B", target, "EMMA_NEOX_BIN=/opt/emma-neox-bin"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "/opt/emma-neox-bin/python" in done.stdout
    assert "pip" not in re.findall(r"[\w-]+", done.stdout)
    assert ".venv" not in done.stdout
