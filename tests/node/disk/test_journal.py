import errno
import os
import stat
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.node.disk.journal import LONGEST, Journal
from fedmeta.node.disk.memory import Crash
from fedmeta.node.errors import DiskError, FolderInUse, JournalDamaged, JournalFailed, JournalFull
from tests.examples import examples
from tests.node.disk.failing import FOLDER, Fault, broken, new_disk

PATH = FOLDER / "journal"
SIZE = 1 << 16
entries = st.lists(st.binary(max_size=3000), max_size=8)


def read(disk):
    journal, found = Journal.open(PATH, disk)
    journal.close()
    return found


def made(disk, written=(), size=SIZE):
    journal = Journal.create(PATH, size, disk)
    for entry in written:
        journal.append(entry)
    return journal


def test_on_a_real_disk_it_is_whole_private_and_of_one_length(tmp_path):
    path = tmp_path / "journal"
    with Journal.create(path, SIZE) as journal:
        length, blocks = path.stat().st_size, path.stat().st_blocks
        assert length == 2 * SIZE
        assert blocks * 512 >= length
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for entry in (b"", b"one", bytes(5000)):
            journal.append(entry)
        assert path.stat().st_size == length
    journal, found = Journal.open(path)
    with journal:
        assert found == [b"", b"one", bytes(5000)]
        journal.keep([b"two"])
        journal.append(b"three")
    assert Journal.open(path)[1] == [b"two", b"three"]
    assert os.listdir(tmp_path) == ["journal"]


def test_one_process_at_a_time(tmp_path):
    with Journal.create(tmp_path / "journal", SIZE), pytest.raises(FolderInUse, match="another process"):
        Journal.open(tmp_path / "journal")
    journal, _ = Journal.open(tmp_path / "journal")
    journal.close()


@given(st.lists(st.tuples(st.booleans(), entries), max_size=5))
def test_it_gives_back_what_was_appended_or_kept_in_order(acts):
    disk = new_disk()
    made(disk).close()
    expected = []
    for keep, some in acts:
        journal, found = Journal.open(PATH, disk)
        assert found == expected
        with journal:
            if keep:
                journal.keep(some)
                expected = list(some)
            else:
                for entry in some:
                    if len(entry) <= journal.free:
                        journal.append(entry)
                        expected.append(entry)
    assert read(disk) == expected


def play(disk, acts, kept, trying):
    """Do the acts; `kept` is what was acknowledged, and `trying` what may be there instead."""
    journal = Journal.create(PATH, SIZE, disk)
    kept[:], trying[:] = [[]], []
    for keep, some in acts:
        if keep:
            trying[:] = [list(some)]
            journal.keep(some)
            kept[:], trying[:] = [list(some)], []
        for entry in [] if keep else some:
            if len(entry) > journal.free:
                continue
            trying[:] = [kept[0] + [entry]]
            journal.append(entry)
            kept[:], trying[:] = trying[:], []
    journal.close()


@examples(200)
@given(
    st.lists(st.tuples(st.booleans(), entries), min_size=1, max_size=4),
    st.integers(0, 120),
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=2),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_after_a_crash_at_any_operation_and_crashes_of_the_recovery_what_was_acknowledged_is_there(
    acts, number, again, power, random
):
    disk = new_disk()
    disk.before = Fault(number)
    kept, trying = [], []
    try:
        play(disk, acts, kept, trying)
    except Crash:
        disk.crash(random) if power else disk.kill()
    for at, off in again:
        disk.before = Fault(at)
        try:
            read(disk)
        except (Crash, DiskError):
            disk.crash(random) if off else disk.kill()
    disk.before = Fault()
    if not kept:
        if PATH.name not in disk.sizes(FOLDER):
            disk.kill()
            made(disk).close()
        assert read(disk) == []
        return
    found = read(disk)
    assert found in [*kept, *trying]
    journal, _ = Journal.open(PATH, disk)
    journal.append(b"next")
    journal.close()
    disk.crash(random)
    assert read(disk) == [*found, b"next"]


def test_every_operation_of_a_short_life_is_a_place_to_crash():
    disk = new_disk()
    acts = [(False, [b"a" * 900, b"b"]), (True, [b"c" * 700]), (False, [b"d"])]
    counting = Fault()
    disk.before = counting
    play(disk, acts, [], [])
    for number in range(counting.seen):
        for seed in range(6):
            disk = new_disk()
            disk.before = Fault(number)
            kept, trying = [], []
            with pytest.raises(Crash):
                play(disk, acts, kept, trying)
            disk.crash(Random(seed))
            disk.before = Fault()
            if kept:
                assert read(disk) in [*kept, *trying]
            else:
                assert PATH.name not in disk.sizes(FOLDER) or read(disk) == []


@examples(200)
@given(st.integers(0, 40), st.sampled_from(["write", "flush"]), st.booleans(), st.randoms(use_true_random=False))
def test_after_a_failed_write_or_flush_nothing_is_promised_and_nothing_acknowledged_is_lost(number, kind, off, random):
    disk = new_disk()
    journal = made(disk)
    disk.before = broken(kind, number)
    kept, tried = [], None
    for value in range(60):
        entry = bytes([value]) * 50
        try:
            journal.append(entry)
        except JournalFailed:
            tried = entry
            break
        kept.append(entry)
    assert tried is not None
    assert disk.before.hit
    for act in (lambda: journal.append(b""), lambda: journal.keep([])):
        with pytest.raises(JournalFailed, match="failed before"):
            act()
    disk.crash(random) if off else disk.kill()
    found = read(disk)
    assert found in (kept, [*kept, tried])
    # What was read may have been in memory only; it is on the disk now.
    disk.crash(random)
    assert read(disk) == found


def test_a_failed_flush_while_keeping_leaves_the_old_entries_or_the_new_ones():
    for number in range(3):
        disk = new_disk()
        journal = made(disk, [b"old"])
        disk.before = broken("flush", number)
        with pytest.raises(JournalFailed, match="cannot write"):
            journal.keep([b"new"])
        with pytest.raises(JournalFailed):
            journal.append(b"more")
        disk.crash(Random(number))
        assert read(disk) in ([b"old"], [b"new"])


def test_a_full_disk_cannot_stop_a_promise():
    disk = new_disk()
    journal = made(disk)
    disk.capacity = disk.used
    for value in range(100):
        if journal.free < 3000:
            journal.keep([b"all before"])
        journal.append(bytes([value]) * 3000)
    journal.close()
    assert read(disk)[-1] == bytes([99]) * 3000


def test_where_a_disk_is_full_none_is_made_and_nothing_is_left():
    disk = new_disk(capacity=SIZE)
    with pytest.raises(DiskError, match="full"):
        made(disk)
    assert disk.sizes(FOLDER) == {}
    disk.capacity = 4 * SIZE
    assert read(disk_with(disk)) == []


def disk_with(disk):
    made(disk).close()
    return disk


def test_any_failure_while_one_is_made_leaves_nothing():
    counting = Fault()
    disk = new_disk()
    disk.before = counting
    made(disk)
    for number in range(counting.seen):
        disk = new_disk()
        disk.before = Fault(number, error=errno.EIO)
        with pytest.raises(DiskError):
            made(disk)
        assert disk.sizes(FOLDER) == {}


def test_a_torn_tail_is_dropped_and_does_not_come_back():
    disk = new_disk()
    made(disk, [b"first"]).close()
    with_tail = list(disk.sizes(FOLDER))
    assert with_tail == ["journal"]
    torn = 3 * 4096 + 56 + 20
    disk.damage(PATH, torn, 0xFF)
    assert read(disk) == [b"first"]
    disk.crash(Random(0))
    file = disk.open(PATH)
    assert file.read(torn, 1) == b"\0"


@examples(200)
@given(st.data())
def test_damage_of_any_byte_in_use_is_refused_or_changes_nothing(draw):
    disk = new_disk()
    written = [b"a" * 700, b"b" * 9, b"c" * 30]
    made(disk, written).close()
    if draw.draw(st.booleans()):
        journal, _ = Journal.open(PATH, disk)
        journal.keep(written)
        journal.close()
    at = draw.draw(st.integers(0, 2 * SIZE - 1) | st.integers(12288, 13200) | st.integers(SIZE + 12288, SIZE + 13200))
    disk.damage(PATH, at, 1 << draw.draw(st.integers(0, 7)))
    try:
        found = read(disk)
    except JournalDamaged:
        return
    assert found == written


@pytest.mark.parametrize("at", [12288, 12288 + 8, 12288 + 60, 12288 + 800])
def test_a_damaged_entry_that_was_flushed_is_refused_even_if_it_is_the_last(at):
    disk = new_disk()
    made(disk, [b"a" * 700, b"b" * 100]).close()
    disk.damage(PATH, at)
    with pytest.raises(JournalDamaged, match="2 entries were flushed"):
        read(disk)


def test_damage_of_the_header_does_not_bring_back_what_was_replaced():
    disk = new_disk()
    journal = made(disk, [b"old"])
    journal.keep([b"new"])
    journal.close()
    disk.damage(PATH, SIZE)
    with pytest.raises(JournalDamaged, match="neither half"):
        read(disk)


def test_old_entries_that_a_crash_left_beside_the_new_ones_do_not_come_back_either():
    counting, disk = Fault(), new_disk()
    journal = made(disk, [b"old"])
    disk.before = counting
    journal.keep([b"new"])
    # Cut off before each operation, with all that came before it on the disk.
    for number in range(counting.seen):
        disk = new_disk()
        journal = made(disk, [b"old"])
        disk.before = Fault(number)
        with pytest.raises(Crash):
            journal.keep([b"new"])
        disk.kill()
        found = read(disk)
        assert found in ([b"old"], [b"new"])
        if found == [b"new"]:
            disk.damage(PATH, SIZE)
            with pytest.raises(JournalDamaged, match="neither half"):
                read(disk)


def test_what_an_attempt_to_keep_left_behind_is_no_part_of_the_next_one():
    counting, disk = Fault(), new_disk()
    journal = made(disk)
    disk.before = counting
    journal.keep([b"a", b"b", b"c"])
    for number in range(counting.seen):
        disk = new_disk()
        journal = made(disk)
        disk.before = Fault(number)
        with pytest.raises(Crash):
            journal.keep([b"a", b"b", b"c"])
        disk.kill()
        journal, _ = Journal.open(PATH, disk)
        journal.keep([b"d"])
        journal.close()
        assert read(disk) == [b"d"]


@pytest.mark.parametrize("block", [1, 2])
def test_one_mark_may_be_torn(block):
    disk = new_disk()
    made(disk, [b"one", b"two"]).close()
    disk.damage(PATH, block * 4096 + 10)
    assert read(disk) == [b"one", b"two"]


def test_without_a_good_mark_nobody_can_say_what_was_flushed():
    disk = new_disk()
    made(disk, [b"one", b"two"]).close()
    for block in (1, 2):
        disk.damage(PATH, block * 4096)
    with pytest.raises(JournalDamaged, match="both marks are gone"):
        read(disk)


@pytest.mark.parametrize("content", [b"", b"x", bytes(2 * SIZE), b"some other file" * 10_000])
def test_a_file_that_is_no_journal_is_refused(tmp_path, content):
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(JournalDamaged):
        Journal.open(path)
    assert path.read_bytes() == content


def test_an_entry_that_does_not_fit_changes_nothing():
    disk = new_disk()
    journal = made(disk, [b"one"])
    with pytest.raises(JournalFull, match=f"but for one of {journal.free}"):
        journal.append(bytes(journal.free + 1))
    with pytest.raises(JournalFull, match="no room for 2 entries"):
        journal.keep([bytes(40_000)] * 2)
    last = bytes(journal.free)
    journal.append(last)
    with pytest.raises(JournalFull, match="but for one of 0"):
        journal.append(b"")
    journal.close()
    assert read(disk) == [b"one", last]


def test_an_entry_has_a_longest_length():
    disk = new_disk()
    journal = made(disk, size=4 * LONGEST)
    assert journal.free == LONGEST
    for act in (lambda: journal.append(bytes(LONGEST + 1)), lambda: journal.keep([bytes(LONGEST + 1)])):
        with pytest.raises(JournalFull):
            act()
    journal.append(bytes(LONGEST))
    journal.close()
    assert read(disk) == [bytes(LONGEST)]


def test_it_is_not_made_over_a_file_nor_too_small_nor_without_a_folder(tmp_path):
    (tmp_path / "journal").write_text("mine")
    with pytest.raises(DiskError, match="exists"):
        Journal.create(tmp_path / "journal", SIZE)
    assert (tmp_path / "journal").read_text() == "mine"
    with pytest.raises(DiskError, match="at least 65536 bytes, not 100"):
        Journal.create(tmp_path / "small", 100)
    with pytest.raises(DiskError, match="no journal, or no folder"):
        Journal.create(tmp_path / "none" / "journal", SIZE)
    with pytest.raises(DiskError, match="there is no journal"):
        Journal.open(Path(tmp_path / "none"))
