"""The frame of a report: one HTML page that holds its looks and its script and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import string
import time
from collections.abc import Sequence
from html import escape


def page(
    *, title: str, header: str, sections: Sequence[tuple[str, str, str]], style: str = "", footer: str = ""
) -> str:
    """Put a page together.

    Args:
        title: of the window.
        header: HTML above the sections.
        sections: (anchor, name in the list of sections, HTML).
        style: CSS beside that of every report.
        footer: last sentence of the page; by default when it was written, and that a run's record is behind it.
    """
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    files = importlib.resources.files("megatron.evaluation.report")
    script = files.joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    frame = string.Template(files.joinpath("page.html").read_text(encoding="utf-8"))
    return frame.substitute(
        # Only our own script may run, and nothing may be fetched: a text that slipped through could do nothing.
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        title=escape(title),
        style=files.joinpath("page.css").read_text(encoding="utf-8") + style,
        script=script,
        header=header,
        links="".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name, _ in sections),
        sections="\n".join(html for _, _, html in sections),
        footer=escape(footer or f"Written {now} from metrics.jsonl. Bits per byte = nats / (ln 2 × UTF-8 bytes)."),
    )


def facts_list(facts: Sequence[tuple[str, str]]) -> str:
    """Return (name, value) pairs as the list in the header of a page."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{items}</dl>'
