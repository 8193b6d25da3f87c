"""The night as Airflow DAGs: the commands of `fieldmart nightly`, one task each, in the same order.

    fieldmart_train   02:00, not on Sundays   ingest … decide, then starts fieldmart_score
    fieldmart_sweep   02:00 on Sundays        the same with `train --sweep`: every k with every seed
    fieldmart_score   06:00, and when started by another   ingest, score, monitor, publish, guard, then served_fresh
    fieldmart_approve by hand, with `by` and `why`   promotes the model of a HOLD, then starts fieldmart_score
    fieldmart_backup  08:00                   backup, then gc
    fieldmart_drill   09:00 on Sundays        drill: a backup is restored elsewhere and every row compared

Scoring does not wait for training to succeed. The others start it whether they succeeded or not, for the day they ran
for, and it has a time of its own for when they hang or are paused. Its `ingest` finds what is there, or makes it; the
champion is read from the decision log. A second run for the same day finds everything done.

`score` and `publish` end with exit code 3 when the last good scores or the prior's had to stand in for the champion's.
These are published like any others: readers see their source and age. The last task, `served_fresh`, then fails, and
with it the run; a retry would serve the same again, so it has none.

`guard` reads the gate's live rules on what was just published. If one is broken, it goes back to the last good release
and fails, for somebody to look; it has no retry either.

A HOLD stops nothing: the champion that is scores, and whoever may approves when they have looked (docs/decision.md).

Nothing is decided or computed here. Every command finds its inputs by the cycle (contract and date), so a retried or
cleared task does its work again, or finds it done. These settings come from the environment of the workers:

    FIELDMART_HOME       the checkout, made ready with `make setup`; default: the folder above this one
    FIELDMART_WAREHOUSE  the warehouse; default: the one that the commands take
    FIELDMART_BACKUPS    where backups lie, a path or a URL of fsspec; without it backup and drill fail

One night by hand, in Airflow's own environment (`make airflow-env`):

    export AIRFLOW_HOME="$PWD/.airflow" AIRFLOW_CONFIG="$PWD/airflow_dags/airflow.cfg"
    .venv-airflow/bin/airflow db migrate
    .venv-airflow/bin/airflow dags test -c '{"date": "2017-12-18"}' fieldmart_train
    .venv-airflow/bin/airflow dags test -c '{"date": "2017-12-18"}' fieldmart_score
"""

import datetime as dt
import os
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Param, TriggerRule, chain

HOME = Path(os.environ.get("FIELDMART_HOME") or Path(__file__).resolve().parent.parent)
WAREHOUSE = os.environ.get("FIELDMART_WAREHOUSE", "")
BACKUPS = os.environ.get("FIELDMART_BACKUPS", "")  # no default: a backup beside the warehouse is lost with it

STEPS = ("ingest", "encode", "train", "evaluate", "warehouse", "decide", "score", "monitor", "publish")
TRAINING = STEPS[: STEPS.index("score")]
# What scoring needs of the earlier steps is the snapshot and the list of who is scored on what.
SCORING = ("ingest", *STEPS[STEPS.index("score") :])
KEPT_BACKUPS = 30

# What is not given is left to the command, where the defaults stand: the contract's date, else the day of the run.
OF_DATE = "{% if params.date %} --date {{ params.date }}{% endif %}"
OF_CONTRACT = "{% if params.contract %} --contract {{ params.contract }}{% endif %}"
OF_WAREHOUSE = "{% if params.warehouse %} --warehouse {{ params.warehouse }}{% endif %}"
OPTIONS = OF_DATE + OF_CONTRACT + OF_WAREHOUSE

# What a command ends with when it did its work, but not with the champion: jobs/exit_codes.py.
DEGRADED = 3
MAY_BE_DEGRADED = ("score", "publish")

# The day a run is for; a DAG that starts another hands its own on, so that both work for the same cycle after midnight.
TODAY = "{{ params.today or (dag_run.run_after | ds) }}"

# What is pasted into a shell command must be a plain path or a day.
PLAIN_PATH = r"^[A-Za-z0-9_.:/@=+-]*$"
DAY = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$"

PARAMS = {
    "date": Param("", type="string", pattern=DAY, description="cycle date; empty: the contract's, else `today`"),
    "today": Param("", type="string", pattern=DAY, description="day the run is for; empty: that of the run"),
    "contract": Param("", type="string", pattern=PLAIN_PATH, description="feature contract; empty: the default"),
    "warehouse": Param(WAREHOUSE, type="string", pattern=PLAIN_PATH, description="empty: the default"),
}


def night(dag_id: str, schedule: str | None, description: str, **params: Param) -> DAG:
    """A DAG with what all of them have in common."""
    return DAG(
        dag_id=dag_id,
        description=description,
        schedule=schedule,
        start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        catchup=False,
        # Two nights at once would publish in the order in which they end.
        max_active_runs=1,
        dagrun_timeout=dt.timedelta(hours=12),
        default_args={
            "retries": 2,
            "retry_delay": dt.timedelta(minutes=5),
            "execution_timeout": dt.timedelta(hours=3),
        },
        params=PARAMS | params,
        doc_md=__doc__,
        tags=["fieldmart"],
    )


def start_score(trigger_rule: TriggerRule) -> TriggerDagRunOperator:
    """The task that starts scoring for the same cycle."""
    return TriggerDagRunOperator(
        task_id="start_score",
        trigger_dag_id="fieldmart_score",
        conf={name: f"{{{{ params.{name} }}}}" for name in PARAMS} | {"today": TODAY},
        trigger_rule=trigger_rule,
    )


def command(step: str, options: str = "", common: str = OPTIONS, **environment: str) -> BashOperator:
    """One step of the night as a task; degraded, it succeeds: its exit code is the last line it prints, its XCom."""
    call = f".venv/bin/fieldmart {step}{options}{common}"
    if step in MAY_BE_DEGRADED:
        call += f"; code=$?; echo $code; [ $code -eq {DEGRADED} ] || exit $code"
    return BashOperator(
        task_id=step,
        bash_command=call,
        cwd=str(HOME),
        env={"FIELDMART_TODAY": TODAY, **environment},
        append_env=True,
    )


def training(train_options: str = "") -> None:
    """The tasks of a DAG that trains and then starts scoring."""
    tasks = [command(step, train_options if step == "train" else "") for step in TRAINING]
    scores = start_score(TriggerRule.ALL_DONE)
    # Without a last task of its own that fails when a step did, the run would count as a success once scoring started.
    trained = EmptyOperator(task_id="trained")
    chain(*tasks, [scores, trained])


with night("fieldmart_train", "0 2 * * 1-6", "Train and judge the grid of the night, decide"):
    training()

with night("fieldmart_sweep", "0 2 * * 0", "Train and judge every k with every seed, decide"):
    training(" --sweep")

with night("fieldmart_score", "0 6 * * *", "Score every entity with the champion, publish the release"):
    codes = f"ti.xcom_pull(task_ids={list(MAY_BE_DEGRADED)})"
    served_fresh = BashOperator(
        task_id="served_fresh", bash_command=f"exit {{{{ {codes} | map('int') | max }}}}", retries=0
    )
    guard = command("guard", common=OF_CONTRACT + OF_WAREHOUSE)
    guard.retries = 0
    chain(*[command(step) for step in SCORING], guard, served_fresh)

target = Param(BACKUPS, type="string", pattern=PLAIN_PATH, description="where backups lie: path or URL; must be said")
with night("fieldmart_backup", "0 8 * * *", "Back up what the night made, remove what nobody needs", target=target):
    backup = command("backup", f' "{{{{ params.target }}}}" --keep {KEPT_BACKUPS}', OF_WAREHOUSE)
    chain(backup, command("gc", common=OF_WAREHOUSE))

with night("fieldmart_drill", "0 9 * * 0", "Restore a backup elsewhere and compare every row", target=target):
    command("drill", ' --target "{{ params.target }}"', OF_WAREHOUSE)

# What a person says is never pasted into the shell command: it comes in as variables.
said = {
    name: Param("", type="string", minLength=1, description=text)
    for name, text in {"by": "one of the gate's approvers", "why": "why, for whoever reads the log"}.items()
}
with night("fieldmart_approve", None, "Promote the model of a HOLD, score with it", **said):
    approve = command("approve", ' --by "$BY" --why "$WHY"', BY="{{ params.by }}", WHY="{{ params.why }}")
    chain(approve, start_score(TriggerRule.ALL_SUCCESS))
