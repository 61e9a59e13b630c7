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


BASE = "mixture:\n  unit: tokens\n  sources:\n    code: 0.1\n"
STUDY = "mixture.exclude: {sources: [code]}\nmixture.sources.books: 2\n"


@pytest.mark.parametrize("order", [1, -1])
def test_keys_with_dots_add_to_the_mapping_of_another_file(write, order):
    base, study = write("base.yml", BASE), write("study.yml", STUDY)
    entries, problems = read_files([base, study][::order])
    assert not problems
    assert values(entries) == {
        "mixture": {"unit": "tokens", "sources": {"code": 0.1, "books": 2}, "exclude": {"sources": ["code"]}}
    }
    entry = entries["mixture"]
    assert entry.place(["exclude", "sources", "0"]) == f"{study}:1"
    assert entry.place(["sources", "books"]) == f"{study}:2"
    assert entry.place(["sources", "code"]) == f"{base}:4"
    assert entry.place(["absent"]) == f"{base}:1"


def test_keys_with_dots_make_the_mapping_and_keep_dashes_of_names(write):
    path = write("a.yml", "mixture.tiers.medium-high: {rate: 2}\nlearning-rate.x: 1\nmixture.unit: words\n")
    entries, problems = read_files([path])
    assert not problems
    assert values(entries) == {
        "mixture": {"tiers": {"medium-high": {"rate": 2}}, "unit": "words"}, "learning_rate": {"x": 1}
    }  # fmt: skip


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("mixture.sources: {books: 1}\n", "mixture.sources", 3),
        ("mixture.sources.code: 1\n", "mixture.sources.code", 4),
        ("mixture.unit: words\n", "mixture.unit", 2),
    ],
)
def test_what_two_files_give_is_named_with_both_places(write, order, text, key, line):
    base, study = write("base.yml", BASE), write("study.yml", text)
    entries, [problem] = read_files([base, study][::order])
    assert (problem.where, problem.key) == (f"{study}:1", key)
    assert f"given a second time, also in {base}:{line}" in problem.rule
    assert values(entries)["mixture"] == {"unit": "tokens", "sources": {"code": 0.1}}


def test_two_studies_may_add_different_things_only(write):
    files = [write(f"{name}.yml", text) for name, text in (
        ("a", "mixture.exclude: {sources: [code]}\n"), ("b", "mixture.alpha: 0.3\n"), ("c", "mixture.alpha: 0.5\n")
    )]  # fmt: skip
    entries, [problem] = read_files(files)
    assert values(entries) == {"mixture": {"exclude": {"sources": ["code"]}, "alpha": 0.3}}
    assert problem.where == f"{files[2]}:1" and f"{files[1]}:1" in problem.rule


@pytest.mark.parametrize("text", ["lr.x: 3", "lr.x.y: 3", "lr.0: 3"])
@pytest.mark.parametrize("value", [1, [1, 2], "'words'"])
def test_a_key_with_dots_into_no_mapping(write, text, value):
    first, second = write("a.yml", f"lr: {value}\n"), write("b.yml", f"{text}\n")
    _, [problem] = read_files([first, second])
    assert problem.where == f"{second}:1"
    if text != "lr.0: 3" or value != [1, 2]:
        assert f"reaches into lr = {value!r} ({first}:1)".replace('"', "") in problem.rule.replace('"', "")


def test_a_mapping_that_is_null_counts_as_empty(write):
    entries, problems = read_files([write("a.yml", "mixture:\n"), write("b.yml", "mixture.alpha: 1\n")])
    assert not problems and values(entries) == {"mixture": {"alpha": 1}}


@pytest.mark.parametrize("key", ["a..b", ".a", "a.", "."])
def test_dots_that_lead_nowhere_stay_part_of_the_name(write, key):
    assert values(read_files([write("a.yml", f"'{key}': 1\n")])[0]) == {key: 1}


def test_overrides_win_over_keys_with_dots_and_have_their_own_place(write):
    base, study = write("base.yml", BASE), write("study.yml", STUDY)
    entries, _ = read_files([base, study])
    assert not apply_overrides(entries, ["mixture.exclude={corpora: [x]}", "mixture.sources.code=5"])
    assert entries["mixture"].value["exclude"] == {"corpora": ["x"]}
    assert entries["mixture"].value["sources"] == {"code": 5, "books": 2}
    assert entries["mixture"].place(["exclude", "corpora"]) == "command line"
    assert entries["mixture"].place(["sources", "code"]) == "command line"
    assert entries["mixture"].place(["sources", "books"]) == f"{study}:2"
    assert entries["mixture"].where == f"{base}:1"
