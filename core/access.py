"""Who asks, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    """See submissions, results, reports, pictures and metrics."""
    SUBMIT = "submit"
    """Hand in, cancel and retry; begin and end scans."""
    REVIEW = "review"
    """Sign off results."""
    ADMIN = "admin"
    """Everything, and alone: archives, lanes, models, the audit."""


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True)
class Principal:
    """Whoever asks, once it is known who that is.

    Attributes:
        name: stands in submissions, reviews and the audit.
        scopes: what they may do.
        key_id: the public part of the key that was shown; None for the settings' token, and where none is needed.
    """

    name: str
    scopes: frozenset[Scope]
    key_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the principal may do it; an admin may do everything."""
        return scope in self.scopes or Scope.ADMIN in self.scopes
