"""A plugin of dbt-duckdb: the keys that the macro `entity_key` hashes ids with, set as variables of each connection.

Loaded inside dbt's process, and only where profiles.yml names it. Variables of a connection are in no log, in no
compiled SQL and in no database file.
"""

from __future__ import annotations

from typing import Any

from dbt.adapters.duckdb.plugins import BasePlugin

from jobs.privacy import pads, salt_of


class Plugin(BasePlugin):
    """Its config: `salt_env`, the environment variable that holds the salt."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        self.keys = pads(salt_of(plugin_config["salt_env"]))

    def configure_cursor(self, cursor: Any) -> None:
        for name, key in zip(("entity_key_inner", "entity_key_outer"), self.keys, strict=True):
            cursor.execute(f"set variable {name} = unhex('{key.hex()}')")
