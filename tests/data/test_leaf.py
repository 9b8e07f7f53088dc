import numpy as np
import pytest

import fedmeta as fm
from fedmeta.errors import DataError, UsageError


def leaf(**users):
    return {
        "users": list(users),
        "num_samples": [len(y) for _, y in users.values()],
        "user_data": {user: {"x": x, "y": y} for user, (x, y) in users.items()},
    }


def test_images_are_read_and_merged_over_train_and_test(tmp_path, write_json):
    one, two, three = np.random.default_rng(0).random((3, 784)).round(3).tolist()
    write_json(tmp_path / "train" / "all_data_0.json", leaf(f01=([one], [3]), f02=([two], [61])))
    write_json(tmp_path / "test" / "all_data_0.json", leaf(f01=([three], [0])))
    data = fm.data.from_leaf(tmp_path, classes=62)
    assert (data.client_ids, data.num_classes) == (["f01", "f02"], 62)
    assert data["f01"].x.shape == (2, 28, 28, 1)
    np.testing.assert_array_equal(data["f01"].x.reshape(2, 784), np.array([one, three], np.float32))
    assert data["f01"].y.tolist() == [3, 0]


@pytest.mark.parametrize("labels", [[7, 2], [3_000_000, -5], [2**62, 17]])
def test_labels_with_gaps_are_numbered_and_keep_their_names(tmp_path, write_json, labels):
    write_json(tmp_path / "a.json", leaf(u=([[0.5], [0.25]], labels)))
    data = fm.data.from_leaf(tmp_path)
    assert (data["u"].y.tolist(), data.info.classes) == ([1, 0], (str(labels[1]), str(labels[0])))


def test_labels_stay_as_they_are_where_classes_are_given(tmp_path, write_json):
    write_json(tmp_path / "a.json", leaf(u=([[0.5], [0.25]], [7, 2])))
    assert fm.data.from_leaf(tmp_path, classes=8)["u"].y.tolist() == [7, 2]
    write_json(tmp_path / "a.json", leaf(u=([[0.5], [0.25]], ["no", "no"])))
    assert fm.data.from_leaf(tmp_path, classes=["yes", "no"])["u"].y.tolist() == [1, 1]


def test_text_becomes_codes_of_its_characters(tmp_path, write_json):
    write_json(tmp_path / "a.json", leaf(hamlet=(["to b", "o be"], ["e", "\n"]), ghost=(["Mark"], [" "])))
    data = fm.data.from_leaf(tmp_path)
    characters = data.info.characters
    assert characters == "".join(sorted(set("to be\nMark")))
    batch = data["hamlet"]
    assert ["".join(characters[code] for code in row) for row in batch.x] == ["to b", "o be"]
    assert [characters[code] for code in batch.y] == ["e", "\n"]
    assert data.info.classes == tuple(characters)
    with pytest.raises(UsageError, match="the characters are the classes"):
        fm.data.from_leaf(tmp_path, classes=80)


def test_text_with_labels_is_read_too(tmp_path, write_json):
    write_json(tmp_path / "a.json", leaf(u=(["good", "evil"], [1, 0])))
    data = fm.data.from_leaf(tmp_path)
    assert (data.num_classes, data["u"].x.shape, data.info.characters) == (2, (2, 4), "degilov")


def test_tweets_are_refused_with_the_reason(tmp_path, write_json):
    row = ["1", "Mon", "NO_QUERY", "user", "what a day", "training"]
    write_json(tmp_path / "a.json", leaf(someone=([row], [4])))
    with pytest.raises(DataError, match=r"'someone'.*word vectors"):
        fm.data.from_leaf(tmp_path)


@pytest.mark.parametrize(
    "rows",
    [
        ["000001.jpg", "000404.jpg"],
        ["b.JPEG"],
        [["000001.jpg"], ["000002.jpg"]],
        ["images/f1/0.png", "images/f1/10.png"],
        ["C:\\\\faces\\\\1.bmp"],
        ["a.npy", "b.npy"],
    ],
)
def test_names_of_files_are_not_taken_for_text(tmp_path, write_json, rows):
    first = rows[0][0] if isinstance(rows[0], list) else rows[0]
    write_json(tmp_path / "train" / "a.json", leaf(u2880=(rows, [1, *[0] * (len(rows) - 1)])))
    with pytest.raises(DataError, match=r"a\.json, user 'u2880': x holds names of files.*read the files") as caught:
        fm.data.from_leaf(tmp_path)
    assert repr(first) in str(caught.value)


def test_text_in_which_files_are_named_is_text(tmp_path, write_json):
    write_json(tmp_path / "a.json", leaf(u=(["see a.jpg", "or b.png."], ["!", "?"])))
    assert fm.data.from_leaf(tmp_path)["u"].x.shape == (2, 9)


def test_words_of_several_lists_are_refused_as_tweets_are(tmp_path, write_json):
    write_json(tmp_path / "a.json", leaf(u=([[["a", "word"]], [["b", "c"]]], [0, 1])))
    with pytest.raises(DataError, match=r"'u'.*word vectors"):
        fm.data.from_leaf(tmp_path)


def test_users_without_examples_are_left_out_with_a_warning(tmp_path, write_json):
    write_json(tmp_path / "train" / "a.json", leaf(idle=([], []), late=([], []), u=([[1.0]], [0]), gone=([], [])))
    write_json(tmp_path / "test" / "a.json", leaf(late=([[2.0]], [1]), idle=([], [])))
    with pytest.warns(UserWarning, match=r"^2 of 4 users of .* have no examples and are left out, 'idle' among them$"):
        data = fm.data.from_leaf(tmp_path)
    assert data.client_ids == ["late", "u"]


def test_a_label_that_is_empty_is_refused(tmp_path, write_json):
    write_json(tmp_path / "a.json", leaf(u=([[1.0], [2.0], [3.0]], ["no", "", "yes"])))
    with pytest.raises(DataError, match=r"y of .* is empty in row 1"):
        fm.data.from_leaf(tmp_path)


GOOD = leaf(u=([[1.0]], [0]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no LEAF file"),
        ({"users": ["u"]}, "no LEAF file"),
        (GOOD | {"num_samples": [2]}, r"a\.json, user 'u': num_samples says 2, but there are 1"),
        (GOOD | {"num_samples": []}, "1 users, but 0 in num_samples"),
        (GOOD | {"user_data": {}}, "user 'u': user_data has no x and y"),
        (leaf(u=([[1.0], [2.0, 3.0]], [0, 1])), "user 'u': x is not rows"),
        (leaf(u=([[1.0]], [0]), v=([[1.0, 2.0]], [0])), "user 'v': x has rows of shape"),
        (GOOD | {"user_data": {"u": {"x": [[1.0]], "y": [0, 1]}}}, "user 'u': x and y must be lists"),
        (leaf(u=([], [])), "no examples"),
        (leaf(u=([[1.0], [2.0]], [0, "a"])), "types int, str"),
        (leaf(u=(["abc", "ab"], ["a", "b"])), "user 'u': a text of 2 characters, where others have 3"),
        (leaf(u=([[float("nan")], [0.5]], [0, 1])), "client 'u'"),
        (GOOD | {"users": 5}, r"a\.json is no LEAF file: users must be a list"),
        (GOOD | {"users": "u"}, "users must be a list"),
        (GOOD | {"user_data": [5]}, "user_data an object"),
        (GOOD | {"users": [["u"]]}, "no x and y for this user"),
        (GOOD | {"users": ["u", "u"], "num_samples": [1, 1]}, r"a\.json lists the user 'u' twice"),
        (GOOD | {"num_samples": 2}, "num_samples must be a list, not 2"),
        (GOOD | {"num_samples": None}, "num_samples must be a list, not None"),
        (leaf(u=([[1.0]], [10**30])), r"a\.json, user 'u': y holds the label 10{29,}, beyond 64 bits"),
        (leaf(u=([[1.0]], [None])), r"a\.json, user 'u': y holds values of the type NoneType"),
        (leaf(u=([[1.0]], [[0, 1]])), "values of the type list"),
        (leaf(u=([[10**400]], [0])), "user 'u': x is not rows of numbers"),
        (leaf(u=([[1, 10**400, 0.5]], [0])), "user 'u': x is not rows of numbers"),
        (leaf(u=([[1.0], [None]], [0, 1])), "user 'u': x is not rows of numbers only"),
        (leaf(u=([[1.0], ["2"]], [0, 1])), "user 'u': x is not rows of numbers only"),
        (leaf(u=([[1.0], {"a": 1}], [0, 1])), "user 'u': x is not rows of numbers"),
        (leaf(u=([[1.0], [2.0]], [3, 3])), "y of .* holds one class only, '3'; a classifier needs two"),
        (leaf(u=(["aaa"], ["a"])), "y of .* holds one class only, 'a'"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_user(tmp_path, write_json, content, message):
    write_json(tmp_path / "a.json", content)
    with pytest.raises(DataError, match=message):
        fm.data.from_leaf(tmp_path)


def test_broken_json_is_named(tmp_path):
    (tmp_path / "broken.json").write_text('{"users": ["u"')
    with pytest.raises(DataError, match=r"broken\.json is no whole JSON file"):
        fm.data.from_leaf(tmp_path)


def test_json_nested_too_deep_is_named(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"deep\.json is no whole JSON file"):
        fm.data.from_leaf(tmp_path)


def test_an_empty_folder_is_said_to_hold_no_data(tmp_path):
    with pytest.raises(DataError, match="no LEAF data"):
        fm.data.from_leaf(tmp_path)
