"""Small tables as people have them, as the text of their files."""

ILL, SITES = ("no", "yes"), "abc"


def table(header, row, lines=24, separator=","):
    """Return a file with a header and so many rows."""
    made = [separator.join(header), *(separator.join(map(str, row(i))) for i in range(lines))]
    return "\n".join(made) + "\n"


def plain(lines=24, separator=",", decimal="."):
    """Return the table that most others are a variation of: site, n, dose, ill."""
    return table(
        ["site", "n", "dose", "ill"],
        lambda i: (SITES[i % 3], i, str(i * 2.5).replace(".", decimal), ILL[i % 2]),
        lines,
        separator,
    )


def one(name, value, lines=24, separator=","):
    """Return a table with one feature."""
    return table(["site", name, "ill"], lambda i: (SITES[i % 3], value(i), ILL[i % 2]), lines, separator)
