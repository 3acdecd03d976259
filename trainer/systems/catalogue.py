"""The systems by name, with what was published of each."""

from collections.abc import Callable
from dataclasses import dataclass

from trainer.errors import TrainerError
from trainer.network import Network
from trainer.systems.alexnet import build_alexnet
from trainer.systems.combination import MEMBERS, build_combination
from trainer.systems.csdcnn import build_csdcnn
from trainer.systems.dcnn import build_dcnn14
from trainer.systems.densenet import build_densenet201
from trainer.systems.googlenet import build_googlenet
from trainer.systems.hybrid import build_hybrid
from trainer.systems.lenet import build_lenet5
from trainer.systems.mobilenet import build_mobilenetv2
from trainer.systems.reshist import build_reshist152
from trainer.systems.resnet import build_resnet50, build_resnet152
from trainer.systems.vgg import build_vgg19
from trainer.systems.weights import RANDOM, WeightSource

NOT_KNOWN = "not known"


@dataclass(frozen=True, kw_only=True)
class Published:
    """An accuracy that was published on BreakHis; none can be compared with those measured here.

    Attributes:
        accuracy: in percent, as published; NOT_KNOWN where this project knows no number of this very network.
        brief: the protocol in two words, for a table's cell.
        protocol: how it was found, as far as known.
        source: the publication.
        looked_up: whether the number was read in the publication, its abstract or a survey while this table was
            written. False: cited from memory, check it before you quote it.
    """

    accuracy: str = NOT_KNOWN
    brief: str = ""
    protocol: str = ""
    source: str = ""
    looked_up: bool = False


@dataclass(frozen=True, kw_only=True)
class SystemEntry:
    """One system.

    Attributes:
        name: on the command line.
        title: in tables.
        imagenet: the networks whose ImageNet weights it can start from, by their names in trainer.systems.weights.
    """

    name: str
    title: str
    build: Callable[[WeightSource], Network]
    imagenet: tuple[str, ...]
    published: Published

    def start(self, source: WeightSource) -> str:
        """Say in words what the system starts from."""
        starts = {name: source.describe(name) for name in self.imagenet}
        if set(starts.values()) <= {RANDOM}:
            return RANDOM
        return starts[self.name] if self.name in starts else "; ".join(f"{n}: {s}" for n, s in starts.items())

    def digest(self, source: WeightSource) -> str:
        """Identify the weights that the system starts from."""
        return " ".join(source.digest(name) for name in self.imagenet) or RANDOM


def _small(build: Callable[[], Network]) -> Callable[[WeightSource], Network]:
    return lambda source: build()


_ENTRIES = (
    SystemEntry(
        name="resnet50",
        title="ResNet-50 (histobatch)",
        build=build_resnet50,
        imagenet=("resnet50",),
        published=Published(
            accuracy="99.1",
            brief="shared patients",
            protocol="two classes; shares patients between train (100X, 200X, 400X) and test (40X)",
            source="the paper that histobatch implements; listed with 99.10 in the survey PMC10620373, table 1",
            looked_up=True,
        ),
    ),
    SystemEntry(
        name="resnet152",
        title="ResNet-152",
        build=build_resnet152,
        imagenet=("resnet152",),
        published=Published(
            accuracy="98.7",
            brief="split not known",
            protocol="two classes; whether patients are apart is not known here",
            source="Motlagh et al. 2018, Breast Cancer Histopathological Image Classification (ResNet V1 152)",
            looked_up=True,
        ),
    ),
    SystemEntry(
        name="densenet201",
        title="DenseNet201",
        build=build_densenet201,
        imagenet=("densenet201",),
        published=Published(),
    ),
    SystemEntry(name="vgg19", title="VGG19", build=build_vgg19, imagenet=("vgg19",), published=Published()),
    SystemEntry(
        name="mobilenetv2",
        title="MobileNetV2",
        build=build_mobilenetv2,
        imagenet=("mobilenetv2",),
        published=Published(),
    ),
    SystemEntry(
        name="combination",
        title="DenseNet201 + VGG19 + MobileNetV2",
        build=build_combination,
        imagenet=MEMBERS,
        published=Published(
            accuracy="98.13",
            brief="split not known",
            protocol="two classes; whether patients are apart is not known here",
            source="Kassani et al. 2019, CASCON, arXiv 1909.11870",
            looked_up=True,
        ),
    ),
    SystemEntry(
        name="googlenet", title="GoogLeNet", build=build_googlenet, imagenet=("googlenet",), published=Published()
    ),
    SystemEntry(
        name="alexnet",
        title="AlexNet",
        build=build_alexnet,
        imagenet=("alexnet",),
        published=Published(
            accuracy="85.6 / 83.5 / 83.1 / 80.8",
            brief="patients apart",
            protocol="two classes, patients apart, at 40 / 100 / 200 / 400X; several networks fused over patches",
            source="Spanhol et al. 2016, IJCNN (a variant of AlexNet)",
        ),
    ),
    SystemEntry(name="lenet5", title="LeNet-5", build=_small(build_lenet5), imagenet=(), published=Published()),
    SystemEntry(
        name="dcnn14", title="DCNN-14 (stand-in)", build=_small(build_dcnn14), imagenet=(), published=Published()
    ),
    SystemEntry(
        name="csdcnn",
        title="CSDCNN (small, after)",
        build=_small(build_csdcnn),
        imagenet=(),
        published=Published(
            accuracy="93.2",
            brief="eight classes",
            protocol="eight classes, mean of the magnifications; whether patients are apart is not known here",
            source="Han et al. 2017, Scientific Reports 7, 4172",
            looked_up=True,
        ),
    ),
    SystemEntry(
        name="hybrid", title="Hybrid CNN (small, after)", build=_small(build_hybrid), imagenet=(), published=Published()
    ),
    SystemEntry(
        name="reshist152",
        title="ResHist-152 (narrow, after)",
        build=_small(build_reshist152),
        imagenet=(),
        published=Published(
            accuracy="84.34, augmented 92.52",
            brief="split not known",
            protocol="two classes; whether patients are apart is not known here",
            source="Gour et al. 2020, Int. J. of Imaging Systems and Technology 30, 621",
        ),
    ),
)
SYSTEMS = {entry.name: entry for entry in _ENTRIES}


def chosen_systems(names: tuple[str, ...]) -> tuple[SystemEntry, ...]:
    """Return the named systems in the table's order; all where none is named.

    Raises:
        TrainerError: naming the systems there are.
    """
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        raise TrainerError(f"no system {unknown[0]!r}: choose among {', '.join(SYSTEMS)}")
    return tuple(entry for entry in _ENTRIES if not names or entry.name in names)
