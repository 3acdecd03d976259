"""What a comparison asks for, put into words, and whether a table that is there asks for the same."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from trainer.compare_table import COMPARISON, Comparison, Protocol, read_comparison
from trainer.dataset.images import NAME, DataSet
from trainer.dataset.protocols import FoldPlan, folds_for
from trainer.dataset.splits import Fold
from trainer.decision import USUAL_THRESHOLD
from trainer.device import choose_device, computes_in_bf16
from trainer.errors import RunError
from trainer.recipe import Recipe
from trainer.systems.catalogue import SystemEntry
from trainer.systems.cost import SPEED_BATCH
from trainer.systems.weights import WeightSource


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """What to compare, and how.

    Attributes:
        recipe: the same for all systems. Patients are kept apart whatever split it names.
        systems: to train, in this order.
        source: the ImageNet weights that systems start from.
        folds: patient-disjoint folds to deal the images into; the official ones for the full set and five.
        judged_folds: how many of them are judged, each by a network that was trained on its other patients.
        seed: of the folds, the random weights, the batches and the augmentation.
        device: trains, judges, and is measured.
    """

    recipe: Recipe
    systems: tuple[SystemEntry, ...]
    source: WeightSource
    folds: int = 5
    judged_folds: int = 5
    seed: int = 0
    device: torch.device = field(default_factory=choose_device)


@dataclass(frozen=True)
class Terms:
    """The folds that are judged, and what a table says of its protocol, for people and for the next run."""

    judged: tuple[Fold, ...]
    protocol: Protocol
    text: str


def settle(data: DataSet, plan: ComparisonPlan) -> Terms:
    """Deal the folds and put the protocol into words.

    Raises:
        RunError: more folds to judge than there are.
        DatasetError: too few patients for the folds.
    """
    if not 1 <= plan.judged_folds <= plan.folds:
        raise RunError(f"{plan.judged_folds} judged folds of {plan.folds}: judge at least 1, at most all")
    folds = folds_for(data, plan.folds, plan.seed)
    judged = folds.folds[: plan.judged_folds]
    return Terms(judged, _protocol(data, plan), _text(data, plan, folds))


def continued(plan: ComparisonPlan, terms: Terms, folder: Path) -> Comparison:
    """Return the comparison that the folder holds, or an empty one.

    Raises:
        RunError: it has another protocol, or one of the plan's systems from other weights.
    """
    path = folder / COMPARISON
    if not path.exists():
        return Comparison(protocol=terms.protocol, protocol_text=terms.text)
    earlier = read_comparison(path)
    difference = earlier.protocol.difference(terms.protocol)
    if difference is not None:
        raise RunError(
            f"{path} holds a comparison under another protocol ({difference}): one table has one protocol, so name "
            "another folder with --out, or ask for the same protocol to continue"
        )
    for entry in plan.systems:
        row = earlier.row(entry.name)
        if row is not None and row.start_digest != entry.digest(plan.source):
            raise RunError(
                f"{path} has {entry.name} from another start ({row.start} there, {entry.start(plan.source)} now): "
                "name another folder with --out"
            )
    return earlier


def describe_device(device: torch.device) -> str:
    """Name what trains and is measured."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _protocol(data: DataSet, plan: ComparisonPlan) -> Protocol:
    return Protocol(
        fingerprint=data.fingerprint,
        images=len(data),
        patients=data.patient_count,
        recipe=json.loads(json.dumps(plan.recipe.describe())),  # as it will be read back: tuples become lists
        folds=plan.folds,
        judged_folds=plan.judged_folds,
        seed=plan.seed,
        threshold=USUAL_THRESHOLD,
        bf16=computes_in_bf16(plan.recipe, plan.device),
        device=describe_device(plan.device),
        torch=str(torch.__version__),
    )


def _text(data: DataSet, plan: ComparisonPlan, folds: FoldPlan) -> str:
    rows = np.unique(np.concatenate([fold.judged for fold in folds.folds[: plan.judged_folds]]))
    recipe = plan.recipe
    return (
        f"Every system had the same {len(data)} images ({data.patient_count} patients of {NAME}) at 144x96 and the "
        f"same folds with patients apart: {folds.description}. Of these, {plan.judged_folds} of {plan.folds} were "
        f"judged ({len(rows)} images of {len(set(data.patients[rows]))} patients, "
        f"{100 * data.labels[rows].mean():.1f} % of the images malignant), each by a network that saw no image of the "
        f"judged patients. Recipe '{recipe.name}' ({recipe.steps} steps of {recipe.batch} images), its loss and its "
        f"augmentation were the same, and the threshold was {USUAL_THRESHOLD}. {recipe.selection}. The recipe was "
        "made for ResNet-50 from ImageNet; no system was tuned on its own. From a random start all of a network "
        "learns, from ImageNet the stages that the recipe names, or as many of its last ones. The patient rate is the "
        "mean over patients of the share of their images that is right; intervals draw patients again. GMAC count the "
        f"convolutions and matrices of one image; images/s is inference in float32, {SPEED_BATCH} images a batch, on "
        f"{describe_device(plan.device)}."
    )
