"""The nightly as an Airflow DAG: the commands of `fieldmart nightly`, one task each, in the same order.

Nothing is decided or computed here. Every command finds its inputs by the cycle (contract and date), so a retried or
cleared task does its work again, or finds it done. Two settings come from the environment of the workers:

    FIELDMART_HOME       the checkout, made ready with `make setup`; default: the folder above this one
    FIELDMART_WAREHOUSE  the warehouse; default: the one that the commands take

One night by hand, in Airflow's own environment (`make airflow-env`):

    export AIRFLOW_HOME="$PWD/.airflow" AIRFLOW_CONFIG="$PWD/airflow_dags/airflow.cfg"
    .venv-airflow/bin/airflow db migrate
    .venv-airflow/bin/airflow dags test -c '{"date": "2017-12-18"}' fieldmart_nightly
"""

import datetime as dt
import os
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param, chain

HOME = Path(os.environ.get("FIELDMART_HOME") or Path(__file__).resolve().parent.parent)
WAREHOUSE = os.environ.get("FIELDMART_WAREHOUSE", "")

STEPS = ("ingest", "encode", "train", "evaluate", "warehouse", "decide", "score", "monitor", "publish")

# What is not given is left to the command, where the defaults stand: the contract's date, else the day of the run.
OPTIONS = (
    "{% if params.date %} --date {{ params.date }}{% endif %}"
    "{% if params.contract %} --contract {{ params.contract }}{% endif %}"
    "{% if params.warehouse %} --warehouse {{ params.warehouse }}{% endif %}"
)

DAY = {"FIELDMART_TODAY": "{{ dag_run.run_after | ds }}"}

# What is pasted into a shell command must be a plain path.
PLAIN_PATH = r"^[A-Za-z0-9_.:/@=+-]*$"

with DAG(
    dag_id="fieldmart_nightly",
    description="Train and judge every k, decide, score every household, publish the release",
    schedule="0 2 * * *",
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    # Two nights at once would publish in the order in which they end.
    max_active_runs=1,
    dagrun_timeout=dt.timedelta(hours=6),
    default_args={
        "retries": 2,
        "retry_delay": dt.timedelta(minutes=5),
        "execution_timeout": dt.timedelta(hours=2),
    },
    params={
        "date": Param(
            None,
            type=["null", "string"],
            format="date",
            description="cycle date; none: the contract's, else the run's day",
        ),
        "contract": Param("", type="string", pattern=PLAIN_PATH, description="feature contract; empty: the default"),
        "warehouse": Param(WAREHOUSE, type="string", pattern=PLAIN_PATH, description="empty: the default"),
    },
    doc_md=__doc__,
    tags=["fieldmart"],
) as dag:
    chain(
        *[
            BashOperator(
                task_id=step,
                bash_command=f".venv/bin/fieldmart {step}{OPTIONS}",
                cwd=str(HOME),
                env=DAY,
                append_env=True,
            )
            for step in STEPS
        ]
    )
