"""Every slip of YAML has its line, its name and its cure, and never shows the line's text."""

from __future__ import annotations

import pytest

from uniapi.config import yaml
from uniapi.config.problems import Sink

SLIPS = [
    pytest.param("a:\n  - @cf/x\n", 2, "start with @", "quotes: '@cf/", id="bare-at"),
    pytest.param("a:\n  - `x`\n", 2, "start with `", "quotes", id="bare-backtick"),
    pytest.param("a: %x\n", 1, "start with %", "quotes", id="bare-percent"),
    pytest.param("a:\n  - *\n", 2, "bare *", "write all", id="bare-star"),
    pytest.param("a:\n  - *: 3\n", 2, "bare *", "write all", id="bare-star-weight"),
    pytest.param("a: [*, b]\n", 1, "bare *", "write all", id="bare-star-flow"),
    pytest.param("a:\n\t- b\n", 2, "a tab", "spaces", id="tab"),
    pytest.param("a: x\t\n", 1, "a tab", "spaces", id="tab-after-a-value"),
    pytest.param("a: 1\nb: 2\na: 3\n", 3, 'key "a": it is already on line 1', "list", id="twice"),
    pytest.param("a: {b: 1,\n  b: 2}\n", 2, 'duplicate key "b"', "list", id="twice-in-flow"),
    pytest.param("b: 1\na: & x\n", 2, "a bare & names nothing", "quotes", id="bare-ampersand"),
    pytest.param("a: &x &y 1\n", 1, "has one anchor", "quotes", id="two-anchors"),
    pytest.param("a: &x 1\nb: &y *x\n", 2, "is one alias", "quotes", id="anchored-alias"),
    pytest.param("a: *x\n", 1, "an alias (*name) that stands for nothing", "quotes", id="alias"),
    pytest.param("a: b: c\n", 1, "second `: `", "key: 'a: b'", id="two-colons"),
    pytest.param("a:\n  - c/*: 5: 6\n", 2, "second `: `", "quotes", id="two-colons-in-a-list"),
    pytest.param("a: 1\nb: !!str x\n", 2, "tags", "leave the tag out", id="tag"),
    pytest.param("a: 1\n<<: x\n", 2, "`<<` takes a map", "*name", id="merge"),
    pytest.param("a:\n  b: 1\n c: 2\n", 3, "bad indentation", "same column", id="indented-less"),
    pytest.param("a:\n  b: 1\n   c: 2\n", 3, "not lined up", "same column", id="indented-more"),
    pytest.param("a: 1\n- b\n", 2, "bad indentation", "same column", id="list-among-keys"),
    pytest.param("a:b\nc: d\n", 2, "the line above it", "space after", id="no-space-after-colon"),
    pytest.param("x: 1\na: 'x\nb: c\n", 2, "never closed", "close it", id="quote"),
    pytest.param("a: 'x' y\n", 1, "already ended", "check the quotes", id="after-a-quote"),
    pytest.param("x: 1\na: [1, 2\n", 2, "not closed", "close it", id="bracket"),
    pytest.param("a: [1, 2]]\n", 1, "closes nothing", "remove it", id="bracket-too-many"),
    pytest.param("a: [${X}, b]\n", 1, "${…}", '["${NAME}"]', id="variable-in-flow"),
    pytest.param("a: - b\n", 1, "behind its key", "line of its own", id="list-behind-key"),
    pytest.param("a: 1\nfoo\n", 2, "without a colon", "key: value", id="no-colon"),
    pytest.param('a: "\\q"\n', 1, "backslash", "single quotes", id="escape"),
    pytest.param("a: 1\n---\nb: 2\n", 2, "second YAML document", "one document", id="documents"),
    pytest.param("a: 1\n? [a]\n: b\n", 2, "plain text", "key: value", id="list-as-key"),
    pytest.param("a: 1\nb: \x00\n", 2, "character", "UTF-8", id="control-character"),
    pytest.param("a: \ud800\n", 1, "character", "UTF-8", id="half-a-pair"),
    pytest.param("[" * 1000, 1, "too deeply", "not a configuration", id="brackets"),
    pytest.param("a: " + "[" * 60 + "]" * 60, 1, "too deeply", "not a", id="brackets-closed"),
    pytest.param("a" * 1_000_001, 1, "larger than 1 MB", "remove", id="size"),
]


@pytest.mark.parametrize(("text", "line", "what", "fix"), SLIPS)
def test_a_slip_has_its_line_its_name_and_its_cure(
    text: str, line: int, what: str, fix: str
) -> None:
    sink = Sink("api.yaml")
    assert yaml.parse(text, sink) is None
    (problem,) = sink.problems()
    assert problem.line == line
    assert what in problem.what
    assert fix in problem.fix


@pytest.mark.parametrize(("text", "line", "what", "fix"), SLIPS)
def test_a_slip_never_shows_what_stands_on_the_line(
    text: str, line: int, what: str, fix: str
) -> None:
    secret = "sk-Zq8vT3nLw0pXr5bKd7mH"
    sink = Sink("api.yaml")
    yaml.parse("\n".join(f"{row} {secret}" for row in text.split("\n")), sink)
    yaml.parse("\n".join(f"{secret}{row}" for row in text.split("\n")), sink)
    assert sink.problems()
    assert secret not in str(sink.problems())


@pytest.mark.parametrize("deep", ["[" * 41, "{" * 41, "{a: " * 41, "[{a: " * 21, "[\n" * 41])
def test_brackets_are_refused_before_what_is_in_them_is_looked_at(deep: str) -> None:
    """The scanner takes seconds over some thousand of them in a line: none are looked at."""
    sink = Sink("f")
    assert yaml.parse(f"{deep} @x", sink) is None
    (problem,) = sink.problems()
    assert "too deeply" in problem.what
    assert problem.line == deep.count("\n", 0, deep.rindex("\n")) + 1 if "\n" in deep else 1


@pytest.mark.parametrize(
    "text", ["'{}'", '"{}"', "|\n  {}", "x # {}", "x {}", f"{'[' * 39}x{']' * 39}"]
)
def test_brackets_that_nest_nothing_are_text(text: str) -> None:
    sink = Sink("f")
    assert yaml.parse("a: " + text.format("[" * 2000), sink) is not None
    assert sink.problems() == ()


@pytest.mark.parametrize("level", ["- ", "? "])
def test_block_style_nests_no_deeper_than_brackets(level: str) -> None:
    sink = Sink("f")
    assert yaml.parse(level * 1000, sink) is None
    (problem,) = sink.problems()
    assert "too deeply" in problem.what


def test_all_duplicate_keys_are_found_at_once() -> None:
    sink = Sink("f")
    assert yaml.parse("a: 1\na: 2\nb:\n  c: 1\n  c: 2\n", sink) is None
    assert [problem.line for problem in sink.problems()] == [2, 5]


def test_a_tree_knows_lines_and_quotes() -> None:
    sink = Sink("f")
    tree = yaml.parse("a:\n  - 'x'\n  - y\nb : {c: null}\nd: |\n  z\n", sink)
    assert sink.problems() == ()
    assert tree == yaml.Mapping(
        (
            yaml.Entry(
                yaml.Scalar("a", 1),
                yaml.Sequence((yaml.Scalar("x", 2, quoted=True), yaml.Scalar("y", 3)), 2),
            ),
            yaml.Entry(
                yaml.Scalar("b", 4),
                yaml.Mapping((yaml.Entry(yaml.Scalar("c", 4), yaml.Scalar("null", 4)),), 4),
            ),
            yaml.Entry(yaml.Scalar("d", 5), yaml.Scalar("z\n", 5, quoted=True)),
        ),
        1,
    )


@pytest.mark.parametrize(
    "text", ["", "\n", "# only a comment\n", "---\n", "~", "null", "\ufeff", "\ufeff# x"]
)
def test_an_empty_document_is_null(text: str) -> None:
    sink = Sink("f")
    tree = yaml.parse(text, sink)
    assert isinstance(tree, yaml.Scalar)
    assert tree.null
    assert sink.problems() == ()


def test_a_byte_order_mark_is_accepted() -> None:
    sink = Sink("f")
    assert isinstance(yaml.parse("\ufeffa: 1\n", sink), yaml.Mapping)
    assert sink.problems() == ()


@pytest.mark.parametrize("word", ["null", "Null", "NULL", "~", ""])
def test_only_bare_words_are_null(word: str) -> None:
    assert yaml.Scalar(word, 1).null
    assert not yaml.Scalar(word, 1, quoted=True).null


def test_uneven_but_legal_indentation_is_accepted() -> None:
    sink = Sink("f")
    text = "providers:\n- provider: a\n  preferences:\n        x: 1\napi_keys:\n    - api: b\n"
    assert yaml.parse(text, sink) is not None
    assert sink.problems() == ()


def test_a_parser_that_breaks_is_a_report_not_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, text: str) -> None:
            raise IndexError(text)

    monkeypatch.setattr(yaml, "_Loader", Broken)
    sink = Sink("f")
    assert yaml.parse("a: 1", sink) is None
    assert [problem.line for problem in sink.problems()] == [1]
