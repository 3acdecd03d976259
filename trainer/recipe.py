"""Named, frozen training recipes."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from trainer.errors import TrainerError


@dataclass(frozen=True, kw_only=True)
class AugmentationRecipe:
    """How much a training image is changed.

    Attributes:
        zoom: shortest and longest side of the crop as a share of the field. Serving sees the whole field (1.0),
            so crops stay near it: a nucleus twice as large is another magnification.
        turn_degrees: largest turn beside the flips and quarter turns.
        shift: largest shift of the crop's centre as a share of the field.
        stain: standard deviation of the factor on each stain's concentration (log scale).
        stain_offset: standard deviation of what is added to each stain's concentration (optical density).
        brightness, contrast: largest relative change.
    """

    zoom: tuple[float, float] = (0.6, 1.1)
    turn_degrees: float = 20.0
    shift: float = 0.15
    stain: float = 0.25
    stain_offset: float = 0.03
    brightness: float = 0.15
    contrast: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a fit beside the images, the weights it starts from and the seed.

    Attributes:
        selection: one sentence on how the recipe was settled; it stands in the protocol, because choices made on
            the judged images flatter the estimate.
        steps: number of batches.
        batch: images a batch.
        learning_rate: peak of the trained ResNet stages.
        head_learning_rate: peak of the new layers.
        weight_decay: AdamW's, on matrices and kernels only.
        warmup_steps: steps of linear rise before the cosine fall.
        label_smoothing: targets become smoothing/2 and 1 - smoothing/2.
        average_decay: decay a step of the exponential average of the weights, which is what is kept.
        trained_stages: stages of the body that are trained; the others keep their ImageNet weights.
        patient_power: within a class a patient is drawn with weight images ** power: 1 draws images evenly,
            0 patients. The classes are drawn evenly.
        precision: "auto" computes in bfloat16 where the processor has instructions for it.
    """

    name: str
    selection: str
    steps: int = 120
    batch: int = 32
    learning_rate: float = 1e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 12
    label_smoothing: float = 0.1
    average_decay: float = 0.97
    trained_stages: tuple[str, ...] = ("layer3", "layer4")
    patient_power: float = 0.5
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)

    def describe(self) -> dict[str, object]:
        """Return the recipe as plain values, for JSON."""
        return asdict(self)


RECIPES = {
    # The model that ships: patients apart, balanced, strong augmentation, the average of the weights.
    "patient": Recipe(
        name="patient",
        selection=(
            "It was settled after four variants (BatchNorm frozen or not, layer 4 alone, fewer and smaller steps) had "
            "been compared on the folds of seed 0, without a clear winner (AUC 0.717 to 0.731)"
        ),
    ),
    # Seconds on a CPU: shows that the whole path works, says nothing about breast tissue.
    "smoke": Recipe(
        name="smoke",
        selection="It was made to be fast and was never tuned",
        steps=4,
        batch=8,
        warmup_steps=1,
        average_decay=0.5,
        trained_stages=("layer4",),
    ),
}


def named_recipe(name: str) -> Recipe:
    """Find a recipe by name.

    Raises:
        TrainerError: naming the recipes there are.
    """
    if name not in RECIPES:
        raise TrainerError(f"no recipe {name!r}: choose one of {', '.join(sorted(RECIPES))}")
    return RECIPES[name]
