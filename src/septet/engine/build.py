"""From the configuration to members and ensembles; every reason why a pool does not fit, in one error."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from septet.core.backend import Backend, Endpoint, MemberSpec, Trainable
from septet.core.caps import Caps
from septet.core.errors import BadParameter, ConfigError, UnfitPool, UnknownName
from septet.core.facets import Family
from septet.core.method import Method, parameters_of
from septet.core.prompt import Prompt
from septet.core.state import Learned
from septet.engine import catalogue
from septet.engine.config import (
    SHARED,
    Config,
    EnsembleConfig,
    MemberConfig,
    defaults_of,
    placed,
    placed_at_its_key,
)
from septet.engine.direct import Direct
from septet.engine.ensemble import Ensemble
from septet.engine.limits import check_shape
from septet.engine.members import Member
from septet.engine.schedules import schedule_problems
from septet.engine.states import Cell, load


class Builder:
    """Makes members and ensembles by name, each once; endpoints are shared by members `like` each other."""

    def __init__(self, config: Config, methods: Mapping[str, type[Method]]) -> None:
        self.config, self.methods = config, methods
        self.members: dict[str, Member] = {}
        self.ensembles: dict[str, Ensemble] = {}
        self.endpoints: dict[str, Endpoint] = {}
        both = sorted(set(config.members) & set(config.ensembles))
        if both:
            raise ConfigError(f"{both[0]!r} names both a member and an ensemble in {config.path}")

    @property
    def names(self) -> list[str]:
        """Ensembles first, then members: what can be asked."""
        return [*self.config.ensembles, *self.config.members]

    def check_names(self) -> None:
        """Resolves every name and parameter of the file, so that a typo anywhere is found at once."""
        for name, member in self.config.members.items():
            self._backend_of(name, member)
        for name, ensemble in self.config.ensembles.items():
            self._method_of(ensemble)
            self._no_cycle(name, ())
            for actor in (*ensemble.members, *(a for names in ensemble.roles.values() for a in names)):
                if actor != "members" and actor not in self.names:
                    raise UnknownName("member", actor, self.names, self._place("ensembles", name, "members"))

    def askable(self, name: str) -> Ensemble:
        """What a name stands for: an ensemble, or a member asked on its own."""
        if name in self.config.ensembles:
            return self.ensemble(name)
        if name in self.config.members:
            member = self.member(name)
            config = EnsembleConfig(
                name=name,
                method="member",
                members=(name,),
                limits=self.config.limits,
                seed=member.spec.defaults.seed,
            )
            return Ensemble(name, config, Direct(), (member,), {}, Cell(Path()), self.config.place.cache)
        raise UnknownName("ensemble or member", name, self.names, Path(self.config.path).name)

    # --- members ----------------------------------------------------------------------------------

    def member(self, name: str) -> Member:
        """A member; nothing is loaded."""
        if name not in self.members:
            self.members[name] = self._make_member(name)
        return self.members[name]

    def _make_member(self, name: str) -> Member:
        own = self.config.members[name]
        base, chain = self._base(name)
        backend, options = self._backend_of(base.name, base)
        with placed(self._place("members", base.name)):
            if base.name not in self.endpoints:
                self.endpoints[base.name] = backend.connect(self.config.place)
        prompt = next((m.prompt for m in chain if m.prompt), "") or backend.prompt(self.config.place)
        sampling: dict[str, Any] = {}
        for m in reversed(chain):
            sampling |= m.sampling
        price = next((m.price for m in chain if m.price), None)
        spec = MemberSpec(
            name=name, prompt=self._prompt(prompt, own), defaults=defaults_of(sampling), price=price
        )
        endpoint = self.endpoints[base.name]
        identity = json.dumps([base.backend, options, asdict(spec)], sort_keys=True, default=str)
        return Member(
            name=name,
            actor=endpoint.member(spec),
            spec=spec,
            endpoint=base.name,
            concurrency=int(getattr(endpoint, "concurrency", 0)),
            identity=hashlib.sha256(identity.encode()).hexdigest(),
            described=lambda: str(getattr(endpoint, "vocabulary", "")),
            backend=base.backend,
        )

    def _base(self, name: str) -> tuple[MemberConfig, list[MemberConfig]]:
        """The member that names a backend, and the chain of `like` that leads to it."""
        chain = [self.config.members[name]]
        while chain[-1].like:
            like = chain[-1].like
            place = self._place("members", chain[-1].name, "like")
            if like not in self.config.members:
                raise UnknownName("member", like, self.config.members, place)
            if like in (m.name for m in chain):
                raise BadParameter(f"members.{name}.like", like, "must not lead back to itself", place)
            chain.append(self.config.members[like])
        return chain[-1], chain

    def _backend_of(self, name: str, member: MemberConfig) -> tuple[Backend, Mapping[str, Any]]:
        base, _ = self._base(name)
        with placed(self._place("members", base.name, "backend")):
            record = catalogue.get("backends", base.backend)
        with placed_at_its_key(self.config.source, "members", base.name):
            return record(**base.options), base.options

    def _prompt(self, name: str, member: MemberConfig) -> Prompt:
        if name not in self.config.prompts:
            raise UnknownName(
                "prompt", name, self.config.prompts, self._place("members", member.name, "prompt")
            )
        return self.config.prompts[name]

    # --- ensembles --------------------------------------------------------------------------------

    def ensemble(self, name: str) -> Ensemble:
        """An ensemble whose members fit its method; raises UnfitPool with every problem."""
        if name not in self.ensembles:
            self._no_cycle(name, ())
            ensemble = self._make_ensemble(self.config.ensembles[name])
            problems = self.problems(ensemble)
            if problems:
                raise UnfitPool(name, ensemble.method.name, problems)
            check_shape(ensemble, ensemble.config.limits)
            self._load_state(ensemble)
            self.seat_trained(ensemble)
            self.ensembles[name] = ensemble
        return self.ensembles[name]

    def _make_ensemble(self, config: EnsembleConfig) -> Ensemble:
        method = self._method_of(config)
        members = tuple(self._actor(n, config.name) for n in config.members)
        roles = {
            role: tuple(
                actor
                for n in names
                for actor in (members if n == "members" else (self._actor(n, config.name),))
            )
            for role, names in config.roles.items()
        }
        if method.trainer:
            roles = {
                role: tuple(self._trained(a, config.name) for a in actors) for role, actors in roles.items()
            }
        then = self._then_of(config)
        cell = Cell(self.state_folder(config))
        then_cell = Cell(self.state_folder(config) / "then") if then is not None else None
        return Ensemble(
            config.name, config, method, members, roles, cell, self.config.place.cache, then, then_cell
        )

    def state_folder(self, config: EnsembleConfig) -> Path:
        """Where an ensemble's state is kept: the `state` key, else states/NAME beside the file."""
        return Path(self.config.place.folder) / (config.state or f"states/{config.name}")

    def cells(self) -> list[Cell]:
        """The states of all ensembles built so far."""
        pairs = [(e.cell, e.then_cell) for e in self.ensembles.values()]
        return [cell for pair in pairs for cell in pair if cell is not None]

    def _load_state(self, ensemble: Ensemble) -> None:
        names = tuple(m.name for m in ensemble.members)
        pairs = [(ensemble.cell, ensemble.method)]
        if ensemble.then is not None and ensemble.then_cell is not None:
            pairs.append((ensemble.then_cell, ensemble.then))
        for cell, method in pairs:
            cell.learned = load(cell.folder, method) or _begun(method, names)
            cell.saved = cell.learned.version if cell.learned is not None else -1
            if cell.learned is not None and cell.learned.members != names:
                raise ConfigError(
                    f"the state in {cell.folder} was fitted for {list(cell.learned.members)}, but"
                    f" {ensemble.name!r} has {list(names)}; fit it again: septet fit {ensemble.name} …"
                )

    def seat_trained(self, ensemble: Ensemble) -> None:
        """Gives the roles that a trainer fits the weights of this ensemble's state."""
        learned = ensemble.cell.learned
        if ensemble.method.trainer and learned is not None and learned.weights:
            folder = ensemble.cell.folder / learned.weights
            ensemble.roles = {
                role: tuple(
                    self._trained(self._actor(a.name, ensemble.name), ensemble.name, folder) for a in actors
                )
                for role, actors in ensemble.roles.items()
            }

    def _trained(
        self, actor: Member | Ensemble, ensemble: str, weights: Path | None = None
    ) -> Member | Ensemble:
        """The member for a role that a trainer fits: an endpoint of its own, since its weights are the
        ensemble's. One that cannot be trained stays as it is; the fit check refuses it."""
        base = self.endpoints.get(actor.endpoint) if isinstance(actor, Member) else None
        if not isinstance(actor, Member) or not isinstance(base, Trainable):
            return actor
        version = "unfitted" if weights is None else weights.name
        name = f"{actor.endpoint} of {ensemble}, {version}"
        if name not in self.endpoints:
            self.endpoints[name] = base.trained(weights)
        identity = hashlib.sha256(f"{actor.identity} {name}".encode()).hexdigest()
        return replace(actor, actor=self.endpoints[name].member(actor.spec), endpoint=name, identity=identity)

    def trainable(self, ensemble: Ensemble) -> dict[str, tuple[Endpoint, ...]]:
        """The endpoints of the roles that a trainer fits."""
        return {
            role: tuple(self.endpoints[a.endpoint] for a in actors if isinstance(a, Member))
            for role, actors in ensemble.roles.items()
        }

    def _actor(self, name: str, ensemble: str) -> Member | Ensemble:
        if name in self.config.members:
            return self.member(name)
        if name in self.config.ensembles:
            return self.ensemble(name)
        raise UnknownName("member", name, self.names, self._place("ensembles", ensemble, "members"))

    def _method_of(self, config: EnsembleConfig) -> Method:
        with placed(self._place("ensembles", config.name, "method")):
            record = self.methods.get(config.method) or catalogue.get("methods", config.method)
        own = {p.name for p in parameters_of(record)}
        given = {k: v for k, v in config.parameters.items() if k in own or k not in SHARED}
        return self._record(record, config, given)

    def _then_of(self, config: EnsembleConfig) -> Method | None:
        if config.then is None:
            return None
        with placed(self._place("ensembles", config.name, "then")):
            record = catalogue.get("methods", str(config.then["method"]))
            if record.card.facets.family is not Family.NONCASCADE:
                raise BadParameter("then", config.then["method"], "must be a c1 method")
            then: Method = record(**{k: v for k, v in config.then.items() if k != "method"})
        return then

    def _record(self, record: Any, config: EnsembleConfig, parameters: Mapping[str, Any]) -> Method:
        for key, value in parameters.items():
            with placed(self._place("ensembles", config.name, key)):
                record(**{key: value})
        method: Method = record(**parameters)
        return method

    def _no_cycle(self, name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circle = " -> ".join((*above[above.index(name) :], name))
            raise BadParameter(
                "members", circle, "must not contain the ensemble itself", self._place("ensembles", name)
            )
        config = self.config.ensembles[name]
        for inner in (*config.members, *(a for names in config.roles.values() for a in names)):
            if inner in self.config.ensembles:
                self._no_cycle(inner, (*above, name))

    def _place(self, *keys: str) -> str:
        return self.config.source.place(*keys)

    # --- the fit check ----------------------------------------------------------------------------

    def problems(self, ensemble: Ensemble) -> list[str]:
        """Every reason why these members do not fit this method; empty when they do."""
        method, approximate = ensemble.method, ensemble.config.approximate
        found = [*_rule_problems(ensemble)]
        n = len(ensemble.members)
        for i, member in enumerate(ensemble.members):
            found += lacking(member.name, method.needs_of(i, n), member.caps, approximate)
        wanted = method.roles()
        for role in ensemble.roles:
            if role not in wanted:
                found.append(f"{method.name} has no role {role!r} (it has: {', '.join(wanted) or 'none'})")
        for role, caps in wanted.items():
            if role not in ensemble.roles:
                found.append(f"role {role!r} is missing; it must offer {', '.join(caps.named())}")
            for actor in ensemble.roles.get(role, ()):
                found += lacking(f"{actor.name} (as {role})", caps, actor.caps, approximate)
                if method.trainer and not self._is_trainable(actor):
                    found.append(f"{actor.name} (as {role}) cannot be fine-tuned, as {method.name} wants it")
        found += schedule_problems(ensemble.config, method, [m.name for m in ensemble.members])
        if ensemble.then is not None:
            for member in ensemble.members:
                found += lacking(f"{member.name} (for then)", ensemble.then.needs(), member.caps, approximate)
        return found

    def _is_trainable(self, actor: Member | Ensemble) -> bool:
        return isinstance(actor, Member) and isinstance(self.endpoints[actor.endpoint], Trainable)


def _begun(method: Method, members: tuple[str, ...]) -> Learned | None:
    """The state of a method that may serve before it has learned anything."""
    value = method.begin(members)
    return None if value is None else Learned(method.name, members, value, provenance={"begun": "unfitted"})


def lacking(name: str, needs: Caps, offers: Caps, approximate: bool) -> list[str]:
    """One phrase per missing capability."""
    return [f"{name} does not offer {lack}" for lack in needs.missing(offers, approximate=approximate)]


def _rule_problems(ensemble: Ensemble) -> Sequence[str]:
    rule, n = ensemble.method.card.pool, len(ensemble.members)
    names = [m.name for m in ensemble.members]
    found = []
    if n < rule.at_least:
        found.append(f"it needs at least {rule.at_least} members, not {n}")
    if rule.at_most is not None and n > rule.at_most:
        found.append(f"it takes at most {rule.at_most} members, not {n}")
    if len(set(names)) < n:
        found.append("a member is named twice; give a second one its own name with like = …")
    if rule.priced:
        unpriced = [m.name for m in ensemble.members if isinstance(m, Member) and m.price is None]
        found += [f"{name} has no price (price = {{ usd_per_second = … }} will do)" for name in unpriced]
    if rule.vocabulary == "same" and not ensemble.config.approximate:
        others = _of_other_vocabularies(ensemble.members)
        if len(others) > 1:
            found.append(
                f"its members must share one vocabulary, but {', '.join(sorted(others))} do not "
                "(approximate = true compares their tokens as strings)"
            )
    return found


_ENSEMBLE = "ensemble"


def _of_other_vocabularies(members: Sequence[Member | Ensemble]) -> list[str]:
    """One member of each vocabulary, as far as they are known to differ; an ensemble has its own.

    Descriptions of two kinds (a GGUF file, a tokenizer.json) cannot be compared; where one is missing or
    of another kind, what was loaded is compared when the sessions open.
    """
    known: dict[str, str] = {}
    for m in members:
        known.setdefault(m.vocabulary if isinstance(m, Member) else f"{_ENSEMBLE}:{m.name}", m.name)
    kinds = Counter(described.partition(":")[0] for described in known)
    if kinds[_ENSEMBLE] and len(known) > 1:
        return list(known.values())
    return [name for described, name in known.items() if described and kinds[described.partition(":")[0]] > 1]
