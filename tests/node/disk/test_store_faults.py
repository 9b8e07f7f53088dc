import errno
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.node.disk.memory import Crash
from fedmeta.node.errors import BadChunk, BlobCorrupt, DiskError, NotKept, OverQuota
from fedmeta.node.wire.chunks import CHUNK, Blob
from tests.examples import examples
from tests.node.disk.failing import FOLDER, Fault, broken, new_disk
from tests.node.disk.storing import DATA, NAMES, PLACE, Model, acts, begin, opened, piece


@examples(100)
@given(acts, st.integers(0, 60), st.booleans(), st.integers(0, 8), st.randoms(use_true_random=False))
def test_after_a_crash_at_any_operation_what_was_acknowledged_is_there_and_nothing_is_half_made(
    acts, number, power, again, random
):
    disk = new_disk()
    model, fault = Model(), Fault(number)
    disk.before = fault
    try:
        store = opened(disk)
        for act in acts:
            model.play(store, act)
    except Crash:
        pass
    disk.crash(random) if power else disk.kill()
    disk.before = Fault(again)
    try:
        opened(disk)
    except Crash:
        disk.crash(random)
    disk.before = Fault()
    disk.kill()
    with opened(disk) as store:
        model.check(store)
        # What the crash left over is gone: the files are the blobs' and no others.
        assert sum(disk.sizes(PLACE).values()) == store.used
        for name in store.names():
            for lacking in store.missing(name):
                store.put(name, lacking, piece(name, lacking))
    disk.crash(random)
    with opened(disk) as store:
        for name in {*model.chunks} - {model.unsure}:
            assert store.read(name) == DATA[name]


@examples(100)
@given(
    acts,
    st.integers(0, 40),
    st.sampled_from(["create", "rename", "flush_folder", "write", "reserve", "flush", "open", "read"]),
    st.sampled_from([errno.EIO, errno.ENOSPC]),
)
def test_after_a_fault_of_the_disk_the_store_goes_on_and_loses_nothing(acts, number, kind, error):
    disk = new_disk()
    store = opened(disk)
    model = Model()
    fault = broken(kind, number, error)
    disk.before = fault
    for act in acts:
        try:
            model.play(store, act)
        except (DiskError, BlobCorrupt):
            disk.before = Fault()
            break
    disk.before = Fault()
    for name in {*NAMES} - {model.unsure}:
        assert (store.blob(name) is not None) == (name in model.chunks)
    # The same acts, once more, without the fault.
    for act in acts:
        model.play(store, act)
    model.check(store)
    disk.kill()
    model.check(opened(disk))


@examples(100)
@given(acts, st.integers(0, 5 * CHUNK))
def test_the_files_never_exceed_the_quota(acts, quota):
    disk = new_disk()
    most = 0

    def watch(operation, path, size):
        nonlocal most
        if PLACE in disk._folders:
            most = max(most, sum(disk.sizes(PLACE).values()))

    disk.before = watch
    store = opened(disk, quota)
    model = Model()
    for act in acts:
        before = (store.names(), store.used, disk.sizes(PLACE))
        try:
            model.play(store, act)
        except OverQuota:
            assert (store.names(), store.used, disk.sizes(PLACE)) == before
        watch("", PLACE, 0)
        assert store.used + store.free == quota
        assert store.used == sum(disk.sizes(PLACE).values())
    assert most <= quota


@given(st.integers(0, 12 * CHUNK // 4096))
def test_on_a_full_disk_a_blob_that_was_begun_can_still_come(blocks):
    disk = new_disk(capacity=blocks * 4096)
    try:
        store = opened(disk)
        begin(store, NAMES[2])
    except DiskError:
        # No half of it is left.
        assert not [name for name in disk.sizes(PLACE) if name != "lock"]
        return
    disk.capacity = disk.used
    for number in (2, 0, 1):
        store.put(NAMES[2], number, piece(NAMES[2], number))
    assert store.read(NAMES[2]) == DATA[NAMES[2]]
    with pytest.raises(OverQuota, match="the disk of /node/blobs is full"):
        store.attach(NAMES[2], "wraps", bytes(5000))
    with pytest.raises(OverQuota, match="is full"):
        begin(store, NAMES[1])
    assert store.names() == [NAMES[2]]
    store.delete(NAMES[2])
    assert store.used == 0


@given(st.data())
def test_a_chunk_is_never_accepted_wrong(draw):
    store = opened(new_disk())
    name = NAMES[2]
    begin(store, name)
    number = draw.draw(st.integers(-1, 3))
    wrong = bytearray(piece(name, max(0, number) % 3))
    if 0 <= number < 3:
        wrong[draw.draw(st.integers(0, len(wrong) - 1))] ^= 1
    with pytest.raises(BadChunk):
        store.put(name, number, bytes(wrong))
    assert store.missing(name) == [0, 1, 2]


@given(st.sampled_from(NAMES), st.data())
def test_a_chunk_that_the_disk_damaged_is_not_given_out_and_can_come_again(name, draw):
    disk = new_disk()
    store = opened(disk)
    store.write(name, DATA[name])
    at = draw.draw(st.integers(0, len(DATA[name]) - 1))
    disk.damage(PLACE / f"{name.replace('/', '+')}~data", at)
    bad = at // CHUNK
    if draw.draw(st.booleans()):
        for act in (lambda: store.chunk(name, bad), lambda: store.chunk(name, bad)):
            with pytest.raises((BlobCorrupt, NotKept)):
                act()
    else:
        disk.kill()
        store = opened(disk)
    assert store.missing(name) == [bad]
    assert not store.complete(name)
    store.put(name, bad, piece(name, bad))
    assert store.read(name) == DATA[name]


def test_reading_says_first_that_the_disk_damaged_it_and_then_that_it_is_missing():
    disk = new_disk()
    store = opened(disk)
    store.write(NAMES[2], DATA[NAMES[2]])
    disk.damage(PLACE / "model+00ff~data", CHUNK)
    with pytest.raises(BlobCorrupt, match="damaged chunk 1 of model/00ff"):
        store.read(NAMES[2])
    with pytest.raises(NotKept, match="chunk 1 of model/00ff is not here yet"):
        store.read(NAMES[2])


def test_a_sector_that_cannot_be_read_is_one_chunk_that_is_lost():
    disk = new_disk()
    opened(disk).write(NAMES[2], DATA[NAMES[2]])
    disk.kill()
    store = opened(disk)
    disk.before = broken("read", 1)
    assert store.missing(NAMES[2]) == [1]


@pytest.mark.parametrize("at", [0, 3, 40, 80])
def test_a_damaged_head_is_a_blob_that_is_gone_and_the_others_stay(at):
    disk = new_disk()
    store = opened(disk)
    for name in NAMES:
        store.write(name, DATA[name])
    store.attach(NAMES[2], "offer", b"signed")
    disk.kill()
    disk.damage(PLACE / "model+00ff~head", at, 0x80)
    store = opened(disk)
    assert store.damaged == [NAMES[2]]
    assert store.names() == sorted(NAMES[:2])
    assert sum(disk.sizes(PLACE).values()) == store.used
    assert store.write(NAMES[2], DATA[NAMES[2]]) == Blob.of(DATA[NAMES[2]])


def test_a_disk_that_was_lost_is_an_empty_store():
    disk = new_disk()
    opened(disk).write(NAMES[0], DATA[NAMES[0]])
    disk.lose()
    disk.make_folder(FOLDER)
    assert opened(disk).names() == []


def test_a_failed_flush_of_a_chunk_leaves_it_missing():
    disk = new_disk()
    store = opened(disk)
    begin(store, NAMES[2])
    disk.before = broken("flush")
    with pytest.raises(DiskError):
        store.put(NAMES[2], 0, piece(NAMES[2], 0))
    assert store.missing(NAMES[2]) == [0, 1, 2]
    store.put(NAMES[2], 0, piece(NAMES[2], 0))
    disk.crash(Random(1))
    assert opened(disk).missing(NAMES[2]) == [1, 2]


def test_a_blob_whose_deletion_a_crash_cut_off_is_whole_or_gone():
    counting, disk = Fault(), new_disk()
    store = opened(disk)
    store.write(NAMES[0], DATA[NAMES[0]])
    store.attach(NAMES[0], "offer", b"signed")
    disk.before = counting
    store.delete(NAMES[0])
    seen = set()
    for number in range(counting.seen):
        for seed in range(12):
            disk = new_disk()
            store = opened(disk)
            store.write(NAMES[0], DATA[NAMES[0]])
            store.attach(NAMES[0], "offer", b"signed")
            disk.before = Fault(number)
            with pytest.raises(Crash):
                store.delete(NAMES[0])
            disk.crash(Random(seed))
            store = opened(disk)
            assert store.damaged == []
            seen.add(store.blob(NAMES[0]))
            if store.names():
                assert store.read(NAMES[0]) == DATA[NAMES[0]]
                assert store.attachment(NAMES[0], "offer") == b"signed"
    assert seen == {None, Blob.of(DATA[NAMES[0]])}


def test_what_was_deleted_is_gone_for_good():
    for seed in range(20):
        disk = new_disk()
        store = opened(disk)
        store.write(NAMES[0], DATA[NAMES[0]])
        store.attach(NAMES[0], "offer", b"signed")
        store.delete(NAMES[0])
        disk.crash(Random(seed))
        assert [*disk.sizes(PLACE)] in ([], ["lock"])


def test_what_is_not_missing_after_a_start_survives_a_crash_of_the_machine():
    disk = new_disk()
    store = opened(disk)
    begin(store, NAMES[2])
    disk.before = Fault(0, kinds=("flush",))
    with pytest.raises(Crash):
        store.put(NAMES[2], 1, piece(NAMES[2], 1))
    disk.kill()
    assert opened(disk).missing(NAMES[2]) == [0, 2]
    for seed in range(10):
        disk.crash(Random(seed))
        assert opened(disk).missing(NAMES[2]) == [0, 2]


def test_the_quota_is_kept_to_the_byte():
    whole = opened(new_disk())
    whole.write(NAMES[1], DATA[NAMES[1]])
    blob = whole.used
    with pytest.raises(OverQuota):
        begin(opened(new_disk(), quota=blob - 1), NAMES[1])
    # An attachment has 32 bytes besides its data, and the old one stays until the new one is in its place.
    for quota, fits in ((blob + 41, 0), (blob + 42, 1), (blob + 83, 1), (blob + 84, 2)):
        store = opened(new_disk(), quota)
        store.write(NAMES[1], DATA[NAMES[1]])
        for _ in range(fits):
            store.attach(NAMES[1], "wraps", bytes(10))
        if fits < 2:
            with pytest.raises(OverQuota, match="no room for wraps of update/1/ben"):
                store.attach(NAMES[1], "wraps", bytes(10))
