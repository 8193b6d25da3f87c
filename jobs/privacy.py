"""What the marts of a release may show of people, by the contract's section `privacy`.

Entity ids become HMAC-SHA256 under a secret salt (RFC 2104), cut to LENGTH hex digits: the same id has the same hash in
all marts and on all nights. The salt stands in an environment variable, and in no file: jobs/salted_keys.py gives it to
the connections of a build past dbt.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Any

from jobs.contract import Contract

LENGTH = 24  # hex digits, 96 bits: two of 100 million ids collide with probability 6e-14
SHORTEST = 16  # characters of a salt; fewer can be tried out
BLOCK = 64  # bytes, of SHA-256


class PrivacyError(ValueError):
    """A contract whose privacy cannot be kept; the message names the section, the rule and the value."""


def variables(contract: Contract) -> dict[str, Any]:
    """The dbt variables of the contract's privacy: none if it asks for nothing.

    Raises PrivacyError if the salt is missing or too short, or if a slice would show ids as its values.
    """
    asked = contract.privacy
    found: dict[str, Any] = {"k_anonymity": asked.k_anonymity} if asked.k_anonymity else {}
    if asked.hash_entities:
        salt_of(asked.salt_env)
        _no_ids_as_values(contract)
        shared = bool(set(contract.match) & set(contract.entity))
        found |= {"hash_entities": True, "hash_matches": shared, "salt_env": asked.salt_env}
    return found


def sign(contract: Contract) -> str:
    """What two releases have in common that treat people alike; empty where the contract asks for nothing.

    It tells that the salt changed, and not what it is.
    """
    found = variables(contract)
    told = [f"{name}={found[name]}" for name in ("k_anonymity", "hash_entities", "hash_matches") if name in found]
    return ", ".join([*told, f"salt={shown('', contract)[:8]}"] if "salt_env" in found else told)


def shown(entity_id: str, contract: Contract) -> str:
    """What the marts show in place of `entity_id`: the id itself unless the contract hashes."""
    if not contract.privacy.hash_entities:
        return entity_id
    return hashed(entity_id, salt_of(contract.privacy.salt_env))


def hashed(entity_id: str, salt: bytes) -> str:
    """HMAC-SHA256 of the id under the salt, the first LENGTH hex digits."""
    return hmac.new(salt, entity_id.encode(), hashlib.sha256).hexdigest()[:LENGTH]


def salt_of(variable: str) -> bytes:
    """The salt in the environment variable `variable`; PrivacyError if there is none, or one that is too short."""
    salt = os.environ.get(variable, "")
    if len(salt) < SHORTEST:
        got = f"{len(salt)} characters" if salt else "nothing"
        raise PrivacyError(
            f"privacy.salt_env: {variable} must hold a secret salt of at least {SHORTEST} characters, got {got}"
        )
    return salt.encode()


def pads(salt: bytes) -> tuple[bytes, bytes]:
    """The inner and the outer key of HMAC, BLOCK bytes each: hash(outer + hash(inner + text)) is the code of a text."""
    key = (hashlib.sha256(salt).digest() if len(salt) > BLOCK else salt).ljust(BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)


def _no_ids_as_values(contract: Contract) -> None:
    """PrivacyError if what slices, groups or candidates are named after is a column of the entity."""
    columns = {rule.name: rule.columns for rule in contract.fields}
    places: dict[str, tuple[str, ...]] = {
        f"slices.{item.name}": (item.column,) for item in contract.slices if item.column
    }
    places |= {f"prior.candidate_levels.{name}": columns[name] for name in contract.prior.candidate_levels}
    places |= {"candidate": contract.candidate}
    if contract.label.delay_by:
        places |= {"label.delay_by": (contract.label.delay_by,)}
    for place, named in places.items():
        for column in named:
            if column in contract.entity:
                raise PrivacyError(f"privacy.hash_entities: {place} must not show ids of entities, got {column!r}")
