"""The commands that make a run's numbers again."""

import shlex

from trainer.recipe import RECIPES
from trainer.run import RunConfig

DATA, RUN = "PATH/TO/BREAKHIS", "RUN"


def reproduction_commands(config: RunConfig) -> list[str]:
    """Return the commands, from the code's commit to the report, without paths of the machine that trained."""
    commands = [] if config.git_commit == "unknown" else [f"git checkout {config.git_commit}"]
    return [
        *commands,
        _train(config),
        f"histobatch evaluate {RUN} --data {DATA}",
        f"histobatch report {RUN} --data {DATA}",
    ]


def _train(config: RunConfig) -> str:
    recipe = config.recipe
    name = str(recipe["name"])
    words = ["histobatch", "train", DATA, "--out", RUN, "--recipe", name]
    if config.from_scratch:
        words.append("--from-scratch")
    elif config.weights_sha256:
        words += ["--weights", config.weights.split(" (", maxsplit=1)[0]]
    if not config.shares_patients:  # the paper's protocol has one split, and takes no number
        words += ["--folds", str(config.folds)]
    words += ["--seed", str(config.seed)]
    usual = RECIPES.get(name)
    steps = steps_of(recipe)
    if usual is None or usual.steps != steps:
        words += ["--steps", str(steps)]
    if usual is None or usual.batch != recipe["batch"]:
        words += ["--batch", str(recipe["batch"])]
    return shlex.join(words)


def steps_of(recipe: dict[str, object]) -> int:
    """Return the steps of one fit, from a recipe as config.json holds it."""
    if "steps" in recipe:  # runs of version 0.1
        return int(str(recipe["steps"]))
    return int(str(recipe["epochs"])) * int(str(recipe["steps_per_epoch"]))
