"""Values as a user writes them on the command line."""

import pytest

import fedmeta as fm
from fedmeta.errors import UsageError
from fedmeta.runs.describing import TABLES
from fedmeta.study import spelling

TRANSFORMS = {
    "identity": fm.transforms.identity(),
    "quantise": fm.transforms.quantise(8),
    "clip_by_norm:norm=2": fm.transforms.clip_by_norm(2.0),
    "quantise:bits=4": fm.transforms.quantise(4),
    " clip_by_norm : norm = 1e+1 ": fm.transforms.clip_by_norm(10.0),
    "clip_by_norm:norm=1e+1+quantise:bits=4": fm.transforms.chain(
        fm.transforms.clip_by_norm(10.0), fm.transforms.quantise(4)
    ),
    "error_feedback(top_k:fraction=0.5)": fm.transforms.error_feedback(fm.transforms.top_k(0.5)),
    "gaussian_noise:std=0.5 + error_feedback(top_k+quantise)": fm.transforms.chain(
        fm.transforms.gaussian_noise(0.5),
        fm.transforms.error_feedback(fm.transforms.chain(fm.transforms.top_k(), fm.transforms.quantise())),
    ),
    "fixed_point:places=16,bits=20": fm.transforms.fixed_point(16, 20),
}


@pytest.mark.parametrize("text", TRANSFORMS)
def test_a_transform_is_what_it_says_and_is_written_so_that_it_is_read_back(text):
    assert spelling.transform(text) == TRANSFORMS[text]
    assert spelling.transform(spelling.spelled(TRANSFORMS[text])) == TRANSFORMS[text]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("quantize", "quantise"),
        ("quantise:bit=4", "bits"),
        ("quantise:bits", "OPTION=VALUE"),
        ("quantise:bits=3", "1, 2, 4 or 8"),
        ("quantise:", "OPTION=VALUE"),
        ("", "NAME"),
        ("top_k+", "NAME"),
        ("error_feedback(top_k", "bracket"),
        ("error_feedback", "written as error_feedback"),
        ("chain", "written as top_k"),
        ("error_feedback:of=top_k", "written as error_feedback"),
    ],
)
def test_a_wrong_transform_is_one_line_that_says_what_is_right(text, says):
    with pytest.raises(UsageError, match=says) as error:
        spelling.transform(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", TABLES["aggregator"])
def test_every_aggregator_can_be_written(name):
    rule = spelling.aggregator(name)
    assert rule == TABLES["aggregator"][name]()
    assert spelling.aggregator(spelling.spelled(rule)) == rule


@pytest.mark.parametrize("name", TABLES["optimiser"])
def test_every_server_can_be_written(name):
    assert spelling.server(name) == (name, {})
    assert spelling.server("momentum:decay=0.5,nesterov=true") == ("momentum", {"decay": 0.5, "nesterov": True})
    with pytest.raises(UsageError, match="--server-lr"):
        spelling.server(f"{name}:learning_rate=1")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("mu=0.5", ("mu", 0.5)),
        ("local_steps=4", ("local_steps", 4)),
        ("batch_size=none", ("batch_size", None)),
        ("of=fomaml", ("of", "fomaml")),
        ("rates=layer", ("rates", "layer")),
        ("adaptable=head/*", ("adaptable", ("head/*",))),
        ("adaptable=head/*,0/bias", ("adaptable", ("head/*", "0/bias"))),
        ("inner=adam:learning_rate=0.05,eps_root=1e-8", ("inner", fm.optimisers.adam(0.05, eps_root=1e-8))),
        ("local=sgd:learning_rate=1", ("local", fm.optimisers.sgd(1.0))),
    ],
)
def test_an_option_of_an_algorithm_is_what_it_says(text, value):
    assert spelling.option(text) == value


@pytest.mark.parametrize("text", ["mu", "=1", "mu=", "inner=sgd", "inner=adm:learning_rate=1"])
def test_a_wrong_option_of_an_algorithm_is_refused(text):
    with pytest.raises(UsageError):
        spelling.option(text)
