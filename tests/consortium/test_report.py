"""The page and the terminal say what was found, whatever it is, and nothing that a name holds is read as markup."""

import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from fedmeta.consortium import goals, pictures, said, terminal
from fedmeta.consortium.hospitals import TITLES, WARNING
from fedmeta.consortium.report import html, write_report
from fedmeta.consortium.results import Row
from fedmeta.consortium.scores import Interval
from tests.consortium import made

HOSTILE = '<script>alert("x")</script>&amp;[bold]'
VOID = {"meta", "line", "polyline", "circle", "rect", "polygon", "br"}


class Elements(HTMLParser):
    """Collects elements and their attributes, and checks that each one is closed."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def shown(found, part=None, width=80):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    terminal.show(console, found, part)
    return console.file.getvalue()


def text_of(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_page_is_whole_and_needs_no_other_file():
    page = html(made.comparison(), made.federation(), "fedmeta consortium report")
    elements = Elements(page).found
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in elements)
    for _, attributes in elements:
        assert not {"src", "srcset", "xlink:href"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in page
    assert "@import" not in page
    places = {attributes["id"] for _, attributes in elements if "id" in attributes}
    assert {attributes["href"][1:] for tag, attributes in elements if tag == "a"} <= places
    assert all(
        attributes.get("aria-label") or "swatch" in attributes["class"] for tag, attributes in elements if tag == "svg"
    )


def test_hostile_names_are_text_everywhere():
    titles = {**TITLES, "zurich": HOSTILE}
    found = made.comparison(titles=titles)
    page = html(found, made.federation(HOSTILE), f"fedmeta {HOSTILE}")
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    Elements(page)
    assert HOSTILE in " ".join(shown(found, made.federation(HOSTILE), 300).split())


def test_a_figure_that_is_not_defined_is_a_dash():
    found = made.comparison()
    rows = tuple(
        replace(
            one,
            hospitals={**one.hospitals, "zurich": {**one.hospitals["zurich"], "auroc": made.NONE}},
            mean={**one.mean, "auroc": made.NONE},
        )
        for one in found.members.rows
    )
    found = replace(found, members=replace(found.members, rows=rows))
    page = html(found)
    assert "nan" not in page.lower().replace("finance", "")
    assert page.count("<td>\N{EN DASH}</td>") == 2 * len(rows)
    assert page.count("\N{EN DASH} (not defined)") == len(rows)
    table = shown(found).partition("Members: AUROC")[2].partition("Each hospital")[0]
    assert table.count("\N{EN DASH}") == 2 * len(rows)
    Elements(page)


def test_a_goal_that_is_missed_says_so_with_its_figure():
    met, missed = made.comparison(ahead=0.031), made.comparison(ahead=0.029, below=-0.03)
    assert [goal.met for goal in met.goals] == [True, True, True]
    assert [goal.met for goal in missed.goals] == [False, True, False]
    assert "+2.9 (+0.9 to +4.9) points" in missed.goals[0].found
    assert "Worse off beyond the interval: Cleveland in accuracy, Cleveland in AUROC" in missed.goals[2].found
    page = text_of(html(missed))
    assert page.count("✗ Missed") == 2
    assert page.count("✓ Met") == 1
    assert shown(missed).count("MISSED") == 2


def test_an_auroc_below_the_others_is_a_miss_only_beyond_the_interval():
    assert made.comparison(ahead=-0.019).goals[1].met
    assert not made.comparison(ahead=-0.021).goals[1].met


def test_a_stand_in_is_loud_in_the_page_and_in_the_terminal():
    page, lines = html(made.comparison(WARNING, flamby=False)), shown(made.comparison(WARNING, flamby=False))
    assert page.index("THESE ARE NOT PATIENTS") < page.index("Four hospitals")
    assert '<div class="loud" role="alert">' in page
    assert "by patients who are drawn" in page
    assert "FLamby" not in text_of(page)
    assert lines.index("THESE ARE NOT PATIENTS") < lines.index("Four hospitals")
    assert "loud" not in re.sub(r"<style>.*</style>", "", html(made.comparison()), flags=re.DOTALL)


def test_it_is_not_medical_advice():
    assert "This is not medical advice." in text_of(html(made.comparison()))
    assert "This is not medical advice." in shown(made.comparison())


def test_what_cannot_be_shown_follows_from_the_hospitals():
    lines = said.limits(made.comparison())
    assert "Zurich/Basel's AUROC and balanced accuracy rest on 8 healthy patients, about 3 in a test" in " ".join(lines)
    assert any("Zurich/Basel has no value of cholesterol for anybody" in line for line in lines)
    few = made.comparison()
    plain = replace(few, hospitals=tuple(replace(one, ill=60, gaps={}) for one in few.hospitals))
    assert not any("rest on" in line or "no value of" in line for line in said.limits(plain))


def test_a_federation_is_shown_where_there_was_one():
    page = text_of(html(made.comparison(), made.federation()))
    lines = " ".join(shown(made.comparison(), made.federation(), 160).split())
    for words in ("93 seconds", "round 1: paid", "123,456", "not captured", "NO", "1,634"):
        assert words in page, words
        assert words in lines, words
    assert "came back" in page
    assert "Who was paid" not in html(made.comparison())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_cut_off_in_a_terminal(width):
    lines = shown(made.comparison(), made.federation(), width).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_the_page_is_written_whole(tmp_path):
    write_report(tmp_path / "report.html", made.comparison(), command="fedmeta consortium report")
    assert (tmp_path / "report.html").read_text() == html(made.comparison(), command="fedmeta consortium report")


def test_marks_stand_where_their_figures_are():
    """A figure at both ends and in the middle of the axis; by the positions that the axis itself has."""
    table = made.comparison().members
    figures = {"alone": Interval(0.6, 0.6, 0.6), "pooled": Interval(0.7, 0.7, 0.7), "meta-sgd": Interval(0.8, 0.8, 0.8)}

    def with_mean(row: Row) -> Row:
        return replace(row, mean={**row.mean, "accuracy": figures[row.name]})

    rows = tuple(with_mean(row) for row in table.rows if row.name in figures)
    picture = pictures.dots(replace(table, rows=rows), None, "accuracy", "title")
    square = re.search(r'<rect x="([\d.]+)"', picture)
    circle = re.search(r'<circle cx="([\d.]+)"', picture)
    diamond = re.search(r'<polygon points="([\d.]+),', picture)
    first, middle, last = float(square[1]) + 4.5, float(diamond[1]), float(circle[1])
    assert first == pytest.approx(pictures.LEFT, abs=0.1)
    assert last == pytest.approx(pictures.WIDTH - 20, abs=0.1)
    assert middle == pytest.approx((first + last) / 2, abs=0.1)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.5, 0.5), (0.613, 0.887), (0.91, 0.93)])
def test_an_axis_holds_what_is_drawn_with_few_ticks(low, high):
    first, last, ticks = pictures._scale(low, high)
    assert first <= low + 1e-9
    assert last >= high - 1e-9
    assert 2 <= len(ticks) <= 8
    assert math.isclose(ticks[0], first, abs_tol=1e-9)
    assert math.isclose(ticks[-1], last, abs_tol=1e-9)


def test_figures_have_their_intervals_in_words():
    assert goals.points(Interval(0.024, -0.001, 0.05)) == "+2.4 (-0.1 to +5.0)"
    assert goals.hundredths(made.NONE) == "\N{EN DASH}"


def test_what_planted_contributors_are_paid_is_shown_with_its_intervals():
    page, lines = text_of(html(made.comparison())), shown(made.comparison(), width=120)
    for words in ("What a free-rider still earns: at most 6.0 % (4.0 to 8.0) of the pool", "none of the planted ones"):
        assert words in page, words
        assert words in " ".join(lines.split()), words
    assert "last step again free-rider 6.0 4.0 to 8.0 16.0 13.0 to 19.0 21.0 19.0 to 23.0 15.0" in page
    assert "15.0 (Zurich/Basel) 12.0 to 18.0" in page
    assert re.search(r"last step again +6.0 \(4.8\) +16.0 \(13.19\) +21.0 \(19.23\) +15.0 +15.0 Zurich/Basel", lines)
    without = replace(made.comparison(), planted=None)
    assert "Planted contributors are those" in page
    assert "free-rider" not in html(without)
    assert "lanted" not in text_of(html(without))
    assert "free-rider" not in shown(without)
