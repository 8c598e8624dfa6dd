from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench.rag.answer.sse import event_data


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(alphabet="aé三\u2028\x85\U0001f600 {}:", min_size=1, max_size=6), max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_events_survive_any_cut(texts: list[str], end: str, cuts: list[int]) -> None:
    stream = "\ufeff" + "".join(f": note{end}data: {text}{end}data:more{end}{end}" for text in texts)
    data = stream.encode()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in pairwise(places)]
    for cut in (pieces, [data[i : i + 1] for i in range(len(data))]):
        assert list(event_data(cut)) == [f"{text}\nmore" for text in texts]


def test_events_at_the_edges() -> None:
    assert list(event_data([b"data: a\n\ndata:  b"])) == ["a", " b"]  # an end that never came
    assert list(event_data([b"data\n\nid: 1\n\n\n"])) == [""]
    assert list(event_data([b"data: \xff\n\n"])) == ["\ufffd"]
