"""Tables as people have them: read right, or asked about. All of it needs the extra `tables`."""

from fedmeta.data.tables.infer import infer
from fedmeta.data.tables.preparing import prepare
from fedmeta.data.tables.sources import read_table
from fedmeta.data.tables.values import row_names

__all__ = ["infer", "prepare", "read_table", "row_names"]
