"""MODEL_CARD.md, written from the manifest so that the two cannot differ."""

from core.bundle import DataSet, Manifest, Metrics
from trainer.dataset.published import FULL_IMAGES, FULL_PATIENTS
from trainer.evaluate import HEADLINE
from trainer.published import PATIENT_RATE, PATIENT_RATE_SOURCE
from trainer.recipe import SHARED_PATIENTS

_SHOWN = (*HEADLINE, "images", "patients")
_COUNTS = frozenset({"images", "patients"})
_RATE = "patient_recognition_rate"
_PICTURES = (
    ("roc.png", "ROC by image, with the band of 95 % of the draws of patients"),
    ("reliability.png", "Share of malignant images by stated probability, before and after the temperature"),
    ("confusion.png", "Confusion matrix"),
    ("patients.png", "Share of right images by patient"),
)


def model_card(manifest: Manifest) -> str:
    """Return the card as Markdown."""
    first, *others = manifest.metrics
    brand = f"**{SHARED_PATIENTS.upper()}.** " if first.shares_patients else ""
    magnified = [metrics for metrics in others if "magnification" in metrics.values]
    calibration = [metrics for metrics in others if "temperature" in metrics.values]
    graphs = [metrics for metrics in others if metrics not in magnified and metrics not in calibration]
    parts = [
        f"# {manifest.name} {manifest.version}",
        f"**{manifest.notice}**",
        "Classifies one field of a haematoxylin-eosin stained breast biopsy slide as benign or malignant. ResNet-50 "
        "from ImageNet, global pooling, FC 1024, ReLU, dropout 0.4, one sigmoid unit: the probability of malignancy.",
        *_intended_use(),
        *_input_and_decision(manifest),
        "## Trained on",
        _trained_on(manifest.dataset, magnified),
        "## How good it is",
        brand + _section(first),
        *([] if not magnified else ["### By magnification", brand + _magnifications(magnified)]),
        *([] if not calibration else ["### Calibration", brand + _calibration(calibration[0])]),
        *([] if not graphs else ["### Exported graphs", *[_section(metrics) for metrics in graphs]]),
        "The whole report, with curves, worst errors and Grad-CAM: [report/report.html](report/report.html).",
        *[f"![{alt}](report/{name})" for name, alt in _PICTURES],
        *_limits(manifest.dataset),
        "## Check it on your own images",
        f"`histobatch evaluate --bundle models/{manifest.name}-{manifest.version} --data FOLDER` judges the bundle on "
        "a folder of BreakHis images, and brands patients whom the model knows. The command that trained it stands "
        "in the report.",
        "## Licence",
        f"{manifest.licence}. {manifest.attribution}",
        f"Code: commit `{manifest.git_commit}`. {manifest.notice}",
    ]
    return "\n\n".join(parts) + "\n"


def _intended_use() -> list[str]:
    return [
        "## Intended use",
        "For research on, and teaching of, the classification of breast histology; as a reference that others compare "
        "with under the same protocol; and to try out the service around it. **Not** for diagnosis, triage, second "
        "opinions or any decision on a person, and not for slides of patients outside a study that watches it.",
    ]


def _input_and_decision(manifest: Manifest) -> list[str]:
    rule, geometry = manifest.decision, manifest.input
    return [
        "## Input and decision",
        f"RGB uint8 (N, {geometry.height}, {geometry.width}, 3), the whole field, made by `core.imaging` "
        f"({geometry.preprocessing}); normalisation is inside the graph. Probability >= {rule.threshold:.2f} is "
        f"malignant; from {rule.abstain_low:.3f} to {rule.abstain_high:.3f} the image is called uncertain and a "
        "person must look. Threshold and band were locked on out-of-fold predictions.",
    ]


def _trained_on(data: DataSet, magnified: list[Metrics]) -> str:
    part = f", a part of the {FULL_IMAGES:,} images of {FULL_PATIENTS} patients" if data.images < FULL_IMAGES else ""
    counts = ", ".join(
        f"{int(metrics.values['images'])} at {int(metrics.values['magnification'])}X" for metrics in magnified
    )
    judged = f" Judged images: {counts}." if counts else ""
    return (
        f"{data.images} images of {data.patients} patients of {data.name}{part}.{judged} Fingerprint "
        f"`{data.fingerprint}`. {data.attribution}"
    )


def _section(metrics: Metrics) -> str:
    names = [name for name in _SHOWN if name in metrics.values]
    names += [name for name in metrics.values if name not in names and not name.endswith(("_low", "_high"))]
    rows = "\n".join(f"| {name} | {_value(metrics, name)} |" for name in names)
    shared = "Judged images and training share patients. " if metrics.shares_patients else ""
    return f"{shared}{metrics.protocol}\n\n| metric | value |\n|---|---|\n{rows}"


def _magnifications(magnified: list[Metrics]) -> str:
    rows = [
        f"| {int(values['magnification'])}X | {int(values['images'])} | {int(values['patients'])} "
        f"| {values['accuracy']:.3f} | {_auc(values)} | {_value(metrics, _RATE)} "
        f"| {PATIENT_RATE[str(int(values['magnification']))]:.3f} |"
        for metrics in magnified
        for values in (metrics.values,)
    ]
    heading = "| magnification | images | patients | accuracy | AUC | patient recognition rate | published bar |"
    return (
        f"The same predictions. The bar: {PATIENT_RATE_SOURCE}.\n\n{heading}\n|---|---|---|---|---|---|---|\n"
        + "\n".join(rows)
    )


def _calibration(metrics: Metrics) -> str:
    values = metrics.values
    names = [name.removesuffix("_before") for name in values if name.endswith("_before")]
    rows = [
        f"| {name} | {values[f'{name}_before']:.3f} | "
        + (f"{values[f'{name}_after']:.3f} |" if f"{name}_after" in values else "too few patients to tell |")
        for name in names
    ]
    return (
        f"{metrics.protocol} Shipped temperature: {values['temperature']:.3f}.\n\n"
        "| measure | before | after |\n|---|---|---|\n" + "\n".join(rows)
    )


def _limits(data: DataSet) -> list[str]:
    return [
        "## Limits",
        f"- The numbers are estimates from {data.patients} patients of one laboratory; the intervals (95 %, patients "
        "drawn again) are wide. Other laboratories stain and scan differently: expect less there.\n"
        "- The published 99 % on BreakHis comes from splits that share patients between training and test. It cannot "
        "be compared with numbers of patients apart.\n"
        "- Probabilities are calibrated for classes that are equally frequent. Where malignant fields are rarer, they "
        "are too high. The magnification is not known to the network.\n"
        "- Not seen in training: normal tissue, other organs, other stains, artefacts, out-of-focus fields. They get "
        "a probability all the same.\n"
        "- The field is reduced to 144 x 96 pixels: single nuclei can hardly be seen.",
    ]


def _value(metrics: Metrics, name: str) -> str:
    value = metrics.values[name]
    if name in _COUNTS:
        return str(int(value))
    if f"{name}_low" not in metrics.values:
        return f"{value:.3f}"
    return f"{value:.3f} ({metrics.values[f'{name}_low']:.3f} to {metrics.values[f'{name}_high']:.3f})"


def _auc(values: dict[str, float]) -> str:
    return f"{values['auc']:.3f}" if "auc" in values else "one class only"
