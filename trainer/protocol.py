"""How a run is judged: its folds, and the paragraph that says so."""

from trainer.dataset.images import NAME, DataSet
from trainer.dataset.protocols import FoldPlan, folds_for
from trainer.dataset.splits import Fold, magnification_split, shared_patients
from trainer.errors import DatasetError
from trainer.recipe import SHARED_PATIENTS, Recipe

USUAL_FOLDS = 5


def make_folds(data: DataSet, recipe: Recipe, count: int | None, seed: int) -> FoldPlan:
    """Return the folds that judge a recipe.

    Args:
        data: the images.
        recipe: names the kind of split.
        count: number of patient-disjoint folds; None takes the usual ones.
        seed: of the folds.

    Raises:
        DatasetError: too few patients, or patients are shared and the recipe's split does not say so.
    """
    if recipe.split == "patients_apart":
        plan = folds_for(data, count or USUAL_FOLDS, seed)
        require_named_sharing(data, recipe, plan.folds)
        return plan
    if count is not None:
        raise DatasetError(f"recipe {recipe.name!r} is judged on its one published split: leave --folds out")
    fold = magnification_split(data.names)
    description = (
        f"Trained on the {len(fold.train)} images at other magnifications, judged on the {len(fold.judged)} at 40X"
    )
    return FoldPlan(folds=(fold,), description=description, partition=False)


def require_named_sharing(data: DataSet, recipe: Recipe, folds: tuple[Fold, ...]) -> None:
    """Refuse folds that share patients, unless the recipe's split says so by name.

    Raises:
        DatasetError: naming a shared patient.
    """
    for number, fold in enumerate(folds):
        shared = shared_patients(fold, data.patients)
        if shared and not recipe.shares_patients:
            raise DatasetError(
                f"fold {number} {SHARED_PATIENTS} ({shared[0]}, ...), and recipe {recipe.name!r} does not ask for "
                "that: its split must say so by name"
            )


def describe_protocol(data: DataSet, recipe: Recipe, plan: FoldPlan, seed: int) -> str:
    """Say in one paragraph how the numbers were found."""
    magnifications = [name.magnification for name in data.names]
    counts = ", ".join(f"{magnifications.count(m)} at {m}X" for m in sorted(set(magnifications)))
    images = f"{len(data)} images ({data.patient_count} patients of {NAME}; {counts})"
    thresholds = (
        "Threshold and abstain band were set on these same out-of-fold probabilities, which slightly flatters the "
        "metrics that depend on them."
    )
    if recipe.shares_patients:
        return (
            f"This split {SHARED_PATIENTS}: the number says how well a patient who is already known is recognised "
            f"again, not how well a new one is. {plan.description}, of {images}, seed {seed}. "
            f"{_describe_steps(recipe)}, {_describe_stop(recipe)}. {recipe.selection}. {thresholds} "
            "The kept network is the judged one."
        )
    each = "each of the" if plan.partition else "the"
    judged = "was judged once, by a network" if plan.partition else "were judged by networks"
    return (
        f"Estimate by {len(plan.folds)}-fold cross-validation with patients apart, seed {seed}: {each} {images} "
        f"{judged} that saw no image of its patient. {plan.description}. "
        f"{_describe_steps(recipe)} was the same in all folds, {_describe_stop(recipe)}. {recipe.selection}. "
        f"{thresholds} "
        "The shipped network was then fitted on all patients with the same recipe and was itself not judged."
    )


def _describe_steps(recipe: Recipe) -> str:
    soup = f", the mean of {recipe.soup} fits" if recipe.soup > 1 else ""
    return f"Recipe '{recipe.name}' ({recipe.steps} steps of {recipe.batch} images{soup})"


def _describe_stop(recipe: Recipe) -> str:
    if recipe.early_stop is None:
        return "with no early stop and no selection of steps or weights on the judged fold"
    return "stopped by patients held back from its training part, never by the judged fold"
