"""Splits the text of a play by role."""

import re
from collections import Counter, defaultdict

PLAYS = (
    "alls_well_that_ends_well",
    "antony_and_cleopatra",
    "as_you_like_it",
    "comedy_of_errors",
    "coriolanus",
    "cymbeline",
    "hamlet",
    "henry_iv_part_1",
    "henry_iv_part_2",
    "henry_v",
    "henry_vi_part_1",
    "henry_vi_part_2",
    "henry_vi_part_3",
    "henry_viii",
    "john",
    "julius_caesar",
    "lear",
    "loves_labours_lost",
    "macbeth",
    "measure_for_measure",
    "merchant_of_venice",
    "merry_wives_of_windsor",
    "midsummer_nights_dream",
    "much_ado_about_nothing",
    "othello",
    "pericles",
    "richard_ii",
    "richard_iii",
    "romeo_and_juliet",
    "taming_of_the_shrew",
    "tempest",
    "timon_of_athens",
    "tragedy_of_titus_andronicus",
    "troilus_and_cressida",
    "twelfth_night",
    "two_gentlemen_of_verona",
    "winters_tale",
)

# A direction may span lines, and some end with a brace or not at all; none continues past a blank line.
DIRECTION = re.compile(r"\[(?:[^\[\]}\n]|\n(?!\s*\n))*[\]}]?")
HEADING = re.compile(r"(?:ACT|SCENE|Act|Scene|PROLOGUE|EPILOGUE|INDUCTION|SONG|Song|DUMB SHOW|THE END)\b.*|[IVX]+\.?")
WORD = r"(?:[A-Z0-9][\w'\-]*\.?|of|and|AND|de|&|&c)"
SPEAKER = re.compile(rf"({WORD}(?:,? {WORD}){{0,4}}?)\.?")
SAME_LINE = re.compile(r"([A-Z][A-Z' .]*[A-Z])\. +(?=\S)")
LINKS = re.compile(r"\b(?:of|and|de)\b")


def roles(text: str) -> dict[str, str]:
    """Return the words of each role of a play, lines joined by newlines.

    A speaker's name begins a paragraph, alone on its line and with a full stop; a name in capitals may lack
    the stop (one play prints them so) or share its line with the speech. A name not in capitals counts if it
    comes at least twice, which distinguishes it from a short sentence. Spellings that differ in case are one
    role. What follows a stage direction belongs to the speaker before it; headings of acts and scenes end a
    speech.

    Raises:
        ValueError: the text has no act.
    """
    start = re.search(r"^(?:ACT|Act)\b", text, re.MULTILINE)
    if start is None:
        raise ValueError("it has no line that begins with ACT")
    paragraphs = _paragraphs(_without_directions(text[start.start() :]))
    names = _speakers(paragraphs)
    spoken: defaultdict[str, list[str]] = defaultdict(list)
    speaker = None
    for first, *rest in paragraphs:
        name = _name(first)
        same_line = SAME_LINE.match(first)
        if HEADING.fullmatch(first):
            speaker = None
        elif name is not None and name.casefold() in names:
            speaker = names[name.casefold()]
            spoken[speaker] += rest
        elif same_line is not None and same_line[1].casefold() in names:
            speaker = names[same_line[1].casefold()]
            spoken[speaker] += [first[same_line.end() :], *rest]
        elif speaker is not None:
            spoken[speaker] += [first, *rest]
    return {role: "\n".join(lines) for role, lines in spoken.items() if lines}


def _without_directions(text: str) -> str:
    while (shorter := DIRECTION.sub("", text)) != text:
        text = shorter
    return text


def _paragraphs(text: str) -> list[list[str]]:
    """Return the lines of each paragraph, stripped; none is empty."""
    blocks = ([line.strip() for line in block.split("\n") if line.strip()] for block in re.split(r"\n\s*\n", text))
    return [lines for lines in blocks if lines]


def _name(line: str) -> str | None:
    """Return the name in a line that could be a speaker's, without its full stop."""
    line = " ".join(line.split())
    match = SPEAKER.fullmatch(line)
    if match is None or HEADING.fullmatch(line):
        return None
    name = match[1].rstrip(".")
    return name if line.endswith(".") or _in_capitals(name) else None


def _speakers(paragraphs: list[list[str]]) -> dict[str, str]:
    """Return the names of the speakers as the play spells them most often, by their lower case."""
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for first, *rest in paragraphs:
        name = _name(first)
        if name is not None and (rest or _in_capitals(name)):
            spellings[name.casefold()][name] += 1
    return {
        key: counts.most_common(1)[0][0]
        for key, counts in spellings.items()
        if counts.total() > 1 or any(_in_capitals(name) for name in counts)
    }


def _in_capitals(name: str) -> bool:
    # A single capital is as likely the word "I".
    return len(name) > 1 and LINKS.sub("", name).isupper()
