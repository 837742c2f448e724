"""models.yaml → the models that can be routed to, each target with its price, its limits and its way in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

from router.errors import UnpricedModel
from router.policy.claim import AUTO
from router.policy.fault import Place, Report
from router.policy.reading.document import Leaf, Node, Table, at, entries_at, items_at, key_place, text_at
from router.policy.reading.environment import VARIABLE, filled, report_strays, unset_in
from router.policy.reading.names import check_version
from router.policy.reading.shape import read_shape, strange_keys
from router.policy.schema.money import FREE, PriceShape
from router.policy.schema.targets import DeadlinesShape, ModelsFile, ModelShape, TargetShape
from router.policy.target import UNKNOWN_OUTPUT_LIMIT, Deadlines, Model, Target
from router.pricing import Catalogue, Price, PriceOverride, TierOverride, override_price, region_of
from router.tokens import rules_for


@dataclass(frozen=True, slots=True)
class ModelsReader:
    """Reads one models.yaml; what is wrong goes into `report`."""

    catalogue: Catalogue
    environ: Mapping[str, str]
    report: Report

    def read(self, root: Table) -> Mapping[str, Model]:
        """Return the models by name; whatever is wrong is reported, and then the mapping is empty."""
        check_version(root, self.report)
        shape = read_shape(root, ModelsFile, self.report)
        report_strays(root, self.report)
        for name, entry in entries_at(root, "models").items():
            if name == AUTO:
                self.report.error(entry.place, f'a model can\'t be named "{AUTO}": callers name that to choose none')
            self._check(entry.place, entry.value)
        if shape is None or self.report.stops:
            return MappingProxyType({})
        return MappingProxyType({name: self._model(name, model) for name, model in shape.models.items()})

    def _check(self, place: Place, model: Node) -> None:
        """Report what no shape can say: secrets, unset URLs, no price, targets given twice or never."""
        single, several = at(model, "target"), at(model, "targets")
        meant = strange_keys(model, ModelShape).values()
        if isinstance(model, Table) and (single is None) == (several is None) and "target" not in meant:
            self.report.error(place, "a model has either `target` or `targets`; give one of them")
        optional = at(model, "optional")
        for holder in (model, *items_at(model, "targets")):
            self._check_key(holder)
            self._check_url(holder, optional=optional is not None and optional.plain() is True)
        for node in _target_nodes(model):
            if at(model, "price") is None:
                self._check_priced(node)
        self._check_tiers(at(model, "price"))

    def _check_key(self, holder: Node) -> None:
        key = text_at(holder, "api_key")
        if key is not None and not VARIABLE.fullmatch(key):
            self.report.error(
                _place(holder, "api_key"),
                "a key never stands in a file: write `api_key: ${MY_KEY}` and set MY_KEY in the environment",
            )

    def _check_url(self, holder: Node, *, optional: bool) -> None:
        url = text_at(holder, "base_url")
        if url is None:
            return
        place = _place(holder, "base_url")
        if "$" in VARIABLE.sub("", url):
            self.report.error(place, "a variable is written ${NAME}: letters, digits and underscores, and no default")
            return
        if unset := unset_in(url, self.environ):
            if not optional:
                self.report.error(
                    place,
                    f"{unset[0]} is not set in the environment; set it, or give the model `optional: true`",
                )
            return
        if problem := _url_problem(filled(url, self.environ)):
            self.report.error(place, problem)

    def _check_priced(self, node: Node) -> None:
        provider, _, model = str(node.plain()).partition("/")
        if not provider or not model or self.report.knows(node.place):
            return
        try:
            self.catalogue.entry(provider, model)
        except UnpricedModel as error:
            self.report.error(node.place, error.message)

    def _check_tiers(self, price: Node | None) -> None:
        seen: set[int] = set()
        for tier in items_at(price, "tiers"):
            start = at(tier, "above_input_tokens")
            if not isinstance(start, Leaf) or not isinstance(start.value, int):
                continue
            if start.value in seen:
                self.report.error(start.place, f"two tiers begin above {start.value} input tokens")
            seen.add(start.value)

    def _model(self, name: str, shape: ModelShape) -> Model:
        targets = shape.targets or [TargetShape(target=shape.target or "")]
        unset = [
            variable
            for target in targets
            for text in (target.base_url or shape.base_url, target.api_key or shape.api_key)
            for variable in unset_in(text or "", self.environ)
        ]
        absent = f"{unset[0]} is not set" if shape.optional and unset else None
        return Model(
            name=name,
            kind=shape.kind,
            targets=tuple(self._target(target, shape) for target in targets),
            deadlines=_deadlines(shape.timeouts),
            retries=shape.retries,
            requests_per_minute=shape.limits.requests_per_minute,
            tokens_per_minute=shape.limits.tokens_per_minute,
            absent=absent,
        )

    def _target(self, target: TargetShape, shape: ModelShape) -> Target:
        provider, _, model = target.target.partition("/")
        entry = self.catalogue.find(provider, model)
        base_url = target.base_url or shape.base_url
        url = filled(base_url, self.environ).rstrip("/") or None if base_url else None
        variable = _key_variable(provider, target.api_key or shape.api_key, base_url)
        stated = shape.max_output_tokens or (entry.max_output_tokens if entry else None)
        lacks = (entry.lacks if entry else frozenset()) - frozenset(shape.abilities) | frozenset(shape.lacks)
        return Target(
            provider=provider,
            model=model,
            price=_price(shape.price) if shape.price else self._listed(provider, model, url),
            token_rules=rules_for(provider, model),
            base_url=url,
            api_key=self.environ.get(variable) or None if variable else None,
            api_key_variable=variable,
            weight=float(target.weight),
            context_tokens=shape.context_tokens or (entry.max_input_tokens if entry else None),
            max_output_tokens=stated or UNKNOWN_OUTPUT_LIMIT,
            output_limit_known=stated is not None,
            lacks=lacks,
        )

    def _listed(self, provider: str, model: str, base_url: str | None) -> Price:
        return self.catalogue.entry(provider, model).price_in(region_of(provider, base_url, self.environ))


def _target_nodes(model: Node) -> Iterator[Node]:
    for holder in (model, *items_at(model, "targets")):
        if text_at(holder, "target") is not None and (node := at(holder, "target")):
            yield node


def _place(holder: Node, key: str) -> Place:
    found = at(holder, key)
    return found.place if found else key_place(holder, (key,))


def _url_problem(url: str) -> str | None:
    """Say what is wrong with a base URL, without quoting it: it may hold a password."""
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        return "`base_url` is not a URL; write http://host:port/path or https://…"
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_good:
        return "`base_url` must be http://host:port/path or https://…"
    if parts.username is not None or parts.password is not None:
        return "`base_url` must hold no user name or password; use `api_key: ${MY_KEY}`"
    if parts.query or parts.fragment or any(character.isspace() for character in url):
        return "`base_url` must end with its path: no ?query, no #fragment, no blanks"
    return None


def _key_variable(provider: str, api_key: str | None, base_url: str | None) -> str | None:
    """Return the variable that holds the key. A URL of one's own gets no provider's key unasked."""
    if api_key is not None:
        found = VARIABLE.fullmatch(api_key)
        return found[1] if found else None
    return None if base_url else f"{provider.upper().replace('-', '_')}_API_KEY"


def _price(shape: PriceShape) -> Price:
    if shape is FREE:
        return Price.free()
    rates = shape.model_dump(exclude_none=True, exclude={"tiers"})
    tiers = tuple(TierOverride(**tier.model_dump(exclude_none=True)) for tier in shape.tiers)
    return override_price(PriceOverride(**rates, tiers=tiers))


def _deadlines(shape: DeadlinesShape) -> Deadlines:
    return Deadlines(**{name: float(value) for name, value in shape.model_dump(exclude_none=True).items()})
