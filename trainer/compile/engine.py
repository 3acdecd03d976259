"""Compile a graph ahead of time, into a cache of engines that workers use."""

from dataclasses import dataclass

from worker.engines.build_progress import Listener, ignore
from worker.engines.cache import EngineCache, Provided
from worker.engines.driver import ask_driver
from worker.engines.flavours import find_flavour
from worker.engines.key import EXACT, USUAL_PROFILE, Compatibility, EngineKey, Profile
from worker.engines.provision import Wanted, provide_engine


@dataclass(frozen=True, kw_only=True)
class CompileOrder:
    """What is to be compiled for what.

    Attributes:
        graph: content of the ONNX file.
        target: name of a flavour.
    """

    graph: bytes
    target: str
    profile: Profile = USUAL_PROFILE
    compatibility: Compatibility = EXACT


def compile_engine(order: CompileOrder, cache: EngineCache, listener: Listener = ignore) -> tuple[EngineKey, Provided]:
    """Build the engine unless the cache holds it already.

    Raises:
        EngineError: it cannot be built here; says why.
    """
    wanted = Wanted(graph=order.graph, flavour=find_flavour(order.target), driver=ask_driver(), profile=order.profile)
    key = wanted.key(order.compatibility)
    return key, provide_engine(cache, wanted, key, listener)
