"""A study: a grid of data, procedures, support sizes and seeds, declared in a file before it runs.

`file` reads the declaration, `cells` says what each cell is and by which digest it is known, `work` computes one,
`workers` does so on all cores, `table` keeps what came out, and `results`, `page` and `figures` make the report of the
table alone.
"""
