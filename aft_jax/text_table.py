"""Tables that are printed: columns as wide as their widest cell."""

from collections.abc import Container, Sequence


def text_table(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> str:
    """Lines of aligned columns, two spaces apart.

    Args:
        rows: cells of each row, the header first; all of one length.
        right: numbers of the columns that are aligned to the right.

    Returns:
        The lines, without spaces at their ends.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
