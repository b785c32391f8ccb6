"""KEDA's objects, as far as our manifests use them: no package index here ships the schemas of its definitions.

Written by KEDA's documentation of ScaledObject, of TriggerAuthentication and of the two scalers. Every other key is
refused, so that a misspelt one is found. A scaler's metadata are texts, also where they are numbers.
"""

from __future__ import annotations

from typing import Any

_NAME = {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"}
_COUNT = {"type": "integer", "minimum": 0}
_POSITIVE = {"type": "integer", "minimum": 1}
_NUMBER = {"type": "string", "pattern": r"^\d+(\.\d+)?$"}
_BOOLEAN = {"enum": ["true", "false"]}


def _table(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


_METADATA = _table({"name": _NAME}, {"labels": {"type": "object"}, "annotations": {"type": "object"}})

_POLICY = _table(
    {"type": {"enum": ["Pods", "Percent"]}, "value": _POSITIVE, "periodSeconds": {**_POSITIVE, "maximum": 1_800}}
)
_DIRECTION = _table(
    {},
    {
        "stabilizationWindowSeconds": {**_COUNT, "maximum": 3_600},
        "selectPolicy": {"enum": ["Max", "Min", "Disabled"]},
        "policies": {"type": "array", "items": _POLICY, "minItems": 1},
    },
)
_ADVANCED = _table(
    {},
    {
        "restoreToOriginalReplicaCount": {"type": "boolean"},
        "horizontalPodAutoscalerConfig": _table(
            {}, {"name": _NAME, "behavior": _table({}, {"scaleUp": _DIRECTION, "scaleDown": _DIRECTION})}
        ),
    },
)

_POSTGRESQL = _table(
    {"query": {"type": "string", "minLength": 1}, "targetQueryValue": _NUMBER},
    {
        "connectionFromEnv": {"type": "string"},
        "host": {"type": "string"},
        "port": _NUMBER,
        "userName": {"type": "string"},
        "passwordFromEnv": {"type": "string"},
        "dbName": {"type": "string"},
        "sslmode": {"enum": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]},
        "activationTargetQueryValue": _NUMBER,
    },
)
_PROMETHEUS = _table(
    {
        "serverAddress": {"type": "string", "pattern": "^https?://"},
        "query": {"type": "string", "minLength": 1},
        "threshold": _NUMBER,
    },
    {
        "activationThreshold": _NUMBER,
        "namespace": {"type": "string"},
        "customHeaders": {"type": "string"},
        "ignoreNullValues": _BOOLEAN,
        "queryParameters": {"type": "string"},
        "unsafeSsl": _BOOLEAN,
        "authModes": {"type": "string"},
    },
)


def _trigger(type_: str, metadata: dict[str, Any]) -> dict[str, Any]:
    reference = _table({"name": _NAME}, {"kind": {"enum": ["TriggerAuthentication", "ClusterTriggerAuthentication"]}})
    return _table(
        {"type": {"const": type_}, "metadata": metadata},
        {
            "name": _NAME,
            "useCachedMetrics": {"type": "boolean"},
            "authenticationRef": reference,
            # Not `Value`: a fallback needs an average.
            "metricType": {"const": "AverageValue"},
        },
    )


_SCALED_OBJECT = _table(
    {
        "apiVersion": {"const": "keda.sh/v1alpha1"},
        "kind": {"const": "ScaledObject"},
        "metadata": _METADATA,
        "spec": _table(
            {
                "scaleTargetRef": _table(
                    {"name": _NAME},
                    {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "envSourceContainerName": _NAME,
                    },
                ),
                "triggers": {
                    "type": "array",
                    "items": {"anyOf": [_trigger("postgresql", _POSTGRESQL), _trigger("prometheus", _PROMETHEUS)]},
                    "minItems": 1,
                },
            },
            {
                "pollingInterval": _POSITIVE,
                "cooldownPeriod": _COUNT,
                "initialCooldownPeriod": _COUNT,
                "idleReplicaCount": {"const": 0},
                "minReplicaCount": _COUNT,
                "maxReplicaCount": _POSITIVE,
                "fallback": _table({"failureThreshold": _COUNT, "replicas": _COUNT}),
                "advanced": _ADVANCED,
            },
        ),
    }
)

_TRIGGER_AUTHENTICATION = _table(
    {
        "apiVersion": {"const": "keda.sh/v1alpha1"},
        "kind": {"const": "TriggerAuthentication"},
        "metadata": _METADATA,
        "spec": _table(
            {
                "secretTargetRef": {
                    "type": "array",
                    "items": _table({"parameter": {"type": "string"}, "name": _NAME, "key": {"type": "string"}}),
                    "minItems": 1,
                }
            }
        ),
    }
)

SCHEMAS: dict[str, dict[str, Any]] = {
    "ScaledObject": _SCALED_OBJECT,
    "TriggerAuthentication": _TRIGGER_AUTHENTICATION,
}
