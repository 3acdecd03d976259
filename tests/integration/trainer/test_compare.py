"""Systems compared under one protocol: what the table says was measured, once, and survives an interruption."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.bundle import NOTICE
from tests.conftest import SAMPLES
from trainer.compare import run_comparison
from trainer.compare_protocol import ComparisonPlan
from trainer.compare_table import MEASURED, Comparison, Row, read_comparison
from trainer.dataset.images import ATTRIBUTION, DataSet, load_dataset
from trainer.errors import RunError, WeightsError
from trainer.evaluate import measure
from trainer.fit import StepReport
from trainer.network import Network
from trainer.predictions import read_predictions
from trainer.recipe import RECIPES
from trainer.systems.catalogue import SystemEntry, chosen_systems
from trainer.systems.cost import gmac_of, parameters_of
from trainer.systems.hybrid import build_hybrid
from trainer.systems.lenet import build_lenet5
from trainer.systems.weights import RANDOM, WeightSource

pytestmark = pytest.mark.trainer

RECIPE = replace(RECIPES["smoke"].with_steps(2), batch=4, precision="fp32")
TABLES = ("compare.csv", "compare.md", "compare.png")


class Witness:
    """Remembers what it is told; stops the comparison when a named system has its row."""

    def __init__(self, stop_after: str = "") -> None:
        self.steps: list[str] = []
        self.rows: list[tuple[str, bool]] = []
        self._stop_after = stop_after

    def step(self, entry: SystemEntry, report: StepReport) -> None:
        self.steps.append(entry.name)

    def finished(self, entry: SystemEntry, row: Row, *, before: bool) -> None:
        self.rows.append((entry.name, before))
        if entry.name == self._stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data() -> DataSet:
    """The twelve samples of the repository."""
    return load_dataset(SAMPLES)


def _plan(*names: str, source: WeightSource | None = None, **changes: object) -> ComparisonPlan:
    plan = ComparisonPlan(
        recipe=RECIPE,
        systems=chosen_systems(names),
        source=source or WeightSource(),
        judged_folds=2,
        device=torch.device("cpu"),
    )
    return replace(plan, **changes)


@pytest.fixture(scope="module")
def finished(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, Witness]:
    """A comparison of two light systems."""
    folder, witness = tmp_path_factory.mktemp("compared") / "new" / "folder", Witness()
    return folder, run_comparison(data, _plan("lenet5", "hybrid"), folder, witness), witness


def test_the_table_holds_what_was_measured(finished: tuple[Path, Comparison, Witness]) -> None:
    """Every metric of a row can be computed again from the probabilities beside the table."""
    folder, comparison, witness = finished
    assert [row.system for row in comparison.systems] == ["lenet5", "hybrid"]
    for row in comparison.systems:
        judged = read_predictions(folder / f"oof-{row.system}.csv")
        again = measure(judged.labels, judged.probabilities, judged.patients, 0.5)
        for name in ("accuracy", "balanced_accuracy", "auc", "patient_recognition_rate"):
            assert getattr(row, name) == pytest.approx(again[name])
        assert (row.outcome, row.start) == (MEASURED, RANDOM)
        assert row.images_per_s > 0
    assert witness.steps == 4 * ["lenet5"] + 4 * ["hybrid"]


def test_the_cost_is_that_of_the_network_that_was_trained(data: DataSet, tmp_path: Path) -> None:
    """A start may decide the network, as the stride of ResNet-50's weights does: its cost counts, not another's."""

    def build(source: WeightSource) -> Network:
        return build_hybrid() if source.hub else build_lenet5()

    entry = replace(chosen_systems(("lenet5",))[0], build=build)
    plan = _plan("lenet5", source=WeightSource(hub=True), systems=(entry,), judged_folds=1)
    row = run_comparison(data, plan, tmp_path, Witness()).systems[0]
    assert (row.parameters, row.gmac) == (parameters_of(build_hybrid()), gmac_of(build_hybrid()))


def test_every_system_judges_the_same_images_with_patients_apart(
    finished: tuple[Path, Comparison, Witness], data: DataSet
) -> None:
    """The judged rows are equal, each fold's patients are its own, and some images are kept for training only."""
    folder, comparison, _ = finished
    first, second = (read_predictions(folder / f"oof-{row.system}.csv") for row in comparison.systems)
    assert first.files.tolist() == second.files.tolist()
    assert first.folds.tolist() == second.folds.tolist()
    patients = [set(first.patients[first.folds == fold]) for fold in (0, 1)]
    assert not patients[0] & patients[1]
    assert len(first) < len(data)
    assert f"{len(first)} images of {len(patients[0] | patients[1])} patients" in comparison.protocol_text


def test_every_file_says_what_it_is_not_for(finished: tuple[Path, Comparison, Witness]) -> None:
    """Notice and protocol stand in the JSON, in each line of the CSV and in the Markdown, with the attribution."""
    folder, comparison, _ = finished
    assert read_comparison(folder / "compare.json") == comparison
    assert json.loads((folder / "compare.json").read_text())["notice"] == NOTICE
    with (folder / "compare.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["system"], row["notice"]) for row in rows] == [("lenet5", NOTICE), ("hybrid", NOTICE)]
    assert {row["protocol"] for row in rows} == {comparison.protocol_text}
    text = (folder / "compare.md").read_text()
    for part in (NOTICE, comparison.protocol_text, ATTRIBUTION, "LeNet-5", RANDOM):
        assert part in text
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob(".*"))


def test_an_interrupted_comparison_goes_on_with_the_next_system(
    finished: tuple[Path, Comparison, Witness], data: DataSet, tmp_path: Path
) -> None:
    """What was finished is not trained again, and the metrics are those of the run that nobody interrupted."""
    with pytest.raises(KeyboardInterrupt):
        run_comparison(data, _plan("lenet5", "hybrid"), tmp_path, Witness(stop_after="lenet5"))
    assert [row.system for row in read_comparison(tmp_path / "compare.json").systems] == ["lenet5"]
    assert not (tmp_path / "compare.md").exists()
    witness = Witness()
    comparison = run_comparison(data, _plan("lenet5", "hybrid"), tmp_path, witness)
    assert witness.rows == [("lenet5", True), ("hybrid", False)]
    assert set(witness.steps) == {"hybrid"}
    for name in ("oof-lenet5.csv", "oof-hybrid.csv"):
        assert (tmp_path / name).read_bytes() == (finished[0] / name).read_bytes()
    assert [row.auc for row in comparison.systems] == [row.auc for row in finished[1].systems]


def test_a_further_system_joins_the_table(data: DataSet, tmp_path: Path) -> None:
    """Asked for alone, it stands beside those that are there, in the catalogue's order."""
    run_comparison(data, _plan("hybrid"), tmp_path, Witness())
    comparison = run_comparison(data, _plan("lenet5"), tmp_path, Witness())
    assert [row.system for row in comparison.systems] == ["lenet5", "hybrid"]
    assert "Hybrid CNN" in (tmp_path / "compare.md").read_text()


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"judged_folds": 3}, "judged_folds: 2 there, 3 now"),
        ({"recipe": replace(RECIPE, batch=5)}, "the recipe's batch: 4 there, 5 now"),
    ],
)
def test_one_table_has_one_protocol(
    changes: dict[str, object], difference: str, finished: tuple[Path, Comparison, Witness], data: DataSet
) -> None:
    """Another protocol is refused with what differs and the fix; the table stays as it is."""
    before = (finished[0] / "compare.json").read_bytes()
    witness = Witness()
    with pytest.raises(RunError, match=rf"{difference}.*--out"):
        run_comparison(data, _plan("dcnn14", **changes), finished[0], witness)
    assert not witness.steps
    assert (finished[0] / "compare.json").read_bytes() == before


def test_a_system_from_another_start_is_refused(
    finished: tuple[Path, Comparison, Witness], data: DataSet, tmp_path: Path
) -> None:
    """Its row would belong to other weights than those that are asked for now."""
    run_comparison(data, _plan("mobilenetv2", judged_folds=1), tmp_path, Witness())
    with pytest.raises(RunError, match=r"mobilenetv2 from another start \(random start there, ImageNet"):
        run_comparison(data, _plan("mobilenetv2", source=WeightSource(hub=True), judged_folds=1), tmp_path, Witness())


def test_unusable_weights_are_named_before_anything_is_trained(data: DataSet, tmp_path: Path) -> None:
    """The bad file belongs to the last system, and the first has not begun."""
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    source, witness = WeightSource({"mobilenetv2": tmp_path / "bad.safetensors"}), Witness()
    plan = _plan("lenet5", "mobilenetv2", source=source)
    plan = replace(plan, systems=plan.systems[::-1])
    with pytest.raises(WeightsError, match=r"bad\.safetensors"):
        run_comparison(data, plan, tmp_path / "out", witness)
    assert not witness.steps
    assert not (tmp_path / "out").exists()


def test_a_system_that_diverges_says_so_in_its_row(data: DataSet, tmp_path: Path) -> None:
    """The others still get theirs, and a diverged one is not tried again."""
    recipe = replace(RECIPE, learning_rate=1e37, head_learning_rate=1e37, warmup_steps=0, clip_norm=None)
    comparison = run_comparison(data, _plan("lenet5", "hybrid", recipe=recipe), tmp_path, Witness())
    lenet = comparison.row("lenet5")
    assert lenet is not None
    assert "diverged: the loss is" in lenet.outcome
    assert (lenet.accuracy, lenet.auc) == (None, None)
    assert lenet.parameters > 0
    assert comparison.row("hybrid") is not None
    assert "diverged" in (tmp_path / "compare.md").read_text()
    assert all((tmp_path / name).exists() for name in TABLES)
    witness = Witness()
    run_comparison(data, _plan("lenet5", recipe=recipe), tmp_path, witness)
    assert witness.rows == [("lenet5", True)]


def test_a_recipe_that_shares_patients_is_still_compared_with_patients_apart(data: DataSet, tmp_path: Path) -> None:
    """One table, one way to split: the recipe gives loss, optimiser and steps."""
    recipe = replace(RECIPES["paper"].with_steps(1), batch=4)
    run_comparison(data, _plan("lenet5", recipe=recipe), tmp_path, Witness())
    judged = read_predictions(tmp_path / "oof-lenet5.csv")
    assert not set(judged.patients[judged.folds == 0]) & set(judged.patients[judged.folds == 1])
    assert set(judged.magnifications) != {40}


@pytest.mark.parametrize("content", [b"{}", b"\xff\xfe", b"[1"])
def test_a_damaged_table_is_named(content: bytes, data: DataSet, tmp_path: Path) -> None:
    """It is neither overwritten nor taken for an empty one."""
    (tmp_path / "compare.json").write_bytes(content)
    with pytest.raises(RunError, match=r"compare\.json is malformed.*--out"):
        run_comparison(data, _plan("lenet5"), tmp_path, Witness())
    assert (tmp_path / "compare.json").read_bytes() == content


def test_a_folder_that_cannot_be_made_is_named(data: DataSet, tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file.*cannot be written"):
        run_comparison(data, _plan("lenet5"), tmp_path / "file", Witness())


def test_more_folds_than_there_are_cannot_be_judged(data: DataSet, tmp_path: Path) -> None:
    """The message has both numbers."""
    with pytest.raises(RunError, match="6 judged folds of 5"):
        run_comparison(data, _plan("lenet5", judged_folds=6), tmp_path, Witness())
