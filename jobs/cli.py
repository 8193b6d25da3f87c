"""The console script `fieldmart`; `spark-submit jobs/<step>.py` runs the same functions with the same options."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import (
    backfill,
    block_scores,
    champions,
    decide,
    decision_commands,
    delayed_feedback,
    encode,
    evaluate,
    exit_codes,
    health_commands,
    ingest,
    inspection_commands,
    label_delay,
    leakage,
    levers,
    monitor,
    night_lock,
    nightly,
    publish,
    query_commands,
    recovery_commands,
    release_commands,
    reproduce,
    score,
    serving,
    simulate,
    staleness,
    train,
)
from jobs.command_options import (
    DEFAULT,
    ROOT,
    Contract,
    Date,
    Warehouse,
    cycle_of,
    guarded,
    policy,
)
from jobs.cycle import Cycle
from jobs.lake import PROJECT, Dataset
from jobs.policies import load_rates
from jobs.progress import Progress
from jobs.spark_session import session
from jobs.training_plan import Options, Strategy

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def _about() -> None:
    """Batch conversion-rate scoring: which embedding size is worth its cost, and may tonight's scores go live?

    `nightly` runs all steps; each step can be run alone and finds its inputs by contract and date.
    """


def _nightly(cycle: Cycle, contract: Path, options: Options) -> None:
    started = dt.datetime.now(dt.UTC)
    release = nightly.run(cycle, lambda name: policy(contract, name), options)
    nightly.summary(cycle, release)
    cycle.progress.console.print(f"Done in {(dt.datetime.now(dt.UTC) - started).total_seconds():.0f} s.")
    release_commands.exit_if_left(cycle.warehouse, release)
    exit_if_degraded(cycle)


def exit_if_degraded(cycle: Cycle) -> None:
    """Leave with the code that says so if what is served is stale, or the prior although there is a champion."""
    scoring = cycle.dataset("scoring")
    if score.is_degraded(scoring):
        [row] = scoring.table().to_pylist()
        typer.echo(f"fieldmart: {row['source']} scores are served: {row['reason']}", err=True)
        raise typer.Exit(exit_codes.DEGRADED)


def _evaluate(cycle: Cycle, contract: Path) -> None:
    evaluate.run(
        cycle, session(cycle.warehouse), *(policy(contract, f"{name}.yml") for name in ("gate", "rates", "value"))
    )


def _staleness(cycle: Cycle, contract: Path) -> None:
    staleness.run(cycle, session(cycle.warehouse), policy(contract, "value.yml"))


def _publish(cycle: Cycle, contract: Path) -> None:
    release = publish.run(cycle, policy(contract, "audits.yml"), policy(contract, "slo.yml"))
    cycle.progress.console.print(f"published {release.release_id}: {release.folder}")
    exit_if_degraded(cycle)


Step = Callable[[Cycle, Path], Any]
STEPS: dict[str, tuple[Step, str]] = {
    "ingest": (
        lambda cycle, _: ingest.run(cycle, session(cycle.warehouse)),
        "Read and validate the source as of DATE into an immutable snapshot; bad rows go to quarantine.",
    ),
    "encode": (
        lambda cycle, _: encode.run(cycle, session(cycle.warehouse)),
        "Turn the snapshot into examples: point-in-time history, vocabularies, split by time.",
    ),
    "evaluate": (_evaluate, "Metrics with intervals, calibration, cost per score and value on the test periods."),
    "levers": (
        lambda cycle, _: levers.run(cycle, session(cycle.warehouse)),
        "What regularisation, data, features and recency bring against more k, on folds before the test periods.",
    ),
    "staleness": (
        _staleness,
        "What scores that are some periods old cost in logloss and conversions, on the test periods.",
    ),
    "delayed-feedback": (
        lambda cycle, _: delayed_feedback.run(cycle, session(cycle.warehouse)),
        "What to make of labels that are not final yet: five ways to train, judged by final labels.",
    ),
    "warehouse": (
        lambda cycle, contract: decide.build_evidence(cycle, policy(contract, "gate.yml")),
        "Build the evidence marts, not yet visible.",
    ),
    "monitor": (
        lambda cycle, _: monitor.run(cycle, session(cycle.warehouse)),
        "Count fields and scores in frozen bins for drift.",
    ),
    "publish": (_publish, "Build the rest of the marts, audit, publish the release."),
}


def command(name: str) -> Callable[..., None]:
    """The function behind `fieldmart <name>` and `spark-submit jobs/<name>.py`."""
    if name in TRAINING:
        return training_command(name, TRAINING[name])
    if name == "score":
        return score_command
    if name == "decide":
        from jobs.decision_commands import decide_command  # which takes its options from here

        return decide_command
    work, text = STEPS[name]

    def run(contract: Contract = DEFAULT, date: Date = None, warehouse: Warehouse = ROOT) -> None:
        def step() -> None:
            cycle = cycle_of(contract, date, warehouse)
            with night_lock.night(cycle.warehouse, cycle.contract.name):
                work(cycle, contract)

        guarded(step)

    run.__doc__ = text
    return run


Sweep = Annotated[bool, typer.Option("--sweep", help="The contract's sweep (all k and seeds, baselines): decides k.")]
Way = Annotated[Strategy, typer.Option(help="One task per model, one model over all partitions, or by data size.")]
Partitions = Annotated[int | None, typer.Option(min=1, help="Partitions of one mixed model.  [default: one per slot]")]
Syncs = Annotated[int, typer.Option(min=1, help="Merges per epoch of mixing.")]
Stall = Annotated[float, typer.Option(min=5, help="Seconds without progress after which training is given up.")]
Init = Annotated[str | None, typer.Option(help="Warm start: date of the cycle whose candidates to start from.")]
Window = Annotated[
    int | None, typer.Option(min=1, help="Train on the last so many periods.  [default: the contract's]")
]
HalfLife = Annotated[
    float | None, typer.Option(help="Periods after which a row counts half.  [default: the contract's]")
]
Rate = Annotated[
    float | None, typer.Option(help="Share of the negatives to train on, in (0, 1].  [default: the contract's]")
]


def training_command(name: str, text: str) -> Callable[..., None]:
    """`train` and `nightly`, which take what may be chosen about training."""

    def run(
        contract: Contract = DEFAULT,
        date: Date = None,
        warehouse: Warehouse = ROOT,
        sweep: Sweep = False,
        strategy: Way = Strategy.auto,
        partitions: Partitions = None,
        syncs: Syncs = 1,
        stall_timeout: Stall = 300.0,
        init: Init = None,
        window: Window = None,
        half_life: HalfLife = None,
        negative_rate: Rate = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the training plan; train nothing.")] = False,
    ) -> None:
        def step() -> None:
            frozen = {"window": window, "half_life": half_life, "negative_rate": negative_rate}
            cycle = cycle_of(contract, date, warehouse, {n: v for n, v in frozen.items() if v is not None})
            options = Options(sweep, strategy, partitions, syncs, stall_timeout, init)
            if dry_run:
                train.dry_run(cycle, options, os.cpu_count() or 1)
                return
            with night_lock.night(cycle.warehouse, cycle.contract.name):
                if name == "train":
                    train.run(cycle, session(cycle.warehouse), options)
                else:
                    _nightly(cycle, contract, options)

        guarded(step)

    run.__doc__ = text
    return run


def score_command(
    contract: Contract = DEFAULT,
    date: Date = None,
    warehouse: Warehouse = ROOT,
    model: Annotated[
        str, typer.Option(help="Alias of the model that serves: `champion` is the only one.")
    ] = "champion",
    shadow_model: Annotated[
        str | None, typer.Option("--shadow", help="Model id, or `challenger`: scores too, is kept and not served.")
    ] = None,
    stall_timeout: Stall = block_scores.STALL,
) -> None:
    """Score every entity on every candidate with the champion; audit; exit code 3 if something else is served."""

    def step() -> None:
        if model != serving.CHAMPION:
            raise block_scores.ScoreError(
                f"--model must be {serving.CHAMPION}, got {model!r}: promote it with the gate"
            )
        cycle = cycle_of(contract, date, warehouse)
        with night_lock.night(cycle.warehouse, cycle.contract.name):
            score.run(cycle, session(cycle.warehouse), policy(contract, "scores.yml"), shadow_model, stall_timeout)
        exit_if_degraded(cycle)

    guarded(step)


def label_command(
    contract: Contract = DEFAULT,
    date: Date = None,
    warehouse: Warehouse = ROOT,
    as_of: Annotated[
        dt.datetime | None,
        typer.Option("--as-of", formats=["%Y-%m-%d"], help="Show what was known when this day began; write nothing."),
    ] = None,
) -> None:
    """Labels as of DATE's period: converted, not converted, immature; how late conversions come; what is to come."""

    def step() -> None:
        cycle = cycle_of(contract, date, warehouse)
        spark = session(cycle.warehouse)
        if as_of is None:
            with night_lock.night(cycle.warehouse, cycle.contract.name):
                label_delay.run(cycle, spark)
        label_delay.show(cycle, spark, as_of.date() if as_of else None)

    guarded(step)


TRAINING = {
    "nightly": "The whole night, ingest to publish, with a summary.",
    "train": "Train every k, the prior and the baselines, one model per Spark task or one over all partitions.",
}

ORDER = (
    "nightly",
    "ingest",
    "encode",
    "train",
    "evaluate",
    "levers",
    "staleness",
    "delayed-feedback",
    "warehouse",
    "decide",
    "score",
)
for _name in (*ORDER, "monitor", "publish"):
    app.command(_name)(command(_name))
app.command("label")(label_command)


@app.command("backfill")
def backfill_command(
    first: Annotated[dt.datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="A day of the first period.")],
    last: Annotated[dt.datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="A day of the last period.")],
    contract: Contract = DEFAULT,
    warehouse: Warehouse = ROOT,
    budget: Annotated[float | None, typer.Option(min=0, help="US dollars; refuse if the projection is above.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the projected cost; score nothing.")] = False,
) -> None:
    """Score the periods of a range of dates, each by the champion of its time, into the tree of scores by date."""

    def step() -> None:
        console, cycle = Progress().console, cycle_of(contract, str(last.date()), warehouse)
        cycles = backfill.cycles(cycle.contract, cycle.warehouse, cycle.progress, first.date(), last.date())
        rates = load_rates(policy(contract, "rates.yml"))

        def champion_of(chosen: Cycle) -> str | None:
            return champions.champion(chosen.warehouse, chosen.contract.name, chosen.date)

        found = backfill.plan(cycles, lambda c: backfill.is_scored(c, champion_of(c)), backfill.measured(cycle), rates)
        backfill.show(found, console)
        backfill.refuse_above(found, budget)
        if dry_run:
            return

        def score_one(chosen: Cycle) -> Dataset:
            spark = session(chosen.warehouse)
            ingest.run(chosen, spark)
            score.run(chosen, spark, policy(contract, "scores.yml"))
            return chosen.dataset("scores")

        with night_lock.night(cycle.warehouse, cycle.contract.name):
            report = backfill.run(found, score_one)
        backfill.summary(report, console)
        if report.exit_code:
            raise typer.Exit(report.exit_code)

    guarded(step)


@app.command()
def dashboard(warehouse: Warehouse = ROOT, port: Annotated[int, typer.Option()] = 8501) -> None:
    """Serve the dashboard on the current release."""
    script = PROJECT / "dashboard" / "streamlit_app.py"
    told = os.environ | {"FIELDMART_WAREHOUSE": str(warehouse)}
    code = subprocess.call(
        [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)], env=told
    )
    raise typer.Exit(code)


app.command("simulate")(simulate.command)


@app.command("audit-leakage")
def audit_leakage(contract: Contract = DEFAULT, date: Date = None, warehouse: Warehouse = ROOT) -> None:
    """Look for leakage in what the chosen model of an evaluated cycle is given; exit code 1 if anything is found."""

    def step() -> bool:
        cycle = cycle_of(contract, date, warehouse)
        found = leakage.run(cycle, session(cycle.warehouse))
        return leakage.show(found, cycle.progress.console)

    if not guarded(step):
        raise typer.Exit(1)


@app.command("reproduce")
def train_again(
    model_id: Annotated[str, typer.Argument(help="Id of a model in the warehouse.")], warehouse: Warehouse = ROOT
) -> None:
    """Train a model again from its card and compare bits and losses; exit code 1 if it is another model."""
    found = guarded(lambda: reproduce.run(warehouse, model_id, lambda: session(warehouse)))
    reproduce.show(found, Progress().console)
    if not found.reproduced:
        raise typer.Exit(1)


decision_commands.add_to(app)
inspection_commands.add_to(app)
release_commands.add_to(app)
query_commands.add_to(app)
recovery_commands.add_to(app)
health_commands.add_to(app)
