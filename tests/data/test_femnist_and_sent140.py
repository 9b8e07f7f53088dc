"""FEMNIST as Parquet with its writers, and Sent140 with word vectors, on small files of their formats."""

import gzip
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import fedmeta as fm
from fedmeta.cli.data import data as command
from fedmeta.data.image_table import image_column
from fedmeta.errors import DataError, UnknownName, UsageError

arrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow, which is not installed")

NAMES = [*"0123456789", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *"abcdefghijklmnopqrstuvwxyz"]
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
WRITERS = ["f0002_01", "f0001_41", "f0002_01", "f0001_41", "f0002_01"]
LABELS = [61, 0, 10, 10, 3]


def png(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def femnist(path, rows=range(5), *, plain=False, names=NAMES, images=None):
    """Write a file as the data set of this name has: an image's bytes in a structure, and the names in the metadata."""
    files = [png(PIXELS[row]) for row in rows] if images is None else images
    inside = [None if file is None else {"bytes": file, "path": f"{place}.png"} for place, file in enumerate(files)]
    table = arrow.table(
        {
            "image": files if plain else inside,
            "writer_id": [WRITERS[row] for row in rows],
            "hsf_id": [1 for _ in rows],
            "character": [LABELS[row] for row in rows],
        }
    )
    if names is not None:
        said = {"info": {"features": {"character": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(said)})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


@pytest.mark.parametrize("plain", [False, True])
def test_images_are_by_writer_with_all_62_classes(tmp_path, plain):
    femnist(tmp_path / "femnist.parquet", plain=plain)
    assert image_column(tmp_path / "femnist.parquet") == "image"
    data = fm.data.from_images(tmp_path / "femnist.parquet")
    assert (data.client_ids, data.num_classes) == (["f0001_41", "f0002_01"], 62)
    np.testing.assert_array_equal(data["f0002_01"].x[..., 0], PIXELS[[0, 2, 4]] * np.float32(1 / 255))
    assert data["f0002_01"].y.tolist() == [61, 10, 3]
    assert data.info.classes[61] == "z"
    assert data["f0001_41"].x.shape == (2, 28, 28, 1)


def test_a_folder_of_files_is_one_data_set_and_other_labels_are_classes(tmp_path):
    femnist(tmp_path / "data" / "train-0.parquet", range(3), names=None)
    femnist(tmp_path / "data" / "train-1.parquet", range(3, 5), names=None)
    data = fm.data.from_images(tmp_path / "data")
    assert data.num_examples == 5
    assert data.info.classes == ("0", "3", "10", "61")
    assert fm.data.from_images(tmp_path / "data", classes=NAMES).num_classes == 62


def test_the_command_line_reads_them_as_a_table_with_columns(tmp_path):
    femnist(tmp_path / "femnist.parquet")
    words = ["info", str(tmp_path / "femnist.parquet"), "--client", "writer_id", "--target", "character"]
    result = CliRunner().invoke(command, words)
    assert result.exception is None, result.output
    assert "28 x 28 x 1" in result.stdout
    assert "62 classes" in result.stdout
    with pytest.raises(UsageError, match="--exclude is for tables"):
        fm.data.resolve(words[1], client="writer_id", target="character", exclude=("hsf_id",))


def test_wrong_images_are_named_with_their_row(tmp_path):
    path = tmp_path / "femnist.parquet"
    for images, said in (
        ([png(PIXELS[0]), b"no image"], r"row 1 \(counted from 0\): it is no whole PNG"),
        ([png(PIXELS[0]), None], r"row 1 \(counted from 0\): the image is missing"),
        ([png(PIXELS[0]), png(PIXELS[1][:5])], "others have"),
    ):
        femnist(path, range(len(images)), images=images)
        with pytest.raises(DataError, match=said):
            fm.data.from_images(path)
    femnist(path, names=["a", "b"])
    with pytest.raises(DataError, match="character holds 61, but there are 2 classes"):
        fm.data.from_images(path)
    femnist(path)
    with pytest.raises(UnknownName, match="did you mean 'writer_id'"):
        fm.data.from_images(path, client="writer")
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="no whole Parquet file"):
        fm.data.from_images(path)


GLOVE = "the 0.1 0.2 0.3\nday 1 2 3\n. -1 0 1\nwhat 4 5 6\nunused 7 7 7\n"
TWEETS = [
    ["1", "Mon", "NO_QUERY", "u1", "What a DAY. the day", "training"],
    ["2", "Tue", "NO_QUERY", "u1", "", "training"],
]


def sent140(folder, write_json, rows=None, labels=(4, 0)):
    rows = TWEETS if rows is None else rows
    content = {"users": ["u1"], "num_samples": [len(rows)], "user_data": {"u1": {"x": rows, "y": list(labels)}}}
    write_json(folder / "train" / "a.json", content)


@pytest.mark.parametrize("packed", [False, True])
def test_tweets_become_the_vectors_of_their_words(tmp_path, write_json, packed):
    sent140(tmp_path / "sent", write_json)
    path = tmp_path / ("glove.txt.gz" if packed else "glove.txt")
    path.write_bytes(gzip.compress(GLOVE.encode()) if packed else GLOVE.encode())
    data = fm.data.from_leaf(tmp_path / "sent", vectors=path, words=5)
    assert (data.x.shape, data.info.classes) == ((2, 5, 3), ("0", "4"))
    np.testing.assert_allclose(
        data["u1"].x[0], [[4, 5, 6], [0, 0, 0], [1, 2, 3], [-1, 0, 1], [0.1, 0.2, 0.3]], rtol=1e-6
    )
    assert not data["u1"].x[1].any()
    assert data["u1"].y.tolist() == [1, 0]
    assert fm.data.from_leaf(tmp_path / "sent", vectors=path).x.shape == (2, 25, 3)
    same = fm.data.resolve(str(tmp_path / "sent"), options={"vectors": str(path), "words": 5})
    assert same.fingerprint == data.fingerprint
    fm.data.save(data, tmp_path / "kept")
    opened = fm.data.open(tmp_path / "kept")
    np.testing.assert_array_equal(opened["u1"].x, data["u1"].x)
    assert json.loads((tmp_path / "kept" / "dataset.json").read_text())["x"]["kind"] == "looked up"


def test_other_vectors_change_the_fingerprint(tmp_path, write_json):
    sent140(tmp_path / "sent", write_json)
    found = set()
    for text in (GLOVE, GLOVE.replace("day 1", "day 9"), GLOVE.replace("unused 7", "unused 8")):
        (tmp_path / "glove.txt").write_text(text)
        found.add(fm.data.from_leaf(tmp_path / "sent", vectors=tmp_path / "glove.txt").fingerprint)
    assert len(found) == 2, "a word that does not occur is no part of it"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the 1 2\nday 1\n", "line 2: 1 numbers after 'day', not 2"),
        ("the\n", "line 1: 0 numbers"),
        ("the 1 x\n", "no file of word vectors"),
        ("the 1 nan\n", "line 1"),
        ("", "a vector for none of the 5 words"),
        ("other 1 2\n", "a vector for none"),
    ],
)
def test_wrong_vectors_are_named(tmp_path, write_json, text, said):
    sent140(tmp_path / "sent", write_json)
    (tmp_path / "glove.txt").write_text(text)
    with pytest.raises(DataError, match=said):
        fm.data.from_leaf(tmp_path / "sent", vectors=tmp_path / "glove.txt")


def test_what_takes_no_vectors_is_refused(tmp_path, write_json):
    (tmp_path / "glove.txt").write_text(GLOVE)
    sent140(tmp_path / "sent", write_json)
    with pytest.raises(UsageError, match="at least 1"):
        fm.data.from_leaf(tmp_path / "sent", vectors=tmp_path / "glove.txt", words=0)
    for rows in ([[0.5], [1.0]], [["a", "b"], ["c", "d"]], ["text", "more"]):
        sent140(tmp_path / "sent", write_json, rows)
        with pytest.raises(UsageError, match="word vectors are for tweets"):
            fm.data.from_leaf(tmp_path / "sent", vectors=tmp_path / "glove.txt")
    sent140(tmp_path / "sent", write_json)
    with pytest.raises(DataError, match="no file of word vectors"):
        fm.data.from_leaf(tmp_path / "sent", vectors=tmp_path / "absent.txt")
    with pytest.raises(DataError, match=r"give a file of GloVe's"):
        fm.data.from_leaf(tmp_path / "sent")
    with pytest.raises(UsageError, match="has no option 'vector'"):
        fm.data.resolve(str(tmp_path / "sent"), options={"vector": "x"})
