import os
import stat

import pytest

from fedmeta.node.disk.store import LARGEST_ATTACHMENT, BlobStore
from fedmeta.node.errors import BadChunk, BlobCorrupt, DiskError, FolderInUse, NotKept, OverQuota
from fedmeta.node.wire.chunks import Blob, leaves
from tests.node.disk.failing import new_disk
from tests.node.disk.storing import DATA, LENGTHS, NAMES, PLACE, QUOTA, begin, opened, piece


def test_on_a_real_disk_blobs_come_in_any_order_and_stay(tmp_path):
    with BlobStore(tmp_path / "blobs", QUOTA) as store:
        begin(store, NAMES[2])
        assert store.missing(NAMES[2]) == [0, 1, 2]
        store.put(NAMES[2], 2, piece(NAMES[2], 2))
        assert not store.complete(NAMES[2])
        file = tmp_path / "blobs" / "model+00ff~data"
        assert file.stat().st_size == LENGTHS[2]
        assert file.stat().st_blocks * 512 >= LENGTHS[2]
        assert {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()} == {0o600}
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with BlobStore(tmp_path / "blobs", QUOTA) as store:
        assert store.missing(NAMES[2]) == [0, 1]
        for number in (1, 0):
            store.put(NAMES[2], number, piece(NAMES[2], number))
        assert store.read(NAMES[2]) == DATA[NAMES[2]]
        assert store.write(NAMES[0], DATA[NAMES[0]]) == Blob.of(DATA[NAMES[0]])
        store.attach(NAMES[0], "offer", b"signed")
    with BlobStore(tmp_path / "blobs", QUOTA) as store:
        assert store.names() == sorted([NAMES[0], NAMES[2]])
        assert store.complete(NAMES[2])
        assert store.attachment(NAMES[0], "offer") == b"signed"
        assert store.used == sum(path.stat().st_size for path in (tmp_path / "blobs").iterdir())
        for name in store.names():
            store.delete(name)
        assert (store.used, store.free, os.listdir(tmp_path / "blobs")) == (0, QUOTA, ["lock"])


def test_one_process_at_a_time(tmp_path):
    with BlobStore(tmp_path / "blobs", QUOTA), pytest.raises(FolderInUse, match="another process"):
        BlobStore(tmp_path / "blobs", QUOTA)
    BlobStore(tmp_path / "blobs", QUOTA).close()


def test_what_is_attached_can_be_replaced_and_is_checked():
    disk = new_disk()
    store = opened(disk)
    begin(store, NAMES[0])
    assert store.attachment(NAMES[0], "wraps/ben") is None
    for data in (b"one", b"", b"three"):
        store.attach(NAMES[0], "wraps/ben", data)
        assert store.attachment(NAMES[0], "wraps/ben") == data
    disk.damage(PLACE / "update+1+alice~at~wraps+ben", 33)
    with pytest.raises(BlobCorrupt, match="damaged wraps/ben of update/1/alice"):
        store.attachment(NAMES[0], "wraps/ben")


def test_what_is_attached_is_of_a_bounded_size():
    store = opened(new_disk())
    begin(store, NAMES[0])
    store.attach(NAMES[0], "wraps", bytes(LARGEST_ATTACHMENT))
    with pytest.raises(OverQuota, match="at most 1048576 bytes, not 1048577"):
        store.attach(NAMES[0], "wraps", bytes(LARGEST_ATTACHMENT + 1))
    assert store.attachment(NAMES[0], "wraps") == bytes(LARGEST_ATTACHMENT)


def test_a_name_belongs_to_one_blob_until_it_is_deleted():
    store = opened(new_disk())
    store.write(NAMES[0], DATA[NAMES[0]])
    begin(store, NAMES[0])
    assert store.complete(NAMES[0])
    for act in (lambda: store.write(NAMES[0], b"other"), lambda: store.begin(NAMES[0], Blob.of(b"o"), leaves(b"o"))):
        with pytest.raises(NotKept, match="kept as another blob"):
            act()
    store.delete(NAMES[0])
    store.delete(NAMES[0])
    store.write(NAMES[0], b"other")
    assert store.read(NAMES[0]) == b"other"


def test_a_write_completes_what_was_begun():
    store = opened(new_disk())
    begin(store, NAMES[2])
    store.put(NAMES[2], 1, piece(NAMES[2], 1))
    store.write(NAMES[2], DATA[NAMES[2]])
    assert store.read(NAMES[2]) == DATA[NAMES[2]]


@pytest.mark.parametrize(
    "name", ["", "a/../b", "..", "/a", "a/", "a//b", "A", "a b", "a+b", "a~head", "ä", "a\n", "x" * 151]
)
def test_names_of_another_form_are_refused(name):
    store = opened(new_disk())
    with pytest.raises(NotKept, match="a name must have at most 150"):
        store.write(name, b"data")
    begin(store, NAMES[0])
    with pytest.raises(NotKept, match="a name must have at most 80"):
        store.attach(NAMES[0], name, b"data")
    assert store.names() == [NAMES[0]]


def test_leaves_of_another_blob_reserve_nothing():
    store = opened(new_disk())
    with pytest.raises(BadChunk, match="leaves"):
        store.begin(NAMES[0], Blob.of(DATA[NAMES[0]]), leaves(DATA[NAMES[1]]))
    assert store.used == 0


def test_what_is_not_here_is_said_by_name():
    store = opened(new_disk())
    acts = [
        lambda: store.put("no", 0, b""),
        lambda: store.missing("no"),
        lambda: store.leaves("no"),
        lambda: store.chunk("no", 0),
        lambda: store.read("no"),
        lambda: store.attach("no", "a", b""),
        lambda: store.attachment("no", "a"),
    ]
    for act in acts:
        with pytest.raises(NotKept, match="there is no blob no"):
            act()
    assert store.blob("no") is None
    assert not store.complete("no")
    begin(store, NAMES[1])
    with pytest.raises(BadChunk, match="there is no chunk 1"):
        store.chunk(NAMES[1], 1)


def test_over_quota_names_the_blob_and_what_is_left():
    store = opened(new_disk(), quota=1000)
    with pytest.raises(
        OverQuota, match="no room for update/1/ben: it has 1048650 bytes, and of the quota of 1000 bytes 1000 are"
    ):
        begin(store, NAMES[1])


def test_without_a_folder_for_its_folder_there_is_no_store(tmp_path):
    with pytest.raises(DiskError, match="cannot use"):
        BlobStore(tmp_path / "none" / "blobs", QUOTA)
