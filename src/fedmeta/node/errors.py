"""Every exception of a node.

MemberError                 the root; a FedmetaError
├── ConfigError             the configuration or the policy cannot be used
├── NotApproved             a procedure that nobody approved, or that the policy refuses
├── NothingFinal            there is no model yet that a round has given
├── WallError               a process could not be set apart from what it must not reach
├── FolderInUse             another process uses the node's folder
├── DiskError               what a node keeps cannot be used
│   ├── JournalFailed       an entry may not be on the disk: the node must stop
│   ├── JournalFull         an entry for which the journal has no room
│   ├── JournalDamaged      entries are damaged other than by a crash
│   ├── OverQuota           there is no room for a blob
│   ├── NotKept             a blob, or a part of one, that is not here
│   └── BlobCorrupt         what the disk gives back is not what was written
├── BadChunk                bytes that do not belong to a blob
├── SealError               a sealed blob that does not open
├── RequestRefused          a request that a gate refuses, with a code
├── Unreachable             a peer or the ledger cannot be reached
├── NotDone                 the trainer could not do a job
├── MessageRefused          a message that is not well formed by the procedure
├── BadMemory               what was kept of earlier rounds' scores cannot be used
└── WrongArithmetic         this machine computes otherwise than the others would
"""

from fedmeta.errors import FedmetaError


class MemberError(FedmetaError):
    """The root of what a node raises on purpose."""


class ConfigError(MemberError):
    """The configuration or the policy cannot be used; the message names the file and the line's key."""


class NotApproved(MemberError):
    """A procedure that nobody approved, or that the policy refuses."""


class NothingFinal(MemberError):
    """There is no model yet that a final round has given: to try again later is of use."""


class WallError(MemberError):
    """A process could not be set apart from what it must not reach."""


class FolderInUse(MemberError):
    """Another process uses the node's folder."""


class DiskError(MemberError):
    """What a node keeps cannot be used."""


class JournalFailed(DiskError):
    """An entry may not be on the disk: nothing may be promised any more."""


class JournalFull(DiskError):
    """The journal has no room for an entry: fewer must be kept."""


class JournalDamaged(DiskError):
    """Entries of the journal are damaged other than by a crash."""


class OverQuota(DiskError):
    """There is no room for a blob."""


class NotKept(DiskError):
    """A blob, a chunk or a name that is not here, or is kept as something else."""


class BlobCorrupt(DiskError):
    """What the disk gives back is not what was written."""


class BadChunk(MemberError):
    """Bytes that do not belong to a blob."""


class SealError(MemberError):
    """A sealed blob that does not open with this key, or was changed."""


class RequestRefused(MemberError):
    """A request that a gate refuses; `code` says why."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Unreachable(MemberError):
    """A peer or the ledger cannot be reached."""


class NotDone(MemberError):
    """The trainer could not do a job; the message says why."""


class MessageRefused(MemberError):
    """A message that is not well formed by the procedure."""


class BadMemory(MemberError):
    """What was kept of earlier rounds' scores cannot be used: it is damaged, or of a model of another size."""


class WrongArithmetic(MemberError):
    """This machine computes otherwise than the others would: its memory, processor or libraries are unsound."""
