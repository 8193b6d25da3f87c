"""Rank one entity's candidates again with what is only known at request time, from the exported vectors.

The night's scores know the past up to `data_through`. A service that has the vectors (docs/vectors.md) needs no model
and no Spark to take in what happened since:

    rerank.py 1 --without "69|EGGS"                                     # out of stock
    rerank.py 1 --about "69|EGGS" --set bought_household_family=1301    # a pair field has another value by now

A pair field's value belongs to its key: with bought_household_category=1301 every candidate of the same category
changes. The values are those of `feature_vectors`; docs/contract.md says how the value of a history field is made.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer


class Vectors:
    """One entity, the candidates on offer to it, and the features of the pair fields, as arrays."""

    def __init__(self, folder, entity):
        about = json.loads((folder / "vectors.json").read_text())
        U, C, P, k = *(len(about["fields"][side]) for side in ("entity", "candidate", "pair")), about["k"]
        person = read(folder / "entity_vectors").filter(entity_id=entity).collect()
        check(len(person), "ENTITY", entity)
        mine = {"match_id": person["match_id"].item()}
        offers, features = read(folder / "candidate_vectors").filter(**mine).collect(), read(folder / "feature_vectors")
        self.features, self.fields, self.ids = (
            features.collect(),
            about["fields"]["pair"],
            offers["candidate_id"].to_list(),
        )
        self.keys = array(offers["keys"], P, kind=int)
        self.entries = read(folder / "pair_entries").filter(entity_id=entity).collect()
        self.base = person["constant"].to_numpy() + offers["constant"].to_numpy()
        self.base = self.base + array(offers["vector"], U * C * k) @ array(person["vector"], U * C * k)[0]
        self.of_entity, self.of_candidates = array(person["to_pairs"], P, U * k)[0], array(offers["to_pairs"], P, C * k)
        shapes = {"to_entity": [U * k], "to_candidate": [C * k], "to_pair": [P, k]}
        self.own = self.features["constant"].to_numpy()
        self.to_entity, self.to_candidate, self.to_pair = (array(self.features[n], *s) for n, s in shapes.items())

    def known(self):
        """The row of `features` that each candidate has in each pair field, [candidates, P]: the night's knowledge."""
        row = {names: place for place, names in enumerate(self.features.select("field", "feature").iter_rows())}
        rows = np.tile(self.features["is_default"].arg_true().to_numpy(), (len(self.ids), 1))
        for field, key, feature in self.entries.select("field", "key", "feature").iter_rows():
            rows[self.keys[:, field] == key, field] = row[field, feature]
        return rows

    def change(self, rows, candidate, field, value):
        """Give what has the candidate's key in `field` the feature `value`; changes `rows`."""
        check(candidate in self.ids, "--about", candidate)
        check(field in self.fields, "the field of --set", field)
        place = self.fields.index(field)
        found = self.features.with_row_index().filter(field=place, value=value)["index"]
        check(len(found), f"the value of {field} in --set", value)
        rows[self.keys[:, place] == self.keys[self.ids.index(candidate), place], place] = found.item()

    def logits(self, rows):
        x = self.to_pair[rows]
        of_fields = np.einsum("npd,pd->n", self.to_entity[rows], self.of_entity)
        of_fields += np.einsum("npd,npd->n", self.to_candidate[rows], self.of_candidates)
        of_fields += np.einsum("npqk,nqpk->n", x, x) / 2  # each two fields in both orders
        return self.base + self.own[rows].sum(axis=1) + of_fields


def read(folder):
    return pl.scan_parquet(folder / "*.parquet")


def array(lists, *shape, kind=np.float32):
    """A column of lists as an array [rows, *shape]."""
    return np.array(lists.to_list(), kind).reshape(-1, *shape)


def check(is_there, name, value):
    if not is_there:
        raise typer.BadParameter(f"{name} must be one that the vectors have, got {value!r}")


def main(
    entity: str,
    vectors: Annotated[Path, typer.Option(help="Folder of the vectors.")] = Path("warehouse/vectors/promo"),
    without: Annotated[list[str] | None, typer.Option(help="A candidate to leave out; may be repeated.")] = None,
    about: Annotated[str, typer.Option(help="The candidate that --set is about.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE; may be repeated.")] = None,
    top: Annotated[int, typer.Option(help="How many candidates to show.")] = 10,
):
    """Print an entity's best candidates with what is known at request time, and their rank and p before."""
    found = Vectors(vectors, entity)
    before, rows = found.known(), found.known()
    for assignment in set_ or []:
        field, _, value = assignment.partition("=")
        found.change(rows, about, field, value)
    calibrator = read(vectors / "calibrator").collect()
    slope, intercept = calibrator["slope"].item(), calibrator["intercept"].item()
    p_before, p = (1 / (1 + np.exp(-(slope * found.logits(x) + intercept))) for x in (before, rows))
    rank = {c: place for place, c in enumerate(np.argsort(-p_before, kind="stable"), start=1)}
    order = [c for c in np.argsort(-p, kind="stable") if found.ids[c] not in (without or [])]
    print("rank  before         p    before  candidate")
    for place, c in enumerate(order[:top], start=1):
        print(f"{place:4}  {rank[c]:6}  {p[c]:.6f}  {p_before[c]:.6f}  {found.ids[c]}")


if __name__ == "__main__":
    typer.run(main)
