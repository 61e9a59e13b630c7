from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from iso639 import ALL_LANGUAGES

from megatron.evaluation.extend.compare import LanguageChange, write_tables
from megatron.evaluation.report.data import ReportError, language_name, language_tag, load_run, load_samples
from megatron.evaluation.report.write import before_after_table, write_report
from megatron.monitor.record import MetricsError, MetricsWriter

ROOT = Path(__file__).parents[4]
TIERS = ("high", "medium-high", "medium", "medium-low", "low")
VOID = {"meta", "input", "path"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def corpora(languages: int, seed: int = 0) -> list[dict]:
    """Rows of a mixture without their shares: languages in tiers by size, and three other sources."""
    rng = random.Random(seed)
    living = [language for language in ALL_LANGUAGES if language.type == "L"]
    known = sorted(living, key=lambda language: (language.part1 is None, language.part3))
    codes = [f"{lang.part3}_Latn" for lang in known[:languages]]
    rng.shuffle(codes)
    codes = ["eng_Latn", *[code for code in codes if code != "eng_Latn"]][:languages]
    rows = []
    for number, code in enumerate(codes):
        tier = TIERS[min(4, int(5 * (number / languages) ** 0.7))]
        tokens = int(10 ** rng.uniform(*{"high": (9, 10), "low": (5, 6)}.get(tier, (6, 9))))
        rows.append({"corpus": code, "code": code, "tier": tier, "source": "monolingual", "tokens": tokens})
    for source in ("code", "books", "instruction"):
        rows.append({"corpus": source, "code": "zxx_Zyyy", "tier": "high", "source": source, "tokens": 10**9})
    return rows


def mixture(rows: list[dict], total: int, noise: float) -> list[dict]:
    rng = random.Random(noise)
    weights = [row["tokens"] ** 0.5 * rng.uniform(1 - noise, 1 + noise) for row in rows]
    shares = [weight / sum(weights) for weight in weights]
    return [
        {**row, "share": share, "samples": int(share * total / 2048), "sampled_tokens": int(share * total),
         "epochs": share * total / row["tokens"]}
        for row, share in zip(rows, shares, strict=True)
    ]  # fmt: skip


def validation(rows: list[dict], progress: float, seed: int = 0) -> list[dict]:
    rng = random.Random(seed)
    result = []
    for row in rows:
        start = {"high": 1.0, "medium-high": 1.4, "medium": 1.8, "medium-low": 2.3, "low": 2.7}[row["tier"]]
        start *= rng.uniform(0.8, 1.25)
        gain = rng.gauss(0.12 + 0.18 * start, 0.09) if row["corpus"] != "eng_Latn" else -0.04
        value = start * (1 - min(0.8, gain) * progress)
        result.append({key: row[key] for key in ("corpus", "code", "tier", "source")}
                      | {"nats": value * math.log(2) * 16384, "bytes": 16384, "tokens": 5000})  # fmt: skip
    return result


def write_run(
    folder: Path, *, languages: int = 12, steps: int = 60, resume: bool = True, end: bool = True
) -> list[dict]:
    """Write a synthetic run: three or more validations, one kill and resume, a loss spike and a NaN."""
    rng, rows = random.Random(1), corpora(languages)
    clock = iter(range(1_700_000_000, 1_800_000_000, 2))
    start = {"parameters": 6_738_415_616, "world_size": 8, "tokens_per_step": 4_194_304, "train_iters": steps,
             "device": "NVIDIA H200", "precision": "bfloat16"}  # fmt: skip
    kill, back = int(steps * 0.55), int(steps * 0.5)
    with MetricsWriter(folder / "metrics.jsonl", clock=lambda: next(clock)) as writer:
        writer.write("start", 0, **start, resumed_from=None)
        total = steps * start["tokens_per_step"]
        writer.write("mixture", 0, kind="planned", rows=mixture(rows, total, 0.0))
        writer.write("validation", 0, rows=validation(rows, 0.0), seconds=3.0)

        def train(first: int, last: int) -> None:
            for step in range(first, last + 1):
                share = step / steps
                loss = 1.6 + 1.4 * math.exp(-6 * share) + rng.gauss(0, 0.06)
                norm = 0.6 + 2 * math.exp(-20 * share) + abs(rng.gauss(0, 0.12))
                if step == int(steps * 0.3):
                    loss, norm = loss + 3, 40.0
                if step == int(steps * 0.7):
                    loss = math.nan
                rate = 1e-4 * min(1, share * 50) * (0.55 + 0.45 * math.cos(math.pi * share))
                speed = 98_000 * rng.uniform(0.96, 1.02) * (0.7 if step % 500 == 0 else 1)
                writer.write("train", step, loss=loss, learning_rate=rate, gradient_norm=norm,
                             tokens=step * start["tokens_per_step"], tokens_per_second=speed,
                             seconds=start["tokens_per_step"] / speed, mfu=0.41)  # fmt: skip
                if step % max(1, steps // 12) == 0:
                    writer.write("validation", step, rows=validation(rows, 1 - math.exp(-4 * share)), seconds=3.0)

        if resume:
            train(1, kill)
            writer.write("start", back, **start, resumed_from=back)
            train(back + 1, steps)
        else:
            train(1, steps)
        if end:
            writer.write("mixture", steps, kind="used", rows=mixture(rows, total, 0.04))
            writer.write("end", steps, reason="finished")
    return rows


def write_samples(path: Path) -> Path:
    samples = [
        ("eng_Latn", "The first people who crossed the sea", " did not know how wide it was. They had only the stars."),
        ("arb_Arab", "كان يا ما كان في قديم الزمان", "، ملكٌ يحبّ الكتب أكثر من الذهب (وكان عنده 1001 كتاب)."),
        ("heb_Hebr", "בבוקר יצאנו אל השדה", " וראינו שהשמש כבר עלתה מעל ההרים."),
        ("hin_Deva", "एक समय की बात है,", " एक छोटे से गाँव में एक बुद्धिमान किसान रहता था।"),
        ("tha_Thai", "กาลครั้งหนึ่งนานมาแล้ว", "มีหมู่บ้านเล็ก ๆ อยู่ริมแม่น้ำ"),
        ("amh_Ethi", "ከዕለታት አንድ ቀን", " አንድ ገበሬ በሬውን ይዞ ወደ ገበያ ሄደ።"),
        ("jpn_Jpan", "むかしむかし、あるところに", "おじいさんとおばあさんが住んでいました。"),
        ("mya_Mymr", "ရှေးရှေးတုန်းက", " ရွာလေးတစ်ရွာမှာ လယ်သမားတစ်ယောက် နေထိုင်ခဲ့သည်။"),
        ("bod_Tibt", "སྔོན་དུས་ཡུལ་ཞིག་ལ་", "རྒྱལ་པོ་ཞིག་ཡོད་པ་རེད།"),
        ("urd_Arab", "ایک دفعہ کا ذکر ہے", " کہ ایک گاؤں میں ایک بوڑھا آدمی رہتا تھا۔"),
        (None, "def add(a, b):\n", "    return a + b\n\n\nprint(add(1, 2))  # <b>3</b>"),
    ]
    entries = [
        {"prompt": prompt, "output": output, "code": code, "stop_reason": "end of document"}
        for code, prompt, output in samples
    ]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


class Page(HTMLParser):
    """Collects what a page holds, and checks that its elements are balanced."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.tags, self.attributes, self.stack = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def test_a_whole_run_is_on_the_page(tmp_path: Path) -> None:
    rows = write_run(tmp_path / "run")
    output = write_report(tmp_path / "run", samples=write_samples(tmp_path / "s.jsonl"), output=tmp_path / "r.html")
    assert output == tmp_path / "r.html"
    page = Page(output)
    for fact in ("6.74B", "60 of 60", "8 × NVIDIA H200", "bfloat16", "Resumed once", "finished", "41.0%"):
        assert fact in page.words
    for row in rows:
        assert row["corpus"] in page.words
    assert "English" in page.words
    assert "كان يا ما كان" in page.words
    assert "not a finite number at step 42" in page.words
    assert page.tags.count("svg") == 6  # loss, three panels, tiers over steps, change per corpus
    assert ("p", "lang", "ar-Arab") in page.attributes or ("p", "lang", "arb-Arab") in page.attributes
    assert page.tags.count("article") == 11
    assert all(value == "auto" for tag, name, value in page.attributes if name == "dir")


def small_run(folder: Path, rates: list[dict[str, float]]) -> None:
    with MetricsWriter(folder / "metrics.jsonl") as writer:
        writer.write("start", 0, parameters=10, world_size=1, tokens_per_step=8, train_iters=4, device="cpu",
                     precision="fp32", resumed_from=None)  # fmt: skip
        for step, rate in enumerate(rates, start=1):
            writer.write("train", step, loss=2.0, gradient_norm=1.0, seconds=1.0, mfu=None, tokens=step * 8,
                         tokens_per_second=8.0, **rate)  # fmt: skip


def test_new_tokens_have_a_line_of_their_own(tmp_path: Path) -> None:
    new = [{"learning_rate": rate, "new_tokens_learning_rate": 3e-4} for rate in (0.0, 0.0, 1e-4)]
    small_run(tmp_path, new)
    page = Page(write_report(tmp_path, samples=None, output=tmp_path / "r.html"))
    assert "new tokens' rows are trained alone until step 2 new tokens everything else" in page.words
    data = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert '{"name":"new tokens","css":"t4","y":["3e-4","3e-4","3e-4"]}' in data
    assert '{"name":"everything else","css":"t0","y":["0","0","1e-4"]}' in data
    other = tmp_path / "other"
    small_run(other, [{"learning_rate": rate} for rate in (0.0, 0.0, 1e-4)])
    assert "new tokens" not in Page(write_report(other, samples=None, output=tmp_path / "r.html")).words


def test_what_the_extension_cost_is_on_the_page(tmp_path: Path) -> None:
    small_run(tmp_path, [{"learning_rate": 1e-4}])
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "resolved-1.yml").write_text(f"hf_model: {tmp_path / 'model'}\n")

    def words() -> str:
        return Page(write_report(tmp_path, samples=None, output=tmp_path / "r.html")).words

    assert "Before the extension" not in words()
    (tmp_path / "model").mkdir()
    changes = [LanguageChange(code, code[4:], "low", 100, 2.0, after, 50, 40, 0.0, 0.0)
               for code, after in (("eng_Latn", 2.2), ("swh_Latn", 1.4))]  # fmt: skip
    write_tables(changes, tmp_path / "model", about={"pivots": ["eng_Latn"]})
    assert "English eng_Latn 2.0000 2.2000 +10.0% – all 2 2.0000 1.8000 −10.0%" in words()
    for wrong in ("{", "[]", '{"pivots": []}', '{"pivots": [], "languages": [{"code": 1, "before": "x"}]}', "null"):
        (tmp_path / "model" / "bits_per_byte.json").write_text(wrong)
        assert "bits_per_byte.json is not what tools/extend_model.py writes" in words(), wrong


def test_numbers_are_those_of_the_latest_attempt_and_of_the_summary(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        start = {"parameters": 10, "world_size": 1, "tokens_per_step": 8, "train_iters": 4, "device": "cpu",
                 "precision": "fp32"}  # fmt: skip
        row = {"corpus": "swh_Latn", "code": "swh_Latn", "tier": "low", "source": "monolingual"}
        row |= {"bytes": 1000, "tokens": 9}
        writer.write("start", 0, **start, resumed_from=None)
        writer.write("validation", 0, rows=[{**row, "nats": math.log(2) * 3000}], seconds=1.0)
        writer.write("validation", 4, rows=[{**row, "nats": math.log(2) * 9000}], seconds=1.0)
        writer.write("start", 2, **start, resumed_from=2)
        writer.write("validation", 4, rows=[{**row, "nats": math.log(2) * 1500}], seconds=1.0)
    page = Page(write_report(tmp_path, samples=None, output=tmp_path / "r.html"))
    assert "3.0000" in page.words
    assert "1.5000" in page.words
    assert "−50.0%" in page.words
    assert "9.0000" not in page.words
    assert "Swahili swh_Latn" in page.words


def test_hostile_names_and_texts_are_only_text(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start = {"parameters": 1, "world_size": 1, "tokens_per_step": 1, "train_iters": 9, "device": HOSTILE,
             "precision": HOSTILE}  # fmt: skip
    row = {"corpus": HOSTILE, "code": HOSTILE, "tier": HOSTILE, "source": HOSTILE}
    part = {"tokens": 10, "share": 1.0, "samples": 1, "sampled_tokens": 10, "epochs": 1.0}
    train = {"loss": 1.0, "learning_rate": 1.0, "gradient_norm": 1.0, "tokens": 1, "tokens_per_second": 1.0,
             "seconds": 1.0, "mfu": None}  # fmt: skip
    with MetricsWriter(folder / "metrics.jsonl") as writer:
        writer.write("start", 0, **start, resumed_from=None)
        writer.write("mixture", 0, kind="planned", rows=[{**row, **part}])
        for step, nats in ((1, 5.0), (2, 4.0), (3, 3.0)):
            writer.write("train", step, **train)
            writer.write("validation", step, rows=[{**row, "nats": nats, "bytes": 3, "tokens": 1}], seconds=1.0)
        writer.write("end", 3, reason=HOSTILE)
    sample = {"prompt": HOSTILE, "output": HOSTILE, "code": HOSTILE, "stop_reason": HOSTILE}
    (folder / "samples.jsonl").write_text(json.dumps(sample), encoding="utf-8")
    page = Page(write_report(folder, samples=None, output=tmp_path / "r.html"))
    assert not {"img", "iframe", "link", "object"} & set(page.tags)
    scripts = (tmp_path / "r.html").read_text(encoding="utf-8").count("<script")
    assert scripts == page.tags.count("script") == 1 + 6  # our own, and the data of six charts
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.words.count("alert(1)") >= 12


def test_nothing_is_fetched_and_no_other_script_may_run(tmp_path: Path) -> None:
    write_run(tmp_path)
    output = write_report(tmp_path, samples=None, output=tmp_path / "r.html")
    text = output.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(|\bsrc=|<link", text)
    contents = [value for tag, name, value in Page(output).attributes if (tag, name) == ("meta", "content")]
    (policy,) = [value for value in contents if "src" in value]
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy


def test_a_large_run_stays_small(tmp_path: Path) -> None:
    write_run(tmp_path, languages=939, steps=12_000, resume=False)
    output = write_report(tmp_path, samples=None, output=tmp_path / "r.html")
    assert output.stat().st_size < 2_000_000
    assert "All 942 corpora" in Page(output).words


def test_an_empty_run_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    page = Page(write_report(tmp_path, samples=None, output=tmp_path / "r.html"))
    for note in ("No training step", "No validation", "No mixture", "No generated text"):
        assert note in page.words


def test_an_unfinished_run_with_one_validation(tmp_path: Path) -> None:
    rows = corpora(5)
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("start", 0, parameters=10, world_size=1, tokens_per_step=8, train_iters=40, device="cpu",
                     precision="fp32", resumed_from=None)  # fmt: skip
        writer.write("mixture", 0, kind="planned", rows=mixture(rows, 1000, 0.0))
        empty = {**validation(rows[:1], 0.0)[0], "corpus": "xho_Latn", "bytes": 0, "nats": 0.0}
        writer.write("validation", 0, rows=[*validation(rows, 0.0), empty], seconds=1.0)
    page = Page(write_report(tmp_path, samples=None, output=tmp_path / "r.html"))
    assert "unfinished: step 0 of 40" in page.words
    assert "one validation so far" in page.words
    assert "only the plan" in page.words
    assert "1 corpora have no held-out text" in page.words
    assert before_after_table(tmp_path).startswith("1 validation(s) so far")


def write_tiers(folder: Path, tiers: dict[str, int]) -> Page:
    """Write a run of one corpus a tier, with so many tokens, and its report."""
    rows = [
        {"corpus": f"c-{tier}", "code": "zxx_Zyyy", "tier": tier, "source": "monolingual", "tokens": tokens}
        for tier, tokens in tiers.items()
    ]
    with MetricsWriter(folder / "metrics.jsonl") as writer:
        writer.write("start", 0, parameters=10, world_size=1, tokens_per_step=8, train_iters=40, device="cpu",
                     precision="fp32", resumed_from=None)  # fmt: skip
        writer.write("mixture", 0, kind="planned", rows=mixture(rows, 1000, 0.0))
        for step in (0, 20, 40):
            scores = [{**row, "nats": 100.0 - step, "bytes": 100, "tokens": 9} for row in rows]
            writer.write("validation", step, rows=scores, seconds=1.0)
    return Page(write_report(folder, samples=None, output=folder / "r.html"))


def test_own_tiers_come_by_size_in_every_table(tmp_path: Path) -> None:
    page = write_tiers(tmp_path, {"small": 10, "all": 20, "large": 300})
    assert re.findall(r"(?m)^(\w+) +\d", before_after_table(tmp_path)) == ["large", "all", "small", "all"]
    assert load_run(tmp_path).tiers() == ["large", "all", "small"]
    assert page.attributes.count(("tr", "class", "total")) == 1
    legends = [text for text in page.text if text in ("large", "all", "small")]
    assert legends[:4] == ["large", "all", "small", "all"]  # the first table, with its sum


def test_a_run_without_a_mixture_has_one_tier_and_its_colour(tmp_path: Path) -> None:
    page = write_tiers(tmp_path, {"untiered": 10})
    assert re.findall(r"(?m)^(\w+) +\d", before_after_table(tmp_path)) == ["untiered", "all"]
    assert ("i", "class", "tier t0") in page.attributes
    assert "(c-untiered) " in (tmp_path / "r.html").read_text(encoding="utf-8")  # not "(c-untiered, untiered)"


def test_a_stopped_run_names_its_reason(tmp_path: Path) -> None:
    write_run(tmp_path, end=False)
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("start", 30, parameters=1, world_size=1, tokens_per_step=1, train_iters=60, device="cpu",
                     precision="fp32", resumed_from=30)  # fmt: skip
        writer.write("end", 30, reason="SIGTERM")
    page = Page(write_report(tmp_path, samples=None, output=tmp_path / "r.html"))
    assert "stopped at step 30: SIGTERM" in page.words
    assert "Resumed twice" in page.words


def test_wall_time_and_restarts_count_superseded_attempts_but_not_runs_before_a_fresh_start(tmp_path: Path) -> None:
    times = iter([0, 100, 1000, 1010, 2000, 2005, 3000, 3001])
    with MetricsWriter(tmp_path / "metrics.jsonl", clock=lambda: next(times)) as writer:
        for resumed_from in (None, None, 5, 3):
            writer.write("start", resumed_from or 0, resumed_from=resumed_from)
            writer.write("checkpoint", 9, path="x", seconds=1.0)
    run = load_run(tmp_path)
    assert run.wall_seconds == 10 + 5 + 1
    assert run.resumed_at == [5, 3]


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match=r"metrics\.jsonl does not exist"):
        write_report(tmp_path, samples=None, output=tmp_path / "r.html")
    with pytest.raises(ReportError, match=r"none\.jsonl does not exist"):
        load_samples(tmp_path / "none.jsonl")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "a", "output": "b"}\n\n{"prompt": 3}\n', encoding="utf-8")
    with pytest.raises(ReportError, match=r"broken\.jsonl, line 3: .*'output'"):
        load_samples(broken)
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(ReportError, match="line 1: not valid JSON"):
        load_samples(broken)


@pytest.mark.parametrize(
    ("code", "name", "tag"),
    [
        ("eng_Latn", "English", "en-Latn"),
        ("swh_Latn", "Swahili", "swh-Latn"),
        ("swa_Latn", "Swahili", "sw-Latn"),
        ("eng_Latn-fra_Latn", "English – French", ""),
        ("books", "", ""),
        ("qqq_Latn", "", ""),
    ],
)
def test_language_names(code: str, name: str, tag: str) -> None:
    assert language_name(code) == name
    assert language_tag(code) == tag


def test_the_command_line(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_samples(tmp_path / "samples.jsonl")
    command = [sys.executable, str(ROOT / "tools" / "report.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "report.html")
    assert Page(tmp_path / "report.html").tags.count("article") == 11
    table = subprocess.run([*command, "--table"], capture_output=True, text=True, check=True)
    assert table.stdout.startswith("bits per byte of held-out text, before (step 0) and after (step 60)")
    assert [line.split()[0] for line in table.stdout.splitlines()[4:]] == [*TIERS, "all"]
    failed = subprocess.run([*command[:2], str(tmp_path / "nowhere")], capture_output=True, text=True)
    assert failed.returncode == 1
    assert "does not exist" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_report_and_monitor_need_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import megatron.evaluation.report, megatron.monitor.console, megatron.monitor.tensorboard\n"
        "import megatron.monitor.throughput\n"
        f"megatron.monitor.tensorboard.TensorBoardWriter(__import__('pathlib').Path({str(tmp_path)!r})).close()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
