"""The compose file against the schema of compose files, as the module that docker compose reads them with has it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import yaml

from vecbench.services.engine import engines_folder

COMPOSE = Path(__file__).parents[2] / "docker" / "compose.yaml"


def test_the_compose_file_follows_the_schema() -> None:
    found = sorted(engines_folder().glob("compose-spec-*/compose-spec.json"))
    assert found, "the schema is missing: python tests/engines/get.py compose"
    schema = json.loads(found[-1].read_text("utf-8"))
    text = COMPOSE.read_text("utf-8")
    # It names draft 7 by an https address, which the library does not know by heart.
    validator = jsonschema.Draft7Validator(schema)
    validator.validate(yaml.safe_load(text))
    broken = yaml.safe_load(text)
    broken["services"]["qdrant"]["ports"] = {"6333": "6333"}
    errors = list(validator.iter_errors(broken))
    assert errors
