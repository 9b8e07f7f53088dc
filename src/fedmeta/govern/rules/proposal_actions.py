"""What a proposal can ask for: the schema of each action, what it needs, and what it does."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import faults, members
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.parameters import MILLION, Parameters, check_parameters
from fedmeta.govern.state.records import Fault, Recipe, Round
from fedmeta.govern.wire.events import ParameterSet, RecipeRegistered, TreasurySpent, UpgradeSet
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.schema import Amount, Count, Hash, Name, PublicKey, Text, checker

ACTIONS: dict[str, type["Action"]] = {}
"""Kind to schema, in the order of the documentation."""

_CHECKERS: dict[str, Callable[[dict[str, Any]], Any]] = {}


class Action:
    """The base of all actions."""

    __slots__ = ()

    @abstractmethod
    def check(self, context: Context) -> None:
        """Refuse what could not be carried out as things stand."""

    @abstractmethod
    def carry_out(self, context: Context, proposal: int) -> None:
        """Do it, or refuse; the caller undoes what a refusal leaves behind."""


def action(kind: str) -> Callable[[type], type]:
    """Declare a frozen dataclass as the schema of a kind of action."""

    def declare(cls: type) -> type:
        ACTIONS[kind] = cls
        _CHECKERS[kind] = checker(cls)
        return cls

    return declare


def read_action(values: dict[str, Any]) -> Action:
    """Return the action of a map with `kind` and that kind's fields.

    Raises:
        Refused: `malformed` for an unknown kind or other fields; `bad-value` or `bad-amount` for a field.
    """
    kind = values.get("kind")
    check = _CHECKERS.get(kind) if isinstance(kind, str) else None
    if check is None:
        raise Refused("malformed", f"unknown kind of action {kind!r:.40}: known are {', '.join(ACTIONS)}")
    return check({name: value for name, value in values.items() if name != "kind"})


@action("set-parameter")
@dataclass(frozen=True, slots=True)
class SetParameter(Action):
    """Change one parameter."""

    name: Text
    value: Count

    def check(self, context: Context) -> None:
        """Refuse an unknown name, a value out of range, or one that contradicts another parameter."""
        _changed(context, {self.name: self.value})

    def carry_out(self, context: Context, proposal: int) -> None:
        """Change the parameter, validated again."""
        _set(context, {self.name: self.value})


@action("set-parameters")
@dataclass(frozen=True, slots=True)
class SetParameters(Action):
    """Change several parameters at once, such as shares that must add up."""

    values: dict[str, Any]
    """Names to values."""

    def check(self, context: Context) -> None:
        """Refuse an unknown name, a value out of range, or values that contradict one another."""
        if not self.values:
            raise Refused("bad-value", "values is empty: it must name at least one parameter")
        _changed(context, self.values)

    def carry_out(self, context: Context, proposal: int) -> None:
        """Change the parameters together, validated again."""
        _set(context, self.values)


@action("admit")
@dataclass(frozen=True, slots=True)
class Admit(Action):
    """Admit a member, or let one that left come back."""

    member: Name
    organisation: Name
    public: PublicKey
    title: Text

    def check(self, context: Context) -> None:
        """Refuse a present member, another organisation for one that comes back, or a key that is or was in use."""
        members.check_admission(context, self.member, self.organisation, self.public)

    def carry_out(self, context: Context, proposal: int) -> None:
        """Admit the member; its key signs from the next height on."""
        members.admit(context, self.member, self.organisation, self.public, self.title)


@action("remove")
@dataclass(frozen=True, slots=True)
class Remove(Action):
    """Remove a member; its stake is put on its way out."""

    member: Name

    def check(self, context: Context) -> None:
        """Refuse who is no member, or has left."""
        context.active_member(self.member)

    def carry_out(self, context: Context, proposal: int) -> None:
        """Remove the member."""
        members.remove(context, self.member, proposal)


@action("spend")
@dataclass(frozen=True, slots=True)
class Spend(Action):
    """Pay a member out of the treasury."""

    member: Name
    amount: Amount

    def check(self, context: Context) -> None:
        """Refuse who is no member, or has left, and more than may be spent in any term."""
        context.active_member(self.member)
        limit = _spendable(context)
        if self.amount > limit:
            raise Refused("limit-reached", f"{self.amount} are more than proposals may spend in a term: {limit}")

    def carry_out(self, context: Context, proposal: int) -> None:
        """Pay, if the treasury holds the amount, and so much may still be spent in the present term."""
        self.check(context)
        treasury, term = context.chain.treasury, context.term
        if treasury < self.amount:
            raise Refused("insufficient-funds", f"the treasury holds {treasury}: {self.amount} are needed")
        left = _spendable(context) - term.spent
        if left < self.amount:
            raise Refused("limit-reached", f"proposals may spend {left} more in term {term.number}: not {self.amount}")
        context.draft.put(replace(term, spent=term.spent + self.amount))
        context.treasury(-self.amount)
        context.free(self.member, self.amount)
        context.emit(TreasurySpent(self.member, self.amount, proposal))


@action("annul-slash")
@dataclass(frozen=True, slots=True)
class AnnulSlash(Action):
    """Undo a slash, out of the treasury."""

    fault: Count

    def check(self, context: Context) -> None:
        """Refuse an unknown fault, or one that is annulled."""
        fault = context.draft.get(Fault, self.fault)
        if fault is None:
            raise Refused("not-found", f"there is no fault {self.fault}")
        if fault.annulled:
            raise Refused("already-done", f"fault {self.fault} is annulled")

    def carry_out(self, context: Context, proposal: int) -> None:
        """Give back what was slashed."""
        faults.annul(context, self.fault, proposal)


@action("recipe")
@dataclass(frozen=True, slots=True)
class RegisterRecipe(Action):
    """Register a recipe to be trained from a model on, set a known one to another model, or take one out of use."""

    digest: Hash
    title: Text
    model: Hash
    """What training starts from; a recipe that is taken out of use keeps the model it has reached."""
    active: bool
    interval: Count
    """The fewest blocks from one of its rounds to the next."""

    def check(self, context: Context) -> None:
        """Refuse to take out of use what is not registered."""
        if not self.active and context.draft.get(Recipe, self.digest) is None:
            raise Refused("not-found", f"there is no recipe {self.digest.hex()} to take out of use")

    def carry_out(self, context: Context, proposal: int) -> None:
        """Write the recipe."""
        self.check(context)
        before = context.draft.get(Recipe, self.digest)
        if before is None:
            before = Recipe(self.digest, self.title, self.model, True, self.interval, 0, 0, False)
        model = self.model if self.active else before.model
        exposed = before.exposed
        if model != before.model:
            # Super nodes may have seen updates of a model that the recipe is set back to.
            rounds = [one for one in context.draft.all(Round) if one.recipe == self.digest]
            exposed = any(one.model == model and one.seen for one in rounds)
        context.draft.put(
            replace(before, title=self.title, model=model, active=self.active, interval=self.interval, exposed=exposed)
        )
        context.emit(RecipeRegistered(self.digest, self.title, model, self.active, self.interval))


@action("upgrade")
@dataclass(frozen=True, slots=True)
class Upgrade(Action):
    """Execute blocks by the rules of another protocol from a height on, or with height 0 go on as before."""

    protocol: Count
    height: Count

    def check(self, context: Context) -> None:
        """Refuse a height that has passed, and a protocol that is not a later one."""
        if self.height and self.height <= context.height:
            raise Refused("bad-value", f"height {self.height} has passed: this is {context.height}")
        if self.protocol <= context.chain.protocol:
            raise Refused("bad-value", f"protocol {self.protocol} is not later than {context.chain.protocol}")

    def carry_out(self, context: Context, proposal: int) -> None:
        """Set the height of the upgrade, in the place of one that was set before."""
        self.check(context)
        context.change_chain(upgrade_to=self.protocol if self.height else 0, upgrade_at=self.height)
        context.emit(UpgradeSet(self.protocol, self.height, proposal))


def _spendable(context: Context) -> int:
    """Return what proposals may spend in one term, in units."""
    return context.chain.supply * context.parameters.spending // MILLION


def _changed(context: Context, values: dict[str, Any]) -> Parameters:
    chain = context.chain
    for name in ("voting_seconds", "delay_seconds", "term_length"):
        floor = getattr(chain, name)
        value = values.get(name, floor)
        if type(value) is int and value < floor:
            raise Refused("bad-value", f"{name} is {value}: it must be at least {floor}, the genesis's")
    return check_parameters({**asdict(context.parameters), **values}, chain.supply, chain.validators)


def _set(context: Context, values: dict[str, Any]) -> None:
    before, after = asdict(context.parameters), asdict(_changed(context, values))
    context.draft.put(replace(context.parameters, **after))
    for name in sorted(values):
        if before[name] != after[name]:
            context.emit(ParameterSet(name, before[name], after[name]))
