#!/usr/bin/env python3
"""MB/s of UTF-8 text whose script is found, on one core, beside GlotScript.

Both say which scripts a text is written in and the share of each. The text is that of the Universal Declaration of
Human Rights where ``../shared`` has it (279 languages), as articles, as pages of a few and as whole declarations; else
the sample corpus. Before the timing, the main script of every document is compared.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import orjson
from common import Comparison, alternate, parse_arguments, show

from megatron.corpus.read import find_corpora, read_documents
from megatron.corpus.sample import build_sample_corpus
from megatron.languages.script import script_counts, script_profile

DECLARATIONS = Path(__file__).resolve().parents[2] / "shared" / "data" / "udhr" / "raw"
PAGE_CHARACTERS = 1500


def languages() -> list[list[str]]:
    """Return the documents of each language."""
    if DECLARATIONS.is_dir():
        files = sorted(DECLARATIONS.glob("*.jsonl"))
        return [[orjson.loads(line)["text"] for line in path.read_bytes().splitlines()] for path in files]
    with tempfile.TemporaryDirectory() as folder:
        build_sample_corpus(Path(folder))
        corpora = [corpus for corpus in find_corpora(Path(folder)) if corpus.source == "monolingual"]
        return [[document.text for path in corpus.paths for document in read_documents(path)] for corpus in corpora]


def pages(documents: list[str]) -> list[str]:
    """Join the documents of one language to texts of about PAGE_CHARACTERS."""
    joined: list[str] = [""]
    for document in documents:
        if len(joined[-1]) >= PAGE_CHARACTERS:
            joined.append("")
        joined[-1] += document + "\n"
    return joined


def load_peer() -> tuple[Callable[[str], object] | None, str]:
    """Return GlotScript's function, or None where it is not installed, and its name."""
    try:
        from GlotScript import sp
    except ImportError:
        return None, "GlotScript"
    try:
        return sp, f"GlotScript {version('GlotScript')}"
    except PackageNotFoundError:
        return sp, "GlotScript"


def compare(documents: list[str], peer: Callable[[str], object]) -> None:
    """Print on how many documents the most frequent Unicode script is the same, and the pairs where it is not."""
    differing: dict[tuple[str, str], list[str]] = defaultdict(list)
    for text in documents:
        theirs = str(peer(text)[0])  # type: ignore[index]
        ours = next(iter(script_counts(text)), "None")
        if ours != theirs:
            differing[ours, theirs].append(text)
    same = len(documents) - sum(map(len, differing.values()))
    print(f"the same main script on {same:,} of {len(documents):,} documents")
    for (ours, theirs), texts in sorted(differing.items()):
        print(f"  ours {ours}, theirs {theirs}: {len(texts):,}, such as {texts[0][:60]!r}")


def main() -> None:
    """Compare the answers, then the speed on documents of three lengths."""
    arguments = parse_arguments(__doc__ or "")
    texts = languages()
    sizes = {
        "articles": [document for documents in texts for document in documents],
        "pages": [page for documents in texts for page in pages(documents)],
        "declarations": ["\n".join(documents) for documents in texts],
    }
    peer, name = load_peer()
    if peer is not None:
        compare(sizes["articles"], peer)
    lines = []
    for case, documents in sizes.items():
        amount = sum(len(document.encode("utf-8")) for document in documents) / 1e6
        mean_bytes = amount * 1e6 / len(documents)

        def each(find: Callable[[str], object], documents: list[str] = documents) -> Callable[[int], object]:
            return lambda _: [find(document) for document in documents]

        rates = alternate(
            each(script_profile),
            None if peer is None else each(peer),
            repetitions=3 if arguments.quick else 7,
            amount=amount,
        )
        lines.append(Comparison(f"{case}, {mean_bytes:,.0f} bytes", *rates, name, "MB/s"))
    show(lines, as_json=arguments.json)


if __name__ == "__main__":
    main()
