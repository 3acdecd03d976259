"""MODEL_CARD.md, written from the manifest so that the two cannot differ."""

from core.bundle import Manifest, Metrics

_SHOWN = (
    "auc",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "f1",
    "patient_recognition_rate",
    "images",
    "patients",
)
_COUNTS = frozenset({"images", "patients"})


def model_card(manifest: Manifest) -> str:
    """Return the card as Markdown."""
    data, rule = manifest.dataset, manifest.decision
    geometry = manifest.input
    parts = [
        f"# {manifest.name} {manifest.version}",
        f"**{manifest.notice}**",
        "Classifies one field of a haematoxylin-eosin stained breast biopsy slide as benign or malignant. ResNet-50 "
        "from ImageNet, global pooling, FC 1024, ReLU, dropout 0.4, one sigmoid unit: the probability of malignancy.",
        "## Input and decision",
        f"RGB uint8 (N, {geometry.height}, {geometry.width}, 3), the whole field, made by `core.imaging` "
        f"({geometry.preprocessing}); normalisation is inside the graph. Probability >= {rule.threshold:.2f} is "
        f"malignant; from {rule.abstain_low:.3f} to {rule.abstain_high:.3f} the image is called uncertain and a "
        "person must look.",
        "## Trained on",
        f"{data.images} images of {data.patients} patients of {data.name}, a part of the 7,909 images of 82 patients, "
        f"mostly at 100X. Fingerprint `{data.fingerprint}`. {data.attribution}",
        "## How good it is",
        *[_section(metrics) for metrics in manifest.metrics],
        "![ROC, reliability and confusion](report/judgement.png)",
        "## What to keep in mind",
        "- The numbers are estimates from few patients; the intervals (95 %, patients drawn again) are wide. Other "
        "laboratories stain and scan differently: expect less there.\n"
        "- The published 99 % on BreakHis comes from splits that share patients between training and test. It cannot "
        "be compared with the numbers above.\n"
        "- The probability was not calibrated on further patients. The magnification is not known to the network.\n"
        "- Not seen in training: normal tissue, other organs, other stains, artefacts, out-of-focus fields. They get "
        "a probability all the same.",
        "## Licence",
        f"{manifest.licence}. {manifest.attribution}",
        f"Code: commit `{manifest.git_commit}`. {manifest.notice}",
    ]
    return "\n\n".join(parts) + "\n"


def _section(metrics: Metrics) -> str:
    names = [name for name in _SHOWN if name in metrics.values]
    names += [name for name in metrics.values if name not in names and not name.endswith(("_low", "_high"))]
    rows = "\n".join(f"| {name} | {_value(metrics, name)} |" for name in names)
    shared = "Judged images and training share patients. " if metrics.shares_patients else ""
    return f"{shared}{metrics.protocol}\n\n| metric | value |\n|---|---|\n{rows}"


def _value(metrics: Metrics, name: str) -> str:
    value = metrics.values[name]
    if name in _COUNTS:
        return str(int(value))
    if f"{name}_low" not in metrics.values:
        return f"{value:.3f}"
    return f"{value:.3f} ({metrics.values[f'{name}_low']:.3f} to {metrics.values[f'{name}_high']:.3f})"
