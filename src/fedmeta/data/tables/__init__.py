"""Tables as people have them: read right, or asked about. All of it needs the extra `tables`."""

from fedmeta.data.tables.infer import infer
from fedmeta.data.tables.preparing import prepare
from fedmeta.data.tables.sources import read_table

__all__ = ["infer", "prepare", "read_table"]
