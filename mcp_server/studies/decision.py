"""What is asked and decided about the cost of a study."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mcp_server.errors import InvalidRequestError


class Approval(BaseModel):
    """What a study was expected to cost, what it might without being asked, and what was decided."""

    model_config = ConfigDict(frozen=True)

    expected_usd: float | None
    free_usd: float
    by: str | None = None
    at: float | None = None
    limit_usd: float | None = None
    declined: bool = False
    reason: str | None = None

    def sentence(self) -> str:
        """The approval in words.

        >>> Approval(expected_usd=46.0, free_usd=20.0).sentence()
        'It is expected to cost $46.00, and above $20.00 an admin has to approve it. Nothing runs yet.'
        """
        because = f": {self.reason}" if self.reason else ""
        if self.declined:
            return f"{self.by} declined it{because}."
        if self.by is not None:
            return f"{self.by} approved up to ${self.limit_usd:.2f}{because}."
        cost = (
            "Its cost is not known" if self.expected_usd is None else f"It is expected to cost ${self.expected_usd:.2f}"
        )
        return f"{cost}, and above ${self.free_usd:.2f} an admin has to approve it. Nothing runs yet."


class Decision(BaseModel):
    """What somebody decided: to approve up to a limit, or to decline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit_usd: float | None = Field(
        default=None, gt=0, le=1e9, allow_inf_nan=False, description="What it may cost in all; else what is expected."
    )
    decline: bool = Field(default=False, description="Decline it: the study ends.")
    reason: str | None = Field(default=None, max_length=300, description="Shown to its owner.")

    @classmethod
    def of(cls, **given: object) -> Self:
        """The decision of these parameters.

        Raises:
            InvalidRequestError: If one is wrong, or two contradict each other.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as exc:
            problems = "; ".join(error["msg"] for error in exc.errors(include_url=False))
            raise InvalidRequestError(f"{problems}.", hint="Give limit_usd, or decline.") from exc

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.decline and self.limit_usd is not None:
            raise ValueError("limit_usd does nothing when a study is declined")
        return self
