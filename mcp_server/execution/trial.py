"""What an objective sees of its trial."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import SupportsFloat

from mcp_server.types import JsonObject, shown

Ask = Callable[[int, float, float], bool]
"""Sends step, value and running value to whoever runs the trial, and comes back with whether to stop."""


Charge = Callable[[float], None]
"""Tells whoever runs the trial that it has cost so many US dollars more."""


class TrialPruned(Exception):  # noqa: N818 - the name that Optuna's users raise
    """An objective raises this to stop early, after `Trial.should_prune` said so."""


class Trial:
    """One trial, as the objective `f(trial) -> float | TrialResult` gets it.

    Attributes:
        number: The trial's number in its study, from 0.
        params: What the sampler chose.
        payload: What the study passes to each of its trials.

    >>> trial = Trial(0, {"x": 1.0}, {}, ask=lambda step, value, running: step >= 1)
    >>> trial.report(0.7, step=0)
    >>> trial.should_prune()
    False
    >>> trial.report(0.6, step=1)
    >>> trial.should_prune()
    True
    """

    def __init__(
        self,
        number: int,
        params: JsonObject,
        payload: JsonObject,
        *,
        ask: Ask,
        charge: Charge = lambda _: None,
        token_prices: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> None:
        self.number = number
        self.params = params
        self.payload = payload
        self._ask = ask
        self._charge = charge
        self._token_prices = token_prices
        self._steps: set[int] = set()
        self._prune = False

    def report(self, value: float, step: int, *, running: float | None = None) -> None:
        """Report an intermediate value, and wait until the pruner has judged it.

        A step counts once, as in Optuna: reporting it again changes nothing.

        Args:
            value: The value of this step alone: one epoch, one fold.
            step: From 0.
            running: What the trial would score if it ended now, when that is not `value` (the mean of folds so far).

        Raises:
            TypeError: If `value` is not a number or `step` is not a whole number.
            ValueError: If a value is not finite or `step` is negative.
        """
        step = operator.index(step)
        if step < 0:
            raise ValueError(f"reported step {step}, and steps start at 0")
        value = _finite(value, step)
        score = value if running is None else _finite(running, step)
        if step not in self._steps:
            self._steps.add(step)
            self._prune = self._ask(step, value, score)

    def charge(
        self, usd: float = 0.0, *, model: str | None = None, input_tokens: int = 0, output_tokens: int = 0
    ) -> float:
        """What was added to the cost of the trial, in US dollars, beside its processor and GPU time.

        It counts at once, also for a trial that is killed a moment later.

        Args:
            usd: An amount.
            model: Whose price, in the workspace's `costs.yaml`, the tokens have.
            input_tokens: Tokens that were sent.
            output_tokens: Tokens that came back.

        Raises:
            ValueError: If the model has no price, an amount is negative or not finite, or there are tokens of no model.

        >>> told = []
        >>> trial = Trial(0, {}, {}, ask=lambda *_: False, charge=told.append, token_prices={"small": [1e-6, 4e-6]})
        >>> trial.charge(model="small", input_tokens=1000, output_tokens=500)
        0.003
        >>> told
        [0.003]
        """
        tokens = (operator.index(input_tokens), operator.index(output_tokens))
        amount = float(usd)
        if model is not None:
            if model not in self._token_prices:
                raise ValueError(f"no price for tokens of {shown(model)!r}: add it to costs.yaml of the workspace")
            amount += sum(count * price for count, price in zip(tokens, self._token_prices[model], strict=True))
        elif any(tokens):
            raise ValueError("tokens need the name of their model")
        if not math.isfinite(amount) or amount < 0 or min(tokens) < 0:
            raise ValueError(f"a charge of ${amount} for {tokens[0]} and {tokens[1]} tokens")
        self._charge(amount)
        return amount

    def should_prune(self) -> bool:
        """Whether the last report looked so poor that the trial should raise `TrialPruned`."""
        return self._prune


def _finite(value: object, step: int) -> float:
    if isinstance(value, str | bytes) or not isinstance(value, SupportsFloat):
        raise TypeError(f"reported {shown(value, 40)} ({type(value).__name__}) at step {step} and not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"reported {number} at step {step}")
    return number
