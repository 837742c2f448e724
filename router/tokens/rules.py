"""How each model counts: which encoding, how messages and tools are framed, what images and audio cost.

A name that is not known gets the dearest rules. Figures are dated where they come from outside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from router.tokens.encoding import EncodingName
from router.tokens.images import Crops, Flat, ImageRule, Patches, Squares, Tiles

UNSEEN_IMAGE = Flat(16_384)
"""Where no rule is known: the most that Qwen2-VL makes of one image (its processor's default, 2024)."""


@dataclass(frozen=True, slots=True)
class Framing:
    """The tokens around the text that a request brings."""

    message_tokens: int = 3
    """For each message, beside its role."""
    reply_tokens: int = 3
    """Once, for the start of the answer."""
    name_tokens: int = 1
    call_tokens: int = 5
    """For each tool call in the history, beside its name (twice: its result bears it too) and arguments."""
    tools_tokens: int = 9
    """Once, where tools are offered."""
    each_tool_tokens: int = 0
    shared_system_tokens: int = 4
    """Of `tools_tokens`, saved where the request has a system message that the tools can join."""
    choice_tokens: int = 4
    """For a `tool_choice` that names a tool, beside the name."""
    tools_as: Literal["2023", "2024", "json"] = "2024"
    """TypeScript in one of OpenAI's two dialects, or JSON, which is longer."""


CLASSIC = Framing(tools_as="2023")
"""gpt-3.5-turbo and gpt-4. Source: OpenAI's cookbook, and the requests in tests/data/token_examples.json."""

OMNI = Framing(choice_tokens=7)
"""gpt-4o, gpt-4.1 and gpt-4.5."""

HARMONY = Framing(reply_tokens=2, call_tokens=11, tools_tokens=91, shared_system_tokens=0, choice_tokens=0)
"""gpt-5, gpt-oss and the o series, whose tools bring a system message of their own.

Source: requests to gpt-5-mini of 2025-12; openai/harmony's rendering.
"""

FOREIGN = Framing(
    message_tokens=7, reply_tokens=32, name_tokens=3, call_tokens=24, tools_tokens=512, each_tool_tokens=16,
    shared_system_tokens=0, choice_tokens=8, tools_as="json",
)  # fmt: skip
"""Any other family. Chat templates add up to 6 tokens a message (Llama 3) and a system prompt of about 20
where there is none (Qwen 2.5); tools add a prompt of up to 530 tokens (Claude 3 Opus; Anthropic, "Tool use:
pricing", 2025)."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The tokenization profile of a model."""

    name: str
    """Identifies the profile: two rules of one name count alike."""
    encoding: EncodingName = "o200k_base"
    factor: float = 1.0
    """Multiplies what the encoding counts, rounded up; 1.0 where the encoding is the model's own."""
    per_wide_byte: float = 0.0
    """Added for each byte of a character past its first: scripts that o200k_base knows better than others
    do."""
    per_digit: float = 0.0
    """Added for each digit, where a digit is a token of its own: o200k_base takes up to three together."""
    framing: Framing = OMNI
    images: ImageRule = UNSEEN_IMAGE
    audio_tokens_per_s: int = 10
    file_tokens: int = 300_000
    """For a file that the request only names: OpenAI reads 100 pages at most, as text and as images."""

    @property
    def text_profile(self) -> tuple[str, float, float, float, int]:
        """What a request without images, audio and files is counted by: rules that share it count it alike."""
        return (self.encoding, self.factor, self.per_wide_byte, self.per_digit, id(self.framing))

    @property
    def exact(self) -> bool:
        """Whether texts are counted by the model's own encoding."""
        return self.factor == 1.0

    @property
    def plain(self) -> TokenRules:
        """The encoding's own count, of which `factor` tells how far the model's may be on either side.

        What is added for other scripts and for digits is a bound from above: DeepSeek makes half of it of Chinese.
        """
        return self if self.exact else replace(self, factor=1.0, per_wide_byte=0.0, per_digit=0.0)


def _classic(name: str) -> TokenRules:
    return TokenRules(name, encoding="cl100k_base", framing=CLASSIC, images=Tiles(85, 170))


def _omni(name: str, images: ImageRule) -> TokenRules:
    return TokenRules(name, framing=OMNI, images=images)


def _harmony(name: str, images: ImageRule) -> TokenRules:
    return TokenRules(name, framing=HARMONY, images=images)


def _foreign(
    name: str, factor: float, images: ImageRule, per_wide_byte: float = 0.5, *, digits: Literal["apart", "together"]
) -> TokenRules:
    return TokenRules(
        name,
        factor=factor,
        per_wide_byte=per_wide_byte,
        per_digit=max(0.0, 1 - factor / 3) if digits == "apart" else 0.0,
        framing=FOREIGN,
        images=images,
        audio_tokens_per_s=32,
    )


UNKNOWN = _foreign("unknown", 2.0, UNSEEN_IMAGE, digits="apart")
"""Twice o200k_base covers the 32,000-word vocabularies of 2023 on English, code and Western languages."""

_OPENAI: tuple[tuple[str, TokenRules], ...] = (
    (r"gpt-?4o-?mini", _omni("gpt-4o-mini", Tiles(2833, 5667))),
    (r"gpt-?4o", _omni("gpt-4o", Tiles(85, 170))),
    (r"gpt-?4\.?1-?mini", _omni("gpt-4.1-mini", Patches(162, 1536))),
    (r"gpt-?4\.?1-?nano", _omni("gpt-4.1-nano", Patches(246, 1536))),
    (r"gpt-?4\.?1(?!\d)", _omni("gpt-4.1", Tiles(85, 170))),
    (r"gpt-?4\.?5(?!\d)", _omni("gpt-4.5", Tiles(85, 170))),
    (r"gpt-?4(?!\d)", _classic("gpt-4")),
    (r"gpt-?3\.?5", _classic("gpt-3.5")),
    (r"gpt-?oss", _harmony("gpt-oss", UNSEEN_IMAGE)),
    (r"gpt-?5(\.1)?-codex-mini", _harmony("gpt-5-codex-mini", Patches(172, 1536))),
    (r"gpt-?5-?mini", _harmony("gpt-5-mini", Patches(162, 1536))),
    (r"gpt-?5-?nano", _harmony("gpt-5-nano", Patches(246, 1536))),
    (r"gpt-?5\.[23](?!\d)", _harmony("gpt-5.2", Patches(120, 1536))),
    (r"gpt-?5\.4-?mini", _harmony("gpt-5.4-mini", Patches(162, 2500))),
    (r"gpt-?5\.4-?nano", _harmony("gpt-5.4-nano", Patches(246, 2500))),
    (r"gpt-?5\.4", _harmony("gpt-5.4", Patches(120, 2500, 10_000))),
    (r"gpt-?5(\.1)?(?![.\d])", _harmony("gpt-5", Tiles(70, 140))),
    (r"gpt-?\d[\d.]*-?(mini|nano)", _harmony("gpt-small", Patches(246, 2500, 30_000))),
    (r"gpt-?\d", _harmony("gpt", Patches(120, 2500, 30_000))),
    (r"(?<![a-z0-9])o4-?mini", _harmony("o4-mini", Patches(172, 1536))),
    (r"(?<![a-z0-9])o[13](?![a-z0-9])", _harmony("o1", Tiles(75, 150))),
    (r"(?<![a-z0-9])o\d(?![a-z0-9])", _harmony("o", Patches(172, 2500, 30_000))),
    (r"codex-mini", _harmony("codex-mini", Patches(172, 1536))),
    (r"computer-use", _harmony("computer-use", Tiles(70, 140))),
    (r"davinci|babbage|text-embedding", _classic("gpt-3")),
)
"""First match wins. Image figures: OpenAI, "Images and vision" (2025-12 and 2026-03; 30,000 patches:
2026-09)."""

_FOREIGN: tuple[tuple[str, TokenRules], ...] = (
    (r"claude-(instant|v?[23]|4)|(opus|sonnet|haiku)-4([-.][0-6])?(?!\d)(?![-.][7-9])", _foreign("claude-4", 1.7, Squares(28, 1_700), digits="together")),  # noqa: E501
    (r"claude", _foreign("claude", 2.4, Squares(28, 4_900), digits="together")),
    (r"gemini-3", _foreign("gemini-3", 1.3, Crops(2_240), 0.1, digits="apart")),
    (r"gemini", _foreign("gemini", 1.3, Crops(), 0.1, digits="apart")),
    (r"gemma", _foreign("gemma", 1.3, Crops(), 0.1, digits="apart")),
    (r"llama-?[12](?![\d])", _foreign("llama-2", 2.0, Flat(6_404), digits="apart")),
    (r"llama", _foreign("llama", 1.4, Flat(6_404), digits="together")),
    (r"mistral|mixtral|ministral|magistral|devstral|codestral|pixtral|voxtral", _foreign("mistral", 1.6, Squares(16, 4_200), digits="apart")),  # noqa: E501
    (r"qwen|qwq|qvq", _foreign("qwen", 1.5, Squares(28, 16_384), digits="apart")),
    (r"deepseek", _foreign("deepseek", 1.5, UNSEEN_IMAGE, digits="apart")),
)  # fmt: skip
"""First match wins. Factors on o200k_base, on the high side of what was published or measured:

- Claude to 4.6: 16% more on English, 21% on mathematics, 30% on Python (VentureBeat, 2025-05-02), and
  Claude 2's published tokenizer 62% on German; from 4.7 on up to 1.47 times that (sol.ava.dev and
  claudecodecamp.com, 2026-04). Image caps: Anthropic, "Vision" (2026).
- Gemini and Gemma: a vocabulary of 262,000, larger than o200k_base's. Gemma 3 makes 1.1 times the tokens of
  o200k_base on English prompts, and more of Armenian and Georgian alone (its own tokenizer, 2026-11).
- Digits: Gemma 3 makes 2.3 times our count without `per_digit` (its own tokenizer, 2026-11); Llama 2, Mistral,
  Qwen and the first DeepSeek split them as well. Llama 3 takes three together, as o200k_base does.
- Llama 3 and 4, Qwen, DeepSeek, Mistral: 128,000 to 151,000, about cl100k_base's size, which makes 1.05 times
  the tokens of o200k_base on English and up to 1.4 on Western languages; Qwen and DeepSeek split numbers
  finer.
- Other scripts: Claude 2's tokenizer makes 1.3 times the tokens on Chinese and 4.2 times on Hindi, which is
  about one a character: half a token for each byte past a character's first.
"""


_FAMILIES = {"anthropic": "claude", "gemini": "gemini", "mistral": "mistral", "deepseek": "deepseek"}
"""Providers that serve one family only, so that their name tells what the model's own does not."""


def rules_for(provider: str, model: str) -> TokenRules:
    """Return how `model` counts, by its name wherever it is served.

    Dated, fine-tuned ("ft:gpt-4o-mini:…"), Azure and gateway names ("anthropic.claude-…", "openai/gpt-4o")
    are known by the family that they name. A name that tells no family counts by `UNKNOWN`, which errs high.
    """
    for name in (model.lower(), _FAMILIES.get(provider.lower(), "")):
        for pattern, rules in (*_FOREIGN, *_OPENAI):
            if re.search(pattern, name):
                return rules
    return UNKNOWN
