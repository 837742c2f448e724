"""What simulated models say: sentences of a small vocabulary, as real o200k tokens.

The tokens are those of the text: joined they give its UTF-8 bytes, and it is billed for as many as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random

import tiktoken

from router.tokens.encoding import Encodings

SPREAD = 0.6
"""The sigma of the log-normal of answer lengths: half of them lie within 0.67 to 1.5 of the median."""

SENTENCES = (
    "Thank you for your question.",
    "Here is a short answer first, and the reasons after it.",
    "It depends on what you want to achieve, but there is a sensible default.",
    "The simplest way is to start small and to measure before you change anything.",
    "Most of the cost comes from a few steps, so look at those first.",
    "If that does not help, write down what you expected and what happened instead.",
    "You can do this in three steps.",
    "First, collect the facts and put them in one place.",
    "Then compare them with what was agreed, line by line.",
    "Finally, decide who does what, and by when.",
    "There is one exception that is worth knowing about.",
    "In that case the order is reversed, because the second part depends on the first.",
    "A parcel usually arrives within two to four working days.",
    "You will find the number of your order in the message that confirmed it.",
    "We are sorry for the delay, and we have asked the carrier for the present place of your parcel.",
    "The refund reaches your account in five to seven days, and comes to €24.90 in all.",
    "The function reads the whole file into memory, which is fine up to a few megabytes.",
    "Past that size, read it line by line and keep only what you need.",
    "The loop runs once for each item, so doubling the list doubles the time.",
    "A test that fails for the right reason is worth more than ten that never fail.",
    "The clause limits liability to the fees paid in the twelve months before the claim.",
    "It does not apply to damage caused on purpose or by gross negligence.",
    "Either party may end the agreement with thirty days' written notice.",
    "The report covers the last quarter and compares it with the one before.",
    "Sales rose by four percent, while returns fell slightly.",
    "The largest change was in the north, where two new shops opened in May.",
    "Two points remain open, and both need a decision this week.",
    "The café on the corner — the one with the green door — opens at seven.",
    "Zoë's team in São Paulo and Łukasz's in Kraków share the work evenly.",
    "In Japanese, the word for thanks is ありがとう, and in Korean it is 감사합니다.",
    "A good rule of thumb: if it takes longer to explain than to do, do it 🙂.",
    "The temperature fell to 3 °C overnight, and the roads were icy until noon.",
    "Water boils at a lower temperature in the mountains, because the air is thinner.",
    "Plants turn light into sugar and give off oxygen as they do so.",
    "The train leaves at a quarter past nine and takes just under two hours.",
    "Bring a coat, since the evenings are cooler than the forecast suggests.",
    "The two ideas are often confused, although they answer different questions.",
    "One says how likely something is, the other how much it would matter.",
    "An example makes this clearer.",
    "Suppose that you have a hundred requests and a budget of one dollar.",
    "Sending all of them to the best model would cost more than that.",
    "Sending the easy ones to a smaller model leaves enough for the hard ones.",
    "The result is nearly as good, at about a third of the price.",
    "That said, it is worth checking a few answers by hand.",
    "Keep the old version until the new one has run for a week.",
    "If something looks wrong, it is easy to go back.",
    "Put the kettle 🫖 on the stove, and let the tea stand for four minutes.",
    "I hope this helps.",
    "Let me know if you would like more detail on any of these points.",
)


@cache
def o200k() -> tiktoken.Encoding:
    """Return the encoding of OpenAI's present models, from the ranks on this machine."""
    # It is this that tells tiktoken where they are.
    Encodings().get("o200k_base")
    return tiktoken.get_encoding("o200k_base")


def tokens_of(text: str) -> tuple[bytes, ...]:
    """Return the bytes of each token of `text`, in order."""
    encoding = o200k()
    return tuple(map(encoding.decode_single_token_bytes, encoding.encode_ordinary(text)))


def text_of(tokens: tuple[bytes, ...]) -> str:
    """Join tokens to text. A character that a cut left incomplete at the end is dropped."""
    return b"".join(tokens).decode("utf-8", "ignore")


@dataclass(frozen=True, slots=True)
class Piece:
    """The least that can be streamed: one token, or the few that make up one character."""

    text: str
    tokens: tuple[bytes, ...]


def pieces(tokens: tuple[bytes, ...], at_least: int = 1) -> Iterator[Piece]:
    """Split tokens into pieces of `at_least` tokens each that end between two characters.

    What a cut left of a character at the end comes as a piece without text.
    """
    waiting: list[bytes] = []
    for token in tokens:
        waiting.append(token)
        if len(waiting) < at_least:
            continue
        try:
            text = b"".join(waiting).decode()
        except UnicodeDecodeError:
            continue
        yield Piece(text, tuple(waiting))
        waiting.clear()
    if waiting:
        yield Piece(text_of(tuple(waiting)), tuple(waiting))


def draw_length(mean_tokens: float, random: Random) -> int:
    """Draw a length of at least one token from a log-normal with this mean."""
    return max(1, round(random.lognormvariate(math.log(mean_tokens) - SPREAD**2 / 2, SPREAD)))


def prose(at_least_tokens: int, random: Random) -> str:
    """Write whole sentences, in paragraphs: `at_least_tokens` in all, and at most a sentence more."""
    parts: list[str] = []
    tokens = 0
    order: list[str] = []
    while tokens < at_least_tokens:
        if not order:
            order = random.sample(SENTENCES, len(SENTENCES))
        sentence = order.pop()
        gap = "" if not parts else "\n\n" if random.random() < 0.15 else " "
        parts.append(gap + sentence)
        tokens += len(o200k().encode_ordinary(parts[-1]))
    return "".join(parts)


def phrase(words: int, random: Random) -> str:
    """Write a few words, for the inside of a JSON string."""
    return " ".join(random.choice(SENTENCES).rstrip(".").split()[:words])
