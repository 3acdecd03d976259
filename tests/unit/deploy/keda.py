"""What KEDA 2.17's documentation lets a ScaledObject with a Prometheus trigger hold; anything else is a mistake."""

from typing import Any


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_WHOLE = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string", "minLength": 1}
# Numbers of a trigger are text.
_NUMBER = {"type": "string", "pattern": r"^\d+(\.\d+)?$"}
_TRUTH = {"enum": ["true", "false"]}
_POLICY = _object(
    ["type", "value", "periodSeconds"], type={"enum": ["Pods", "Percent"]}, value=_WHOLE, periodSeconds=_WHOLE
)
_RULES = _object(
    [],
    stabilizationWindowSeconds=_WHOLE | {"maximum": 3600},
    selectPolicy={"enum": ["Max", "Min", "Disabled"]},
    policies={"type": "array", "items": _POLICY, "minItems": 1},
)
_TRIGGER = _object(
    ["type", "metadata"],
    type={"const": "prometheus"},
    name=_TEXT,
    metricType={"enum": ["AverageValue", "Value"]},
    metadata=_object(
        ["serverAddress", "query", "threshold"],
        serverAddress={"type": "string", "pattern": "^https?://"},
        query=_TEXT,
        threshold=_NUMBER,
        activationThreshold=_NUMBER,
        ignoreNullValues=_TRUTH,
        unsafeSsl=_TRUTH,
        authModes=_TEXT,
    ),
    authenticationRef=_object(
        ["name"], name=_TEXT, kind={"enum": ["TriggerAuthentication", "ClusterTriggerAuthentication"]}
    ),
)
_BEHAVIOURS = ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]

SCALED_OBJECT: dict[str, Any] = _object(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "keda.sh/v1alpha1"},
    kind={"const": "ScaledObject"},
    metadata=_object(["name", "namespace"], name=_TEXT, namespace=_TEXT, labels={"type": "object"}),
    spec=_object(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=_object(["name"], apiVersion=_TEXT, kind=_TEXT, name=_TEXT, envSourceContainerName=_TEXT),
        pollingInterval=_WHOLE,
        cooldownPeriod=_WHOLE,
        minReplicaCount=_WHOLE,
        maxReplicaCount=_WHOLE,
        fallback=_object(
            ["failureThreshold", "replicas"], failureThreshold=_WHOLE, replicas=_WHOLE, behavior={"enum": _BEHAVIOURS}
        ),
        advanced=_object(
            [],
            restoreToOriginalReplicaCount={"type": "boolean"},
            horizontalPodAutoscalerConfig=_object(
                [], name=_TEXT, behavior=_object([], scaleUp=_RULES, scaleDown=_RULES)
            ),
        ),
        triggers={"type": "array", "items": _TRIGGER, "minItems": 1},
    ),
)
