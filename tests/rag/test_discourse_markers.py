"""What the rules say of texts whose structure a reader can name; each expectation is a reader's, none is copied."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vecbench.errors import ConfigError
from vecbench.rag.split.blocks import blocks
from vecbench.rag.split.marker_parser import MarkerParser
from vecbench.rag.split.markers import MARKERS
from vecbench.rag.split.tree import Leaf, Node, Tree, check_tree, draw, leaves

ROOT = Path(__file__).resolve().parents[2]


def parsed(text: str) -> Tree:
    tree = MarkerParser().parse(text)
    assert tree is not None
    check_tree(tree, text, "rules")
    return tree


def outline(text: str) -> str:
    return draw(parsed(text), text)


# Two spans, parted by "|"; the relation; and which is nucleus (N), which satellite (S).
TWO_SPANS = [
    # Clauses of one sentence.
    ("Because it rained all day, | we stayed at home.", "cause", "SN"),
    ("We stayed at home | because it rained all day.", "cause", "NS"),
    ("The run was void | mainly because two rows were lost.", "cause", "NS"),
    ("Although the index is small, | it answers quickly.", "concession", "SN"),
    ("The index answers quickly, | although it is small.", "concession", "NS"),
    ("Even if the disk is full, | no row is lost.", "concession", "SN"),
    ("If the disk is full, | the write is refused.", "condition", "SN"),
    ("If the disk is full, say on Monday, | then the write is refused.", "condition", "SN"),
    ("If the disk (full, I think, of logs) is slow, | the write waits.", "condition", "SN"),
    ("The write is refused | unless the disk has room.", "condition", "NS"),
    ("When the server starts, | it reads the whole log.", "circumstance", "SN"),
    ("While the first server reads, | the second one writes.", "circumstance", "SN"),
    ("Since the log is short, | reading it is quick.", "circumstance", "SN"),
    ("We keep the log | so that nothing is lost.", "purpose", "NS"),
    ("In order to keep the log, | we need a second disk.", "purpose", "SN"),
    ("The first store is exact, | whereas the second store is fast.", "contrast", "NN"),
    ("The first store is exact, | but it is slow.", "concession", "SN"),
    ("The disk was full, | so the write was refused.", "cause", "SN"),
    ("The disk was full; | therefore, the write was refused.", "cause", "SN"),
    ("Keep a copy of it, | or else all is lost.", "otherwise", "NS"),
    ("因为昨天下雨，| 所以我们没有去公园。", "cause", "SN"),
    ("因為昨天下雨，| 我們沒有去公園。", "cause", "SN"),
    ("他因为生病了，| 所以没有来上课。", "cause", "SN"),
    ("我们没有去公园，| 因为昨天下雨。", "cause", "NS"),
    ("虽然他很年轻，| 但是他很有经验。", "concession", "SN"),
    ("雖然他很年輕，常常生病，| 但是他很有經驗。", "concession", "SN"),
    ("即使明天下雨，| 我们也会去。", "concession", "SN"),
    ("如果明天下雨，| 我们就不去公园。", "condition", "SN"),
    ("他如果明天有空，| 就会来看你。", "condition", "SN"),
    ("如果明天下雨、刮风，天气不好，| 就不去公园。", "condition", "SN"),
    ("只有努力学习，| 才能取得进步。", "condition", "SN"),
    ("为了保护环境，| 我们应该节约用水。", "purpose", "SN"),
    ("不但他来了，| 而且他的妹妹也来了。", "joint", "NN"),
    ("这个城市很大，| 但交通非常方便。", "concession", "SN"),
    ("他忘了带伞，| 于是全身都湿了。", "cause", "SN"),
    ("他先去了北京，| 然后去了上海。", "sequence", "NN"),
    ("他喜欢吃水果，| 例如苹果和香蕉。", "elaboration", "NS"),
    ("快点出发，| 否则就赶不上火车。", "otherwise", "NS"),
    # Two sentences.
    ("The store is exact. | However, it is slow.", "concession", "SN"),
    ("The store is exact. | But nobody waits for it.", "concession", "SN"),
    ("The disk was full. | Therefore, the write was refused.", "cause", "SN"),
    ("The disk was full. | As a result the write was refused.", "cause", "SN"),
    ("Some stores are exact. | For example, FAISS has a flat index.", "elaboration", "NS"),
    ("The store is exact. | In other words, it misses nothing.", "restatement", "NS"),
    ("The store misses nothing and needs no index. | In short, it is exact.", "summary", "NS"),
    ("It is not lost. | Instead, the row is written again.", "antithesis", "SN"),
    ("The first store is exact. | On the other hand, the second one is fast.", "contrast", "NN"),
    ("The store is exact. | In addition, the store is small.", "joint", "NN"),
    ("The server reads its log. | Then the server starts.", "sequence", "NN"),
    ("The store is exact. | The network is slow.", "joint", "NN"),
    ("The store is exact. | This makes answers comparable.", "elaboration", "NS"),
    ("Ann wrote the store. | She also wrote the tests.", "elaboration", "NS"),
    ("昨天下了大雨。| 因此，比赛取消了。", "cause", "SN"),
    ("这个方法很简单。| 然而，结果并不准确。", "concession", "SN"),
    ("城里有很多公园。| 例如，人民公园就很有名。", "elaboration", "NS"),
    ("城里有很多公园。| 此外，城里还有博物馆。", "joint", "NN"),
    ("城里有很多公园。| 总之，城市很漂亮。", "summary", "NS"),
    ("北京是一座古城。| 它有三千年的历史。", "elaboration", "NS"),
    ("北京是一座古城。| 该城有三千年的历史。", "elaboration", "NS"),
    ("北京是一座古城。| 上海是一座新城。", "joint", "NN"),
]


@pytest.mark.parametrize(("marked", "relation", "roles"), TWO_SPANS)
def test_two_spans(marked: str, relation: str, roles: str) -> None:
    first, second = marked.split("|")
    if not first.isascii():
        second = second.strip()
        first = first.strip()
    else:
        first, second = first.rstrip() + " ", second.strip()
    tree = parsed(first + second)
    assert [(first + second)[leaf.start : leaf.end] for leaf in leaves(tree)] == [first.strip(), second]
    assert isinstance(tree, Node)
    assert tree.relation == relation
    assert "".join("N" if index in tree.nuclei else "S" for index in (0, 1)) == roles


@pytest.mark.parametrize(
    "sentence",
    [
        "Because of the rain we stayed at home, all of us.",  # no clause
        "This is because two rows were lost.",  # what "is" needs
        "We came not because of you.",
        "If so, it is void.",  # one word
        "It is, therefore, void and of no use.",  # thrown in
        "However hard we try, the disk is full.",
        "First class tickets are sold out.",
        "When did the server start, and who started it?",  # a question
        "So far, so good.",
        "He asked if the disk was full.",
        "We have known it since the beginning of the year.",
        "They met while travelling through the north.",
        "The value 1,000 so that.",
        'She said "we stay because it rains" and left.',
        "The flag (set because the old name was taken) is gone.",
        "Call `run if ready, but wait` to start it.",
        "他喜欢但丁的诗。",  # 但丁 is Dante
        "结果非常好，大家都很高兴。",  # the noun
        "同期的作品很多。",
        "他说「因为下雨，所以不去」然后走了。",
        "因为。",
        "However.",
    ],
)
def test_what_is_no_clause_is_not_cut(sentence: str) -> None:
    assert list(leaves(parsed(sentence))) == [Leaf(0, len(sentence))]


def test_it_is_easy_to_see_points_forward() -> None:
    tree = parsed("The store is exact. It is easy to see that this holds.")
    assert isinstance(tree, Node)
    assert tree.relation == "joint"


def test_clauses_and_sentences_nest() -> None:
    text = (
        "The disk was full, so the write was refused. However, if a second disk is there, "
        "nothing is lost because it is used."
    )
    assert outline(text) == (
        "[concession]\n"
        "  S [cause]\n"
        "    S The disk was full,\n"
        "    N so the write was refused.\n"
        "  N [condition]\n"
        "    S However, if a second disk is there,\n"
        "    N [cause]\n"
        "      N nothing is lost\n"
        "      S because it is used."
    )


def test_a_chinese_clause_in_front_belongs_to_the_next_one() -> None:
    assert outline("我很忙，如果明天有空，就去看你。") == (
        "[joint]\n  N 我很忙，\n  N [condition]\n    S 如果明天有空，\n    N 就去看你。"
    )


def test_a_series_is_a_list_of_which_each_member_reaches_to_the_next() -> None:
    text = "There are rules. First, write a test. It must fail. Second, write the code. Finally, clean it up."
    assert outline(text) == (
        "[joint]\n"
        "  N There are rules.\n"
        "  N [list]\n"
        "    N [elaboration]\n"
        "      N First, write a test.\n"
        "      S It must fail.\n"
        "    N Second, write the code.\n"
        "    N Finally, clean it up."
    )
    assert outline("Stop here. Finally, clean it up. Brooms are there.") == (  # one member is no series
        "[joint]\n  N Stop here.\n  N Finally, clean it up.\n  N Brooms are there."
    )
    assert "[list]" in outline("首先，写测试。其次，写代码。最后，整理一下。")


MARKDOWN = """\
# Stores

All of them are tested.

## Exact

There are two kinds:

- flat index, because nothing is lost
- brute force

```python
# not a heading
if x, but: y
```

### Deep

Text here.

## Fast

| a | b |
|---|---|
| 1 | 2 |

Under
-----

However, it ends.
"""


def test_headings_prepare_what_stands_under_them() -> None:
    assert outline(MARKDOWN) == (
        "[preparation]\n"
        "  S # Stores\n"
        "  N [joint]\n"
        "    N All of them are tested.\n"
        "    N [preparation]\n"
        "      S ## Exact\n"
        "      N [joint]\n"
        "        N [preparation]\n"
        "          S There are two kinds:\n"
        "          N [list]\n"
        "            N [cause]\n"
        "              N - flat index,\n"
        "              S because nothing is lost\n"
        "            N - brute force\n"
        "        N ```python # not a heading if x, but: y ```\n"
        "        N [preparation]\n"
        "          S ### Deep\n"
        "          N Text here.\n"
        "    N [preparation]\n"
        "      S ## Fast\n"
        "      N [list]\n"
        "        N | a | b |\n"
        "        N |---|---|\n"
        "        N | 1 | 2 |\n"
        "    N [preparation]\n"
        "      S Under -----\n"
        "      N However, it ends."
    )


def test_line_ends_make_no_difference() -> None:
    for ending in ("\r\n", "\r"):
        other = MARKDOWN.replace("\n", ending)
        assert outline(other) == outline(MARKDOWN)


def test_a_short_line_before_a_paragraph_is_a_heading() -> None:
    english = "The history of stores\n\nStores are old, and nobody knows who built the first one."
    chinese = "歷史\n\n從前有很多商店，沒有人知道誰開了第一家。"
    assert outline(f"{english}\n\n{chinese}").count("[preparation]") == 2
    long = "x " * 40 + "y."
    for other in (
        "He said it\n\nyes.",
        "A poem\n\nand a line without a stop",
        f"With a stop.\n\n{long}",
        f"low\n\n{long}",
    ):
        assert "[preparation]" not in outline(other)


def test_paragraphs_refer_back_too() -> None:
    assert outline("The store is exact.\n\nHowever, nobody waits for it.") == (
        "[concession]\n  S The store is exact.\n  N However, nobody waits for it."
    )


def test_the_blocks_of_a_text() -> None:
    text = "Para\nmore\n* * *\n1. one\n   still one\n\n   and this\n2) two\n\nnone\n~~~\nopen\n\nto the end"
    found = [(block.kind, text[block.start : block.end].strip()) for block in blocks(text)]
    assert found == [
        ("paragraph", "Para\nmore"),
        ("verbatim", "* * *"),
        ("item", "1. one\n   still one\n\n   and this"),
        ("item", "2) two"),
        ("paragraph", "none"),
        ("verbatim", "~~~\nopen\n\nto the end"),
    ]


def test_only_the_connectives_of_the_language_count() -> None:
    english, chinese = "We stay because it rains.", "因为下雨，所以不去。"
    for language, cut, whole in (("en", english, chinese), ("zh", chinese, english)):
        parser = MarkerParser(language)  # type: ignore[arg-type]
        assert isinstance(parser.parse(cut), Node)
        assert isinstance(parser.parse(whole), Leaf)
    with pytest.raises(ConfigError, match="language is 'fr'"):
        MarkerParser("fr")  # type: ignore[arg-type]


def halves(text: str) -> list[tuple[int, int]]:
    return [(0, len(text) // 2), (len(text) // 2, len(text))]


def test_a_finder_of_sentences_can_be_given() -> None:
    tree = MarkerParser(sentences=halves).parse("abc def")
    assert tree == Node((Leaf(0, 3), Leaf(4, 7)), (0, 1), "joint")


def test_the_finder_is_not_given_the_bullet() -> None:
    asked: list[str] = []

    def find(text: str) -> list[tuple[int, int]]:
        asked.append(text.strip())
        return [(0, len(text))]

    text = "1. one\n2. two\n"
    tree = MarkerParser(sentences=find).parse(text)
    assert asked == ["one", "two"]
    assert tree is not None
    assert draw(tree, text) == "[list]\n  N 1. one\n  N 2. two"


def test_the_fingerprint_is_the_same_in_every_process_and_names_the_parameters() -> None:
    script = "from vecbench.rag.split.marker_parser import MarkerParser; print(MarkerParser().fingerprint)"
    seeds = ({"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)} for seed in "12")
    told = {
        subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True).stdout
        for env in seeds
    }
    assert told == {MarkerParser().fingerprint + "\n"}
    others = {MarkerParser("en").fingerprint, MarkerParser(sentences=halves).fingerprint}
    assert len(others | {MarkerParser().fingerprint}) == 3
    local = MarkerParser(sentences=lambda text: [(0, len(text))])
    with pytest.raises(ConfigError, match="cannot be named"):
        _ = local.fingerprint


def test_the_table_says_one_thing_of_each_spelling() -> None:
    words = [word for marker in MARKERS for word in marker.words]
    assert len(words) == len(set(words)) > 200
    for marker in MARKERS:
        assert marker.at
        assert marker.senses
        assert (marker.satellite == "none") == (marker.relation in ("joint", "list", "sequence", "contrast"))
        assert all(word == " ".join(word.lower().split()) for word in marker.words)
        if len(marker.senses) > 1 and marker.relation == "circumstance":
            assert marker.satellite == "marked"
