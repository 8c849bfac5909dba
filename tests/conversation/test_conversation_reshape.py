"""The same conversation for a provider that cannot take all of it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given

from tests.kit.histories import ADD, PNG, calls, histories, read, result, use, user
from uniapi.codec import Json
from uniapi.conversation import Text, ToolResult, ToolUse, Turn
from uniapi.conversation.reshape import without_images, without_tools


def test_without_tools_nothing_of_them_is_left_and_turns_still_alternate() -> None:
    found = without_tools(
        read(
            user("go"),
            calls("a", reasoning_content="hm"),
            result("a"),
            user("and?"),
            tools=[ADD, {"type": "web_search_20250305"}],
            tool_choice="required",
            parallel_tool_calls=False,
            seed=1,
        )
    )
    assert found.turns == (Turn("user", (Text("go"), Text("and?"))),)
    assert found == read(user("go"), user("and?"), seed=1)


def test_without_images_text_and_results_stay() -> None:
    picture: Json = {"type": "image_url", "image_url": PNG}
    found = without_images(
        read(
            user([picture]),
            user([{"type": "text", "text": "go"}, picture]),
            calls("a"),
            result("a", [picture]),
        )
    )
    assert found.turns == (
        Turn("user", (Text("go"),)),
        Turn("assistant", (use("a"),)),
        Turn("user", (ToolResult("a", "f_a"),)),
    )


@given(histories())
def test_any_history_without_tools_still_alternates(messages: list[Json]) -> None:
    turns = without_tools(read(*messages)).turns
    assert all(a.role != b.role for a, b in pairwise(turns))
    blocks = [each for turn in turns for each in turn.blocks]
    assert not any(isinstance(each, ToolUse | ToolResult) for each in blocks)
