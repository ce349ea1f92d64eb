"""The part of SARIF 2.1.0 that the gate writes, as a JSON schema of its own: exact properties, types and value lists.

Written from the standard (OASIS, 27 March 2020), sections 3.13 to 3.35; the published schema has 110 kB and accepts a
good deal more. Microsoft's validator (sarif-multitool) accepts the same documents without an error.
"""

from typing import Any


def record(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": sorted(required),
        "additionalProperties": False,
    }


def several(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


TEXT = {"type": "string", "minLength": 1}
MESSAGE = record({"text": TEXT})
LEVEL = {"enum": ["none", "note", "warning", "error"]}

RULE = record(
    {
        "id": {"type": "string", "pattern": "^CU[0-9]{3}$"},
        "name": {"type": "string", "pattern": "^([A-Z][a-z]+)+$"},
        "shortDescription": MESSAGE,
        "fullDescription": MESSAGE,
        "help": MESSAGE,
        "defaultConfiguration": record({"level": LEVEL}),
        "properties": record({"tags": {"type": "array", "items": TEXT, "maxItems": 10}}),
    }
)

LOCATION = record(
    {
        "physicalLocation": record(
            {
                "artifactLocation": record({"uri": {"type": "string", "format": "uri-reference", "minLength": 1}}),
                "region": record({"startLine": {"type": "integer", "minimum": 1}}),
            }
        ),
        "logicalLocations": several(record({"name": TEXT, "kind": {"const": "claim"}})),
    }
)

RESULT = record(
    {
        "ruleId": RULE["properties"]["id"],
        "ruleIndex": {"type": "integer", "minimum": 0},
        "kind": {"enum": ["fail", "review"]},
        "message": MESSAGE,
        "locations": {"type": "array", "items": LOCATION, "minItems": 1, "maxItems": 1},
        "partialFingerprints": record({"cuCertRuleAndSubject/v1": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}),
    },
    {
        "level": LEVEL,
        "suppressions": several(
            record({"kind": {"enum": ["inSource", "external"]}, "status": {"const": "accepted"}, "justification": TEXT})
        ),
    },
) | {
    # 3.27.10: a level other than "none" belongs to the kind "fail" alone.
    "if": {"properties": {"kind": {"const": "review"}}},
    "then": {"not": {"required": ["level"]}},
}

SARIF = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **record(
        {
            "$schema": {"const": "https://json.schemastore.org/sarif-2.1.0.json"},
            "version": {"const": "2.1.0"},
            "runs": {
                "type": "array",
                "minItems": 1,
                "maxItems": 1,
                "items": record(
                    {
                        "tool": record(
                            {"driver": record({"name": TEXT, "rules": several(RULE)}, {"semanticVersion": TEXT})}
                        ),
                        "invocations": several(
                            record(
                                {"executionSuccessful": {"type": "boolean"}, "exitCode": {"type": "integer"}},
                                {"toolExecutionNotifications": several(record({"level": LEVEL, "message": MESSAGE}))},
                            )
                        ),
                        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                        "results": several(RESULT),
                    }
                ),
            },
        }
    ),
}
