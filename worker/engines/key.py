"""What an engine file was made from, with and for: only work with an equal key may use it."""

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FlavourName = Literal["tensorrt", "tensorrt-rtx"]
# Of engines that run on every GPU that their flavour supports, or that care for no driver.
ANY = "any"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Profile(_Frozen):
    """How many images a call may hold: one up to max_batch, tuned for opt_batch."""

    opt_batch: int = Field(128, ge=1, le=4096)
    max_batch: int = Field(256, ge=1, le=4096)

    @model_validator(mode="after")
    def _ordered(self) -> "Profile":
        if self.opt_batch > self.max_batch:
            raise ValueError("opt_batch must not be larger than max_batch")
        return self


class Compatibility(_Frozen):
    """What a TensorRT engine runs on beyond the GPU and the version that it was built with; costs speed.

    Attributes:
        hardware: every GPU of compute capability 8.0 and later.
        version: later versions of TensorRT.
    """

    hardware: bool = False
    version: bool = False


USUAL_PROFILE = Profile()
EXACT = Compatibility()


class EngineKey(_Frozen):
    """Tell one engine from all others.

    Attributes:
        onnx_sha256: of the graph.
        flavour, version: of the library that built the engine; an engine of another version does not load.
        gpu: compute capability and name, such as "sm_90 NVIDIA H200"; a slice of a GPU (MIG) has a name of its own.
        driver: version of the GPU's driver.
        precision: of the graph's body.
    """

    onnx_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    flavour: FlavourName
    version: str
    gpu: str
    driver: str
    precision: Literal["fp16"] = "fp16"
    profile: Profile
    compatibility: Compatibility = EXACT

    @property
    def name(self) -> str:
        """The name of the entry in the cache."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return f"{self.flavour}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def timing_name(self) -> str:
        """The name of what the builder learnt of kernels' speed: good for every graph on one GPU with one version."""
        text = json.dumps([self.flavour, self.version, self.gpu, self.driver])
        return f"timing-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
