"""The shape of accounts.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictInt, StrictStr

from router.policy.schema.kinds import DIGEST, Name, Reference, Shape
from router.policy.schema.money import BudgetShape
from router.policy.schema.targets import LimitsShape


class AccountShape(Shape):
    """Who pays."""

    keys: Annotated[list[Annotated[StrictStr, Field(pattern=DIGEST)]], Field(min_length=1)] = Field(
        description="SHA-256 of each key, as `farthing keys new` prints it; never a key itself."
    )
    budget: BudgetShape = Field(BudgetShape(), description="What this account may spend.")
    limits: LimitsShape = Field(LimitsShape(), description="How fast it may call.")
    tasks: Annotated[list[Reference], Field(min_length=1)] | None = Field(
        None, description="The tasks it may use. Default: all."
    )


class AccountsFile(Shape):
    """accounts.yaml: who may call."""

    version: StrictInt = Field(description="Of this format: 1.")
    budget: BudgetShape = Field(BudgetShape(), description="Bounds everything together.")
    accounts: dict[Name, AccountShape] = Field({}, description="With none, the proxy is open to this machine only.")
