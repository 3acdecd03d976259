"""What can go wrong while a model is trained, exported or verified."""

from core.errors import PermanentError


class TrainerError(PermanentError):
    """Root of the trainer's errors."""


class DatasetError(TrainerError):
    """The folder of training images is missing, empty, of one class only or too small to split."""


class WeightsError(TrainerError):
    """A file of weights cannot be read or belongs to another architecture."""


class DivergedError(TrainerError):
    """The loss is no longer a finite number, so the weights are worthless."""


class RunError(TrainerError):
    """A run folder is missing, incomplete or already holds another run."""


class StoppedError(TrainerError):
    """A signal ended the training; its state is saved and can be resumed."""


class VerificationError(TrainerError):
    """An exported graph disagrees with the network it was made from: nothing is published."""
