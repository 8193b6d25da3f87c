# Every command of this repository. The first that needs an environment makes it (scripts/setup.sh), later ones find it.
#
#   make nightly DATE=2017-12-18 CONTRACT=conf/promo.yml WAREHOUSE=warehouse    (each may be left out)

BIN := .venv/bin
# Empty where a variable is not given, so that a default stands once, in the program.
OPTIONS = $(if $(DATE),--date "$(DATE)") $(if $(CONTRACT),--contract "$(CONTRACT)") $(if $(WAREHOUSE),--warehouse "$(WAREHOUSE)")

.DEFAULT_GOAL := help
.PHONY: help setup airflow-env nightly dashboard drill screenshots submit test slow check licences bench format lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## .venv with the locked dependencies and a Java (every command below does this first)
	@sh scripts/setup.sh

nightly: setup ## the whole nightly on the real data; DATE=, CONTRACT=, WAREHOUSE= choose
	@$(BIN)/fieldmart nightly $(OPTIONS)

dashboard: setup ## the dashboard of the last release; WAREHOUSE= chooses
	@$(if $(WAREHOUSE),FIELDMART_WAREHOUSE="$(WAREHOUSE)") $(BIN)/streamlit run dashboard/streamlit_app.py

drill: setup ## back up, restore elsewhere, compare every row; WAREHOUSE= chooses
	@$(BIN)/fieldmart drill $(if $(WAREHOUSE),--warehouse "$(WAREHOUSE)")

screenshots: setup ## a picture of every page of the dashboard into docs/images; WAREHOUSE= chooses
	@$(BIN)/python -m dashboard.screenshots $(if $(WAREHOUSE),--warehouse "$(WAREHOUSE)")

submit: setup ## one step as a Spark job: STEP=train, with the options of nightly
	@JAVA_HOME="$$($(BIN)/python -m jobs.java)" PYSPARK_PYTHON="$(CURDIR)/$(BIN)/python" \
		$(BIN)/spark-submit "jobs/$(STEP).py" $(OPTIONS)

test: setup ## every test that is not slow
	@$(BIN)/pytest -m "not slow"

slow: airflow-env ## the slow tests: Airflow, spark-submit of each job, the wheel
	@$(BIN)/pytest -m slow

check: setup ## the linters and the type checker
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/ty check
	@$(BIN)/sqlfluff lint dbt

licences: setup ## docs/licences.md: what the locked packages are under; fails on one that is not accepted
	@$(BIN)/python scripts/licences.py

bench: setup ## measurements into BENCHMARKS.md; ONLY=kernel chooses
	@$(BIN)/python -m bench $(if $(ONLY),--only "$(ONLY)")

format: setup ## put the code into the form that `make check` asks for
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

airflow-env: setup ## .venv-airflow, Airflow's own environment
	@sh scripts/setup.sh airflow

# Pins that still fit stay; `make lock UPGRADE=1` takes the newest that fit.
LOCK = "$$(sh scripts/setup.sh uv)" pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	--no-annotate --python $(BIN)/python $(if $(UPGRADE),--upgrade)
lock: setup ## write the locks anew from pyproject.toml and airflow_dags/requirements.in
	@$(LOCK) --group bootstrap -o bootstrap.lock
	@$(LOCK) pyproject.toml --extra jobs --extra dashboard --group dev --group bench -o requirements.lock
	@$(LOCK) airflow_dags/requirements.in -o airflow_dags/requirements.lock

clean: ## remove caches and builds; environments and the warehouse stay
	@rm -rf dist build dbt/target dbt/logs .pytest_cache .ruff_cache .hypothesis spark-warehouse metastore_db derby.log
	@find . -name __pycache__ -not -path './.*/*' -prune -exec rm -rf {} +
