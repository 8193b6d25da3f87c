"""Stages of a night as OpenLineage run events (openlineage.io, schema 2), written to a file and never sent anywhere."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    dataset_version_dataset,
    error_message_run,
    output_statistics_output_dataset,
    parent_run,
    schema_dataset,
)
from openlineage.client.transport.file import FileConfig, FileTransport

from jobs.lake import Dataset

NAMESPACE = "fieldmart"
IDS = uuid.UUID("4b1f7a52-6f0e-5a0c-9d0e-2f6d6d2b7c11")  # of this project's run ids, so that a retry says the same


def event(
    kind: str,
    night: tuple[str, str],
    stage: tuple[str, str],
    inputs: Mapping[str, Dataset],
    outputs: Mapping[str, Dataset],
    message: str | None,
    at: dt.datetime,
) -> RunEvent:
    """`night`: run_id and contract; `stage`: its name and what tells its runs apart; the night is its parent run."""
    (run_id, contract), (name, key) = night, stage
    whole = parent_run.ParentRunFacet(
        run=parent_run.Run(runId=str(uuid.uuid5(IDS, run_id))),
        job=parent_run.Job(namespace=NAMESPACE, name=f"{contract}.nightly"),
    )
    facets = {"parent": whole}
    if message is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage="python")
    return RunEvent(
        eventTime=at.isoformat(),
        producer="urn:fieldmart:jobs.openlineage_events",
        eventType=RunState(kind),
        run=Run(runId=str(uuid.uuid5(IDS, f"{run_id} {name} {key}")), facets=facets),
        job=Job(namespace=NAMESPACE, name=f"{contract}.{name}"),
        inputs=[InputDataset("file", _place(item), facets=_facets(item)) for item in inputs.values()],
        outputs=[
            OutputDataset("file", _place(item), facets=_facets(item), outputFacets=_statistics(item))
            for item in outputs.values()
        ],
    )


def emit(path: Path, made: RunEvent) -> None:
    """Append the event to `path`; RuntimeError if it cannot be written."""
    FileTransport(FileConfig(log_file_path=str(path), append=True)).emit(made)


def _place(dataset: Dataset) -> str:
    return str(dataset.folder.parent.resolve())


def _facets(dataset: Dataset) -> dict:
    """The data set's version and, of Parquet, its columns."""
    found: dict = {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=dataset.key)}
    tables = [path for path in dataset.files if path.endswith(".parquet")]
    if tables:
        columns = [
            schema_dataset.SchemaDatasetFacetFields(name=column.name, type=str(column.type))
            for column in pq.read_schema(tables[0])
        ]
        found["schema"] = schema_dataset.SchemaDatasetFacet(fields=columns)
    return found


def _statistics(dataset: Dataset) -> dict:
    sizes = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=dataset.rows, size=dataset.bytes, fileCount=len(dataset.files)
    )
    return {"outputStatistics": sizes}
