from __future__ import annotations

import pytest

from megatron.config.read import MAX_FILE_BYTES, Entry, apply_overrides, find_file, read_files


def values(entries):
    return {key: entry.value for key, entry in entries.items()}


def only_problem(path):
    entries, problems = read_files([path])
    assert len(problems) == 1, problems
    return entries, problems[0]


def test_files_merge_and_remember_their_lines(write):
    first = write("a.yml", "# model\nnum-layers: 2\nhidden_size: 8\n")
    second = write("b.yml", '{"lr": 1.0e-3, "trailing": [1, 2,],}')
    entries, problems = read_files([first, second])
    assert not problems
    assert values(entries) == {"num_layers": 2, "hidden_size": 8, "lr": 1e-3, "trailing": [1, 2]}
    assert entries["hidden_size"].where == f"{first}:3"


@pytest.mark.parametrize("spelling", ["num_layers", "num-layers"])
def test_key_in_two_files_is_named_with_both_places(write, spelling):
    first, second = write("a.yml", {"num_layers": 2}), write("b.yml", {spelling: 3})
    entries, problems = read_files([first, second])
    assert values(entries) == {"num_layers": 2}
    assert [(p.where, p.key, p.value) for p in problems] == [(f"{second}:1", "num_layers", 3)]
    assert f"{first}:1" in problems[0].rule


def test_key_twice_in_one_file(write):
    path = write("a.yml", "lr: 1\nseed: 2\nlr: 3\n")
    entries, problem = only_problem(path)
    assert entries["lr"].value == 1
    assert problem.where == f"{path}:3"


def test_inner_key_twice(write):
    _, problem = only_problem(write("a.yml", "optimizer:\n  params: {lr: 1, lr: 2}\n"))
    assert problem.key == "optimizer.params.lr"


def test_same_file_twice_is_one_problem(write):
    path = write("a.yml", {"lr": 1, "seed": 2})
    _, problems = read_files([path, path.with_suffix("")])
    assert [p.rule for p in problems] == ["is given twice"]


def test_suffix_may_be_left_out_even_after_a_dot(write, tmp_path):
    path = write("llama3.1-8b.yml", {"lr": 1})
    assert find_file(tmp_path / "llama3.1-8b") == path
    assert find_file(path) == path


def test_missing_file_is_named(tmp_path):
    _, problem = only_problem(tmp_path / "absent")
    assert "absent.yml" in problem.where and "does not exist" in problem.rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: [1, 2", "is not valid YAML"),
        ("a: 1\n---\nb: 2\n", "is not valid YAML"),
        ("- 1\n- 2\n", "is not a mapping"),
        ("just words", "is not a mapping"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("a: &x {k: 1}\nb: {<<: *x}\n", "aliases"),
        ("a: " + "[" * 5000, "nesting"),
        ("a: !!python/object/apply:os.getcwd []\n", "cannot be read"),
        ("a: " + "9" * 5000, "cannot be read"),
        ("1: 2\n", "is not a word"),
        ("? [a, b]\n: 2\n", "is not a word"),
        ("a: {[1]: 2}\n", "cannot be read"),
        ("a: \x07\n", "is not valid YAML"),
        ('a: !!int ""\n', "cannot be read"),
        ("a: !!bool maybe\n", "cannot be read"),
        ("a: !!timestamp soon\n", "cannot be read"),
        ("a: " + "1:" * 500 + "0.5", "cannot be read"),
    ],
)
def test_bad_yaml_is_a_problem_and_never_a_traceback(write, text, rule):
    _, problem = only_problem(write("a.yml", text))
    assert rule in problem.rule


def test_a_bomb_of_aliases_is_refused(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    _, problem = only_problem(write("a.yml", "\n".join(lines)))
    assert "aliases" in problem.rule


def test_binary_and_huge_files(tmp_path):
    path = tmp_path / "a.yml"
    path.write_bytes(b"a: \xff\xfe")
    assert "UTF-8" in only_problem(path)[1].rule
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert "larger than 16 MiB" in only_problem(path)[1].rule
    assert "cannot be read" in only_problem_of_folder(tmp_path / "folder.yml")


def only_problem_of_folder(path):
    path.mkdir()
    return only_problem(path)[1].rule


def test_empty_file_and_dates(write):
    assert read_files([write("a.yml", "")]) == ({}, [])
    entries, _ = read_files([write("b.yml", "save: 2024-01-01\n")])
    assert entries["save"].value == "2024-01-01"


def test_overrides_replace_add_and_reach_inside():
    params = {"lr": 1, "eps": 2}
    entries = {"lr": Entry(1, "a.yml:1"), "optimizer": Entry({"params": params}, "a.yml:2")}
    overrides = ["lr=2.5", "train-iters=7", "optimizer.params.lr=3", "mixture.tiers.medium-high.rate=4", "save="]
    assert not apply_overrides(entries, overrides)
    assert values(entries) == {
        "lr": 2.5,
        "train_iters": 7,
        "optimizer": {"params": {"lr": 3, "eps": 2}},
        "mixture": {"tiers": {"medium-high": {"rate": 4}}},
        "save": None,
    }
    assert params == {"lr": 1, "eps": 2}
    assert entries["lr"].where == "command line"


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("=3", "not a setting"),
        ("a..b=3", "not a setting"),
        ("lr.x=3", "no mapping"),
        ("extra=[1", "not valid YAML"),
        ("extra=*x", "aliases"),
    ],
)
def test_bad_overrides(override, rule):
    problems = apply_overrides({"lr": Entry(1, "")}, [override])
    assert len(problems) == 1 and rule in problems[0].rule


def test_an_override_given_twice():
    entries = {}
    assert len(apply_overrides(entries, ["train-iters=1", "train_iters=2"])) == 1
    assert values(entries) == {"train_iters": 1}
