"""`farthing schema`: JSON Schema of the policy files, for editors."""

from __future__ import annotations

from router.cli.table import print_json


def schema() -> None:
    """Print the JSON Schema of the policy files, for editors.

    With `# yaml-language-server: $schema=schema.json` as a file's first line, editors check it while you type.

    Example: farthing schema > policies/schema.json
    """
    from router.policy.schema.editor import json_schema

    print_json(json_schema())
