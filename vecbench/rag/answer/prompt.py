"""Question and passages to the messages that a language model is sent.

A passage is data: somebody else wrote it, and may have written "ignore your instructions" into it. So each passage
stands between two lines that carry a key which occurs nowhere else in the prompt, and no text can close its own fence;
the system message says that what stands inside is not to be obeyed; and marks by which servers tell one role from
another (`<|im_start|>`, `[INST]`) are broken with a space, because many servers read them in any text. None of it
makes a model immune. What it does make sure of is that the model can see where each text begins and ends.
"""

from __future__ import annotations

import hashlib
import html
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from string import Template

from vecbench.errors import ConfigError
from vecbench.rag.answer.templates import TEMPLATES, PromptTemplate
from vecbench.rag.types import CountTokens, Message, Passage

__all__ = ["Prompt", "build_prompt", "check_history", "defuse", "estimate_tokens"]

_MESSAGE_TOKENS = 4  # what a chat format spends on a message beside its text, rather too much than too little
_HISTORY_SHARE = 4  # earlier turns get up to a quarter of the budget
_LEAST_CHARACTERS = 80  # a shorter beginning of a passage is not worth a number of its own
_ATTRIBUTE_CHARACTERS = 200
_ATTRIBUTES = ("headings", "page")
# Marks of roles and turns in the chat formats of ChatML, Llama 2 to 4, Mistral, Gemma, Phi, Qwen and DeepSeek.
_ROLE_MARKS = re.compile(
    r"<(?=[|｜][^<>|｜\n]{1,64}[|｜]>|/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|header_start|header_end|eot)>|</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\])",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s|(?<=[。！？；])|\n")
_WORD_END = re.compile(r"(?=\s)|(?<=[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is sent: `passages` are those in it, in the order of their numbers; the last one may be cut.

    tokens: of all messages, as counted by the counter that was given, and a few for each message's frame. key: stands
    on both lines around each passage.
    """

    messages: tuple[Message, ...]
    passages: tuple[Passage, ...]
    tokens: int
    key: str


def build_prompt(
    question: str,
    passages: Sequence[Passage],
    *,
    max_tokens: int,
    count_tokens: CountTokens | None = None,
    history: Sequence[Message] = (),
    template: PromptTemplate = TEMPLATES["en"],
) -> Prompt:
    """The prompt of at most `max_tokens` tokens with as many of the passages, from the first, as fit.

    The question is never cut. Passages are left out from the last; the first that does not fit is cut after a sentence,
    or else after a word, where that leaves enough of it to be useful. history: earlier turns of user and assistant,
    oldest first; the latest are kept, in up to a quarter of the tokens. count_tokens: `estimate_tokens` when not given.

    Raises ConfigError when the question and the instructions do not fit, or no passage fits beside them, and for a
    blank question or a turn of another role.
    """
    if not question.strip():
        raise ConfigError("the question is blank")
    check_history(history)
    count = count_tokens or estimate_tokens
    key = _key([question, template.system, template.user, *(m.content for m in history)], passages)
    turns = _latest(history, max_tokens // _HISTORY_SHARE, count)
    blocks = [_block(key, number, passage, passage.text) for number, passage in enumerate(passages, 1)]

    def made(shown: Sequence[str]) -> tuple[tuple[Message, ...], int]:
        system = Template(template.system).substitute(key=key, no_answer=template.no_answer)
        user = Template(template.user).substitute(key=key, question=defuse(question), passages="\n".join(shown))
        messages = (Message("system", system), *turns, Message("user", user))
        return messages, _tokens(messages, count)

    _, least = made([])
    if least > max_tokens:
        raise ConfigError(
            f"a prompt of {max_tokens} tokens is too small: the question and the instructions take {least}"
        )
    # The numbers 1 to len(blocks), of which those that do not fit count as True: the first True follows the last fit.
    kept = bisect_left(range(1, len(blocks) + 1), True, key=lambda n: made(blocks[:n])[1] > max_tokens)
    used = list(passages[:kept])
    if kept < len(passages):
        # A first passage is cut as short as needed: any of it is better than none.
        least_characters = _LEAST_CHARACTERS if kept else 1
        cut = _longest_beginning(
            passages[kept].text,
            lambda text: made([*blocks[:kept], _block(key, kept + 1, passages[kept], text)])[1] <= max_tokens,
            least_characters,
        )
        if cut:
            used.append(replace(passages[kept], text=cut, end=passages[kept].start + len(cut)))
        elif not kept:
            raise ConfigError(
                f"a prompt of {max_tokens} tokens leaves no room for a passage: the question and the instructions take "
                f"{least}"
            )
    messages, tokens = made([_block(key, number, passage, passage.text) for number, passage in enumerate(used, 1)])
    return Prompt(messages, tuple(used), tokens, key)


def check_history(history: object) -> None:
    """ConfigError for what is not a sequence of messages of user and assistant."""
    if not isinstance(history, Sequence):
        raise ConfigError(f"history is a list of messages, got {type(history).__name__}")
    for turn in history:
        if not (isinstance(turn, Message) and isinstance(turn.content, str)):
            raise ConfigError(f"history holds {turn!r:.80}; its turns are made like Message('user', 'How long?')")
        if turn.role not in {"user", "assistant"}:
            raise ConfigError(f"history holds a message of role {turn.role!r}; it takes turns of user and assistant")


def defuse(text: str) -> str:
    """The text with a space after the first character of each mark of a role: `< |im_start|>`, `[ INST]`."""
    return _ROLE_MARKS.sub(lambda mark: mark[0] + " ", text)


def estimate_tokens(text: str) -> int:
    """Tokens of a text for a model whose tokenizer is not at hand, rather too many than too few.

    A token for three bytes of ASCII and one for every other character; English takes about a quarter less.
    """
    ascii_characters = len(text.encode("ascii", "ignore"))
    return -(-ascii_characters // 3) + len(text) - ascii_characters


def _key(texts: Sequence[str], passages: Sequence[Passage]) -> str:
    """Sixteen hex digits that occur in none of the texts.

    Made from the texts, so that the same question over the same passages is the same prompt, which caches can know
    again; a text that holds its own key gets another one.
    """
    everything = [*texts, *(passage.text for passage in passages), *(_attributes(passage) for passage in passages)]
    seed = hashlib.sha256()
    for text in everything:
        data = text.encode("utf-8", "surrogatepass")
        seed.update(len(data).to_bytes(8, "big") + data)
    attempt = 0
    while True:
        key = hashlib.sha256(seed.digest() + attempt.to_bytes(8, "big")).hexdigest()[:16]
        if not any(key in text for text in everything):
            return key
        attempt += 1


def _block(key: str, number: int, passage: Passage, text: str) -> str:
    return f'<passage key="{key}" id="{number}"{_attributes(passage)}>\n{defuse(text)}\n</passage key="{key}">'


def _attributes(passage: Passage) -> str:
    """Where the passage comes from, on one line, escaped: names of files and headings are written by others too."""
    values = {"source": passage.source, **{name: passage.metadata.get(name) for name in _ATTRIBUTES}}
    return "".join(
        f' {name}="{html.escape(defuse(_one_line(value)))}"'
        for name, value in values.items()
        if value not in (None, "")
    )


def _one_line(value: object) -> str:
    text = " > ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(c if c.isprintable() else " " for c in text)[:_ATTRIBUTE_CHARACTERS]


def _latest(history: Sequence[Message], max_tokens: int, count: CountTokens) -> tuple[Message, ...]:
    """The latest turns that fit, beginning with one of the user: some servers refuse a conversation that does not."""
    turns = [Message(turn.role, defuse(turn.content)) for turn in history]
    while turns and (turns[0].role != "user" or _tokens(turns, count) > max_tokens):
        del turns[0]
    return tuple(turns)


def _tokens(messages: Sequence[Message], count: CountTokens) -> int:
    return sum(count(message.content) + _MESSAGE_TOKENS for message in messages)


def _longest_beginning(text: str, fits: Callable[[str], bool], least_characters: int) -> str:
    """The longest beginning that fits and ends after a sentence, or else after a word; "" for one that is too short."""
    for ends in (_SENTENCE_END, _WORD_END):
        cuts = sorted({len(text[: mark.start()].rstrip()) for mark in ends.finditer(text)} - {0, len(text)})
        place = bisect_left(cuts, True, key=lambda cut: not fits(text[:cut]))
        if place and cuts[place - 1] >= least_characters:
            return text[: cuts[place - 1]]
    return ""
