"""The engine for organisations that do not trust one another: CometBFT orders blocks, this process executes them."""

from fedmeta import _extras

_extras.need_extra("cometbft", "the engine CometBFT")
