"""pyarrow's functions on columns, which it makes when it is imported, so that no type checker knows them."""

from typing import Any

import pyarrow.compute

pc: Any = pyarrow.compute
