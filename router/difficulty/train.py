"""Weights from labelled sets: what words say of the gain, apart from which set they come from.

Each source's mean gain is taken off its labels first, for it says what a source is like and would be learned in place
of what a prompt is like: weights trained without that were worse than chance on sources they had not seen. The same
files give the same bytes on every machine.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from router.chat import Chat, Message
from router.difficulty.grams import SIZE
from router.difficulty.labelled import fault, lines_of, read_labelled
from router.difficulty.learner import Learner, Row
from router.difficulty.look import Look, goes_on, key_of, look_at, question_of, shape_of
from router.difficulty.scorer import Scorer
from router.difficulty.shared import SharedText, shared_in
from router.difficulty.weights import FORMAT, Weights, quantised
from router.errors import UnusableFile

NOISE = 20.0
"""How much a label is doubted. Of 1, 5, 20 and 80 this was the best guard against learning by heart."""
PASSES = 6
REFERENCE_QUANTILES = 101
FEWEST_LABELS = 50
SAME = 1e-9
"""How far a gain may be from its group's mean, by rounding alone."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with the gain of a premium model over a cheap one, for each pair that was tried."""

    id: str
    source: str
    look: Look
    gains: tuple[tuple[str, float], ...]
    """The group that the gain is one of (source, task and pair), and the gain."""


class _Prompt(Struct, frozen=True):
    id: str | int | None = None
    prompt: str | None = None
    text: str | None = None
    messages: list[Message] | None = None

    def chat(self) -> Chat | None:
        text = self.prompt if self.prompt is not None else self.text
        messages = self.messages or ([] if text is None else [Message(role="user", content=text)])
        return Chat(model="auto", messages=messages) if messages else None


_PROMPT = msgspec.json.Decoder(_Prompt)
_PAIR_COLUMNS = ("id", "source", "task", "weak", "strong", "q_weak", "q_strong")


def read_examples(files: Iterable[Path]) -> list[Example]:
    """Read labelled sets: JSON lines, or a CSV of pairs followed by the JSON lines of its prompts.

    Raises:
        UnusableFile: a file can't be read or lacks something; says where.
    """
    examples: list[Example] = []
    waiting = list(files)
    while waiting:
        file = waiting.pop(0)
        if ".csv" in file.suffixes:
            if not waiting:
                raise UnusableFile(f"{file} needs the JSON lines of its prompts, `{{id, prompt}}`, as the next file.")
            examples += _pairs(file, waiting.pop(0))
        else:
            examples += _of_set(file)
    # What is in two files of one name may share an id; the order in which they are named must not count.
    return sorted(examples, key=lambda example: (example.source, example.id, example.gains, tuple(example.look.grams)))


def read_prompts(file: Path) -> list[Look]:
    """Read JSON lines that have a `prompt`, a `text` or `messages`, as looks.

    Raises:
        UnusableFile: the file can't be read, a line holds no prompt, or there is no line.
    """
    looks = [look_of(chat) for _, chat in _chats(file)]
    if not looks:
        raise UnusableFile(f"{file} holds no prompts; it should have one JSON object a line.")
    return looks


def train(
    examples: list[Example],
    references: Iterable[Sequence[Look]] = (),
) -> Weights:
    """Return weights for `examples`; `references` say what traffic is like where a task has none yet.

    Each of them counts as much as any other, however long it is.

    Raises:
        UnusableFile: there are too few labels.
    """
    if len(examples) < FEWEST_LABELS:
        raise UnusableFile(
            f"{len(examples)} prompts with the outcomes of two models are too few to train on; "
            f"bring {FEWEST_LABELS} or more."
        )
    learner = Learner(NOISE, len(examples))
    rows = _rows(examples)
    learner.learn_all(rows, passes=PASSES)
    found = {place: learner.weight(place) for place in range(SIZE)}
    step, steps = quantised(found)
    said = [learner.predict(row.places, row.values) for row in rows]
    mean = math.fsum(said) / len(said)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in said) / len(said))
    sources: dict[str, int] = defaultdict(int)
    for example in examples:
        sources[example.source] += 1
    untold = Weights(FORMAT, dict(sources), _digest(examples), step, steps, float(f"{spread:.6g}") or 1.0, [])
    looks = [*references] or [[example.look for example in examples]]
    return msgspec.structs.replace(untold, reference=_quantiles(untold, looks))


def doubt(examples: list[Example]) -> str | None:
    """Say why weights of these examples tell nothing, or the wrong way round; None where nothing speaks for that."""
    gains = [gain for example in examples for _, gain in example.gains]
    count = f"{len(examples):,}"
    if all(gain <= 0 for gain in gains):
        return (
            f"in none of the {count} prompts does the better model do better than the other, so that nothing gains "
            "from it: the cheap model would do for all of them. Bring prompts on which the models differ"
        )
    if all(abs(row.target) < SAME for row in _rows(examples)):
        return (
            f"in all of the {count} prompts the better model does better by the same, so that nothing tells them "
            "apart: these weights score by the cues alone. Bring prompts on which the models differ more or less"
        )
    if (mean := math.fsum(gains) / len(gains)) < 0:
        return (
            f"the model that is named as strong does worse on the whole, by {-mean:.2f}: the hardest requests would go "
            "to the worse one. Are q_weak and q_strong the wrong way round?"
        )
    return None


def look_of(chat: Chat, text: str | None = None, task: str | None = None) -> Look:
    """Look at a request; `text` is its question without what is shared, `task` a label of its own."""
    whole = question_of(chat)
    return look_at(whole if text is None else text, shape_of(chat, whole), whole=whole, key=key_of(chat, task))


def _rows(examples: list[Example]) -> list[Row]:
    """Return each prompt's words with its gain, less the mean of its group, over the pairs that were tried."""
    sums: dict[str, list[float]] = defaultdict(list)
    for example in examples:
        for group, gain in example.gains:
            sums[group].append(gain)
    means = {group: math.fsum(gains) / len(gains) for group, gains in sums.items()}
    rows = []
    for example in examples:
        residuals = [gain - means[group] for group, gain in example.gains]
        grams = tuple(example.look.grams)
        each = 1 / math.sqrt(max(1, len(grams)))
        rows.append(Row(grams, (each,) * len(grams), math.fsum(residuals) / len(residuals)))
    return rows


def _quantiles(weights: Weights, references: list[Sequence[Look]]) -> list[float]:
    scorer = Scorer(weights)
    scored = sorted((scorer.score(look).value, 1 / len(looks)) for looks in references for look in looks)
    whole = math.fsum(share for _, share in scored)
    found: list[float] = []
    passed = 0.0
    for score, share in scored:
        passed += share
        while len(found) < REFERENCE_QUANTILES - 1 and passed >= whole * len(found) / (REFERENCE_QUANTILES - 1):
            found.append(round(score, 4))
    return [*found, round(scored[-1][0], 4)]


def _digest(examples: list[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        gains = [[group, round(gain, 6)] for group, gain in example.gains]
        digest.update(msgspec.json.encode([example.id, array("H", example.look.grams).tobytes().hex(), gains]))
    return digest.hexdigest()


def _of_set(file: Path) -> list[Example]:
    """Make an example of each prompt of a labelled set, by the model that did worst in it and the one that did best."""
    labelled = read_labelled(file)
    source = file.name.split(".")[0]
    qualities: dict[str, list[float]] = defaultdict(list)
    for each in labelled:
        for model, outcome in each.outcomes.items():
            qualities[model].append(outcome.quality)
    order = sorted(qualities, key=lambda model: (math.fsum(qualities[model]) / len(qualities[model]), model))
    texts = [question_of(each.chat) for each in labelled]
    alone = (text for each, text in zip(labelled, texts, strict=True) if not goes_on(each.chat, text))
    shared = SharedText(shared_in(alone))
    found = []
    for each, text in zip(labelled, texts, strict=True):
        present = [model for model in order if model in each.outcomes]
        weak, strong = present[0], present[-1]
        if weak != strong:
            gain = each.outcomes[strong].quality - each.outcomes[weak].quality
            group = f"{source}/{each.task or ''}/{weak}>{strong}"
            look = look_of(each.chat, shared.stripped(text).text)
            found.append(Example(each.id, source, look, ((group, gain),)))
    return found


def _pairs(file: Path, prompts: Path) -> list[Example]:
    looks = {name: look_of(chat) for name, chat in _chats(prompts)}
    found: dict[str, tuple[str, list[tuple[str, float]]]] = {}
    for number, row in _table(file):
        if row["id"] not in looks:
            raise fault(file, number, f"{prompts} has no prompt for the id {row['id'][:80]!r}")
        weak, strong = _quality(row["q_weak"]), _quality(row["q_strong"])
        if weak is None or strong is None:
            said = f"q_weak is {row['q_weak'][:40]!r} and q_strong is {row['q_strong'][:40]!r}"
            raise fault(file, number, f"{said}; both must be numbers from 0 to 1")
        gain = strong - weak
        group = f"{row['source']}/{row['task']}/{row['weak']}>{row['strong']}"
        found.setdefault(row["id"], (row["source"], []))[1].append((group, gain))
    return [Example(name, source, looks[name], tuple(gains)) for name, (source, gains) in found.items()]


def _table(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV of pairs, each with its line and with all columns that are looked at."""
    rows = csv.DictReader(io.StringIO(b"".join(line for _, line in lines_of(file)).decode("utf-8", "replace")))
    try:
        if missing := [name for name in _PAIR_COLUMNS if name not in (rows.fieldnames or ())]:
            raise fault(file, 1, f"the columns {', '.join(missing)} are missing")
        for row in rows:
            if None in map(row.get, _PAIR_COLUMNS):
                raise fault(file, rows.line_num, "the row has fewer columns than the first line")
            yield rows.line_num, row
    except csv.Error as error:
        raise fault(file, rows.reader.line_num, str(error)) from None


def _quality(text: str) -> float | None:
    """Return a quality; None where the text is no number from 0 to 1."""
    try:
        quality = float(text)
    except ValueError:
        return None
    return quality if 0 <= quality <= 1 else None


def _chats(file: Path) -> list[tuple[str, Chat]]:
    found = []
    for number, line in lines_of(file):
        try:
            prompt = _PROMPT.decode(line)
        except msgspec.DecodeError as error:
            raise fault(file, number, str(error)) from None
        except RecursionError:
            raise fault(file, number, "it is nested too deeply to be read") from None
        chat = prompt.chat()
        if chat is None:
            raise fault(file, number, "it holds no `prompt`, `text` or `messages`")
        found.append((str(number) if prompt.id is None else str(prompt.id), chat))
    return found
