"""Anchors, aliases and merge keys mean what they mean to the program such files come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strictyaml import ruamel

from uniapi.config import yaml
from uniapi.config.problems import Sink
from uniapi.config.read import Report

Reads = Callable[..., Report]

FILE = """\
x-defaults:
  preferences: &quick
    model_timeout: {default: 7}
    cooldown_period: 20
  one: &openai
    base_url: https://p.example/v1/chat/completions
    api: &key sk-provider
    preferences: *quick
models: &models [gpt-4o, o3]
providers:
  - provider: a
    <<: *openai
    model: *models
  - provider: b
    model: [m]
    <<: *openai
    base_url: https://q.example/v1/chat/completions
    preferences: {<<: *quick, cooldown_period: 5}
  - provider: c
    base_url: https://r.example/v1/chat/completions
    api: [*key, sk-second]
    model: *models
api_keys:
  - api: sk-own-key
"""


def test_a_file_with_anchors_is_read_as_if_it_were_written_out(reads: Reads) -> None:
    report = reads(FILE)
    assert report.problems == ()
    assert report.config is not None
    a, b, c = report.config.providers
    assert a.base_url == "https://p.example/v1/chat/completions"
    assert b.base_url == "https://q.example/v1/chat/completions"
    assert [key.reveal() for key in c.keys] == ["sk-provider", "sk-second"]
    assert a.keys == b.keys == c.keys[:1]
    assert a.models == c.models
    assert [one.preferences.cooldown_period for one in (a, b, c)] == [20, 5, None]
    assert a.preferences.model_timeout == b.preferences.model_timeout


def test_a_mistake_behind_an_alias_has_the_line_it_is_written_on_and_is_told_once(
    reads: Reads,
) -> None:
    report = reads(FILE.replace("cooldown_period: 20", "cooldown_perod: 20"))
    assert [(p.line, p.what[:28]) for p in report.problems] == [(4, 'unknown key "cooldown_perod"')]
    report = reads(FILE.replace("default: 7", "default: soon"))
    assert {p.line for p in report.errors} == {3}
    report = reads(FILE.replace("cooldown_period: 20", "model_timeout: 3"))
    assert [(p.line, p.what[:29]) for p in report.problems] == [
        (4, 'duplicate key "model_timeout"')
    ]


def test_what_only_holds_anchors_is_no_unknown_key_but_a_slip_is_one(reads: Reads) -> None:
    slips = FILE.replace("x-defaults:", "preference: {cooldown_period: 3}\nx-defaults:")
    assert [p.line for p in reads(slips).warnings] == [1]
    unused = FILE.replace("    model: *models\n", "")
    assert [(p.line, p.what[:22]) for p in reads(unused).warnings] == [
        (9, "an anchor (&name) that"),
        (9, 'unknown key "models": '),
    ]


def plain(node: yaml.Node) -> object:
    """A tree as lists, pairs and texts."""
    match node:
        case yaml.Scalar(text):
            return text
        case yaml.Sequence(items):
            return [plain(item) for item in items]
        case yaml.Mapping(entries):
            return [(entry.key.text, plain(entry.value)) for entry in entries]


def theirs(value: Any) -> object:
    """The same of ruamel's tree."""
    match value:
        case dict():
            return [(str(key), theirs(one)) for key, one in value.items()]
        case list():
            return [theirs(one) for one in value]
        case None:
            return ""
        case _:
            return str(value)


Named = tuple[str, str, dict[str, str] | None]
"""An alias, what it stands for written out, and that as a map when it is one."""

MEANT = [
    "a: &x 1\nb: *x\n",
    "a: &x [1, 2]\nb: [*x, *x]\nc: {d: *x}\n",
    "a: &x # why\n  b: 1\n  c: 2\nd: *x # again\n",
    "a: &x\n  # why\n  b: 1\nd:\n  <<: *x\n",
    "a:\n  - &x\n    b: 1\n  - <<: *x\n    c: 2\n",
    "a: &x\n- b\n- c\nd: *x\n",
    "a: &x {k: 1, l: 2}\nb: {l: 3, <<: *x, m: 4}\n",
    "a: &x {k: 1}\nb: &y {k: 2, l: 3}\nc: {<<: [*x, *y]}\nd: {<<: [*y, *x], m: 1}\n",
    "a: &x {k: 1}\nb: &y {<<: *x, l: 2}\nc: {<<: *y, k: 9}\n",
    "a: {<<: {k: 1}, l: 2}\n",
    "a: {<<: [{k: 1}, {k: 2, l: 3}]}\n",
    "a: {<<: [], k: 1}\n",
    "a: {'<<': 1}\n",
    'a: {"<<": 1, k: 2}\n',
    "a: &x 1\nb: *x\nc: &x 2\nd: *x\n",
    "a: &x\nb: *x\n",
    "a: &x 'y'\n? *x\n: b\n",
    "&k a: 1\nb: *k\n",
    "a: &x |\n  one\n  two\nb: *x\n",
    "&top\na: &top 1\nb: *top\n",
]


@pytest.mark.parametrize("text", MEANT)
@pytest.mark.filterwarnings("ignore::strictyaml.ruamel.error.ReusedAnchorWarning")
def test_it_means_what_ruamel_makes_of_it(text: str) -> None:
    sink = Sink("f")
    tree = yaml.parse(text, sink)
    assert tree is not None, sink.problems()
    assert plain(tree) == theirs(ruamel.load(text, Loader=ruamel.RoundTripLoader))


def listed(pairs: list[tuple[str, str]]) -> tuple[str, str]:
    """A list of these, with aliases and written out."""
    short, whole = [one for one, _ in pairs], [one for _, one in pairs]
    return f"[{', '.join(short)}]", f"[{', '.join(whole)}]"


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, str]:
    """One document twice: with anchors, aliases and merge keys, and written out."""
    named: list[Named] = []

    def node(depth: int) -> tuple[str, str]:
        if draw(st.booleans()) and named:
            alias, whole, _ = draw(st.sampled_from(named))
            return alias, whole
        entries: dict[str, str] | None = None
        kind = draw(st.sampled_from(["scalar", "list", "map"] if depth else ["scalar"]))
        if kind == "scalar":
            short = whole = draw(st.sampled_from(["x", "'y'", "5", "null", '"<<"']))
        elif kind == "list":
            items = [node(depth - 1) for _ in range(draw(st.integers(0, 3)))]
            short, whole = listed(items)
        else:
            short, entries = mapping(depth)
            whole = "{" + ", ".join(f"{k}: {v}" for k, v in entries.items()) + "}"
        if draw(st.booleans()):
            name = f"n{len(named)}"
            named.append((f"*{name}", whole, entries))
            short = f"&{name} {short}"
        return short, whole

    def mapping(depth: int) -> tuple[str, dict[str, str]]:
        keys = draw(st.lists(st.sampled_from("abcdef"), max_size=3, unique=True))
        own = {key: node(depth - 1) for key in keys}
        short = [f"{key}: {one}" for key, (one, _) in own.items()]
        entries = {key: whole for key, (_, whole) in own.items()}
        maps = [one for one in named if one[2] is not None]
        if draw(st.booleans()) and maps:
            merged = draw(st.lists(st.sampled_from(maps), min_size=1, max_size=3))
            for _, _, more in merged:
                entries |= {k: v for k, v in (more or {}).items() if k not in entries}
            aliases = ", ".join(alias for alias, _, _ in merged)
            short.append(f"<<: {aliases if len(merged) == 1 else f'[{aliases}]'}")
        return "{" + ", ".join(short) + "}", entries

    pairs = [node(3) for _ in range(draw(st.integers(1, 4)))]
    return listed(pairs)


@given(documents())
def test_a_document_with_aliases_is_the_document_written_out(both: tuple[str, str]) -> None:
    short, whole = both
    sink, other = Sink("f"), Sink("f")
    assert yaml.parse(short, sink) == yaml.parse(whole, other), short
    assert not sink.failed
    assert not other.failed


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: &x [*x]\n", 2, "inside what it stands for"),
        ("a: &x {b: {c: *x}}\n", 1, "inside what it stands for"),
        ("a: &x\n  <<: *x\n", 1, "inside what it stands for"),
        ("a: 1\nb: *x\n", 2, "stands for nothing"),
        ("a: [*x]\nb: &x 1\n", 1, "stands for nothing"),
        ("a: 1\n<<: x\n", 2, "`<<`"),
        ("a: 1\n<<:\n", 2, "`<<`"),
        ("a: &x 1\nb:\n  <<: *x\n", 3, "`<<`"),
        ("a: &x {k: 1}\nb:\n  <<: [*x, 5]\n", 3, "`<<`"),
        ("a: &x {k: 1}\nb:\n  <<: *x\n  <<: *x\n", 4, 'duplicate key "<<"'),
        ("a: &x {k: 1}\nb:\n  <<: *x\n  k: 2\n  k: 3\n", 5, 'duplicate key "k"'),
    ],
)
def test_what_cannot_be_meant_is_an_error_with_a_line(text: str, line: int, what: str) -> None:
    sink = Sink("f")
    assert yaml.parse(text, sink) is None
    (problem,) = sink.problems()
    assert problem.line == line
    assert what in problem.what


def test_a_text_that_begins_with_an_ampersand_is_not_lost_in_silence() -> None:
    sink = Sink("f")
    assert yaml.parse("a: 1\napi: &s3cr3t\n", sink) is not None
    (problem,) = sink.problems()
    assert problem.line == 2
    assert "quotes" in problem.fix
    assert "s3cr3t" not in str(problem)


def laughs(levels: int, width: int) -> str:
    """Each level `width` times the one before it."""
    return "a0: &a0 [lol]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]\n" for n in range(1, levels)
    )


LONG = "x" * 1000


@pytest.mark.parametrize(
    "text",
    [
        laughs(9, 10),
        laughs(30, 2),
        f"a: &a {LONG}\nb: [{'*a, ' * 1000}]",
        f"a: &a {{k: {LONG}}}\nb: [{'{<<: *a}, ' * 1000}]",
        "a0: &a0 {k: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 30)),
    ],
    ids=["billion", "doubling", "long", "merges", "merged-merges"],
)
def test_a_small_file_cannot_be_a_large_one(text: str) -> None:
    sink = Sink("f")
    assert yaml.parse(text, sink) is None
    (problem,) = sink.problems()
    assert "would be larger than 1 MB" in problem.what


def test_aliases_may_add_as_much_as_a_file_may_hold() -> None:
    sink = Sink("f")
    tree = yaml.parse(f"a: &a {LONG}\nb: [{'*a, ' * 900}]", sink)
    assert isinstance(tree, yaml.Mapping)
    assert tree.entries[1].value == yaml.Sequence((yaml.Scalar(LONG, 1),) * 900, 2, flow=True)


def test_a_mistake_is_told_once_however_many_aliases_stand_for_it() -> None:
    sink = Sink("f")
    assert yaml.parse(f"a: &d {{k: 1, k: 2}}\nb: [{'*d, ' * 1000}]", sink) is None
    assert len(sink.problems()) == 1


def test_aliases_nest_no_deeper_than_brackets() -> None:
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100))
    sink = Sink("f")
    assert yaml.parse(chain, sink) is None
    assert "too deeply" in sink.problems()[-1].what
