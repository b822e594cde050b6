"""What can go wrong in a way that a person can mend.

PfMlflowError
├── BatchFailed         promptflow could not run the batch to its end
├── BadInput            a value that the user gave: a file, a column, a setting, a name
└── TrackingError       MLflow
    ├── TrackingRefused  said no for good, as to a deleted experiment
    │   └── TrackingForbidden  … to whoever asks with these credentials
    ├── ArtifactsFailed  takes runs, but not their files, or does not give these back
    └── TrackingDown     cannot be reached now
        └── RequestRejected  did not see this request: something before it did not let it pass
"""

from __future__ import annotations

__all__ = [
    "ArtifactsFailed",
    "BadInput",
    "BatchFailed",
    "PfMlflowError",
    "RequestRejected",
    "TrackingDown",
    "TrackingError",
    "TrackingForbidden",
    "TrackingRefused",
]


class PfMlflowError(Exception):
    """One clear sentence that names the value and the remedy."""


class BadInput(PfMlflowError):
    """A value that the user gave cannot be used."""


class BatchFailed(PfMlflowError):
    """promptflow could not run the batch to its end."""


class TrackingError(PfMlflowError):
    """MLflow did not take what was sent."""


class TrackingRefused(TrackingError):
    """MLflow said no for good; sending again does not help."""


class TrackingForbidden(TrackingRefused):
    """MLflow does not know, or does not allow, whoever asks."""


class ArtifactsFailed(TrackingError):
    """MLflow's store of files did not do what it was asked for; that of runs may well do."""

    def __init__(self, message: str, reason: str, may_pass: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.may_pass = may_pass


class TrackingDown(TrackingError):
    """MLflow cannot be reached now; sending again later may help, after the seconds that it asked for."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestRejected(TrackingDown):
    """Something before MLflow, such as a proxy, did not let a request pass, as one that is too large for it."""
