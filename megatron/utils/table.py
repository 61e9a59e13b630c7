"""Tables of plain text for people."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], *, left: int = 1, ruled: bool = False) -> str:
    """Return rows as aligned columns, two spaces apart.

    Args:
        rows: cells; the first row is the heading. All are of one length.
        left: so many first columns are aligned to the left, the others, being numbers, to the right.
        ruled: draw a line below the heading.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = [["-" * width for width in widths]] if ruled else []
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (rows[0], *rule, *rows[1:])
    )
