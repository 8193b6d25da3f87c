"""The files people edit: the committed ones load, and a fault is told as file, place, rule and value."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import facts, policies

CONF = Path(__file__).parent.parent / "conf"


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.yml"
    path.write_text(text)
    return path


def test_the_committed_rates_fill_the_fact() -> None:
    rates = policies.load_rates(CONF / "rates.yml")
    row = rates.model_dump() | {"rates_sha": rates.sha}
    assert facts.table("rates", [row]).num_rows == 1
    assert (rates.usd_per_cpu_hour, rates.usd_per_gib_hour, rates.usd_per_gib_month) == (0.04, 0.005, 0.023)


def test_the_committed_value_assumptions() -> None:
    value = policies.load_value(CONF / "value.yml")
    assert (value.target.kind, value.target.per, value.budget) == ("top_per_candidate", "candidate", 20)
    assert (value.margin_rate, value.contact_cost_usd, value.wrong_contact_cost_usd) == (0.25, 0.01, 0.002)
    assert value.margin_rate in value.sensitivity.margin_rate
    assert value.contact_cost_usd in value.sensitivity.contact_cost_usd
    assert value.objectives == ("conversions", "sales_value", "profit")
    assert "not an experiment" in value.assumptions


def test_sha_follows_values_not_text(tmp_path: Path) -> None:
    first = policies.load_rates(write(tmp_path, "{usd_per_cpu_hour: 1, usd_per_gib_hour: 2, usd_per_gib_month: 3}"))
    text = "# note\nusd_per_gib_month: 3.0\nusd_per_cpu_hour: 1.0\nusd_per_gib_hour: 2.0\n"
    assert policies.load_rates(write(tmp_path, text)).sha == first.sha
    assert policies.load_rates(write(tmp_path, text.replace("3.0", "3.1"))).sha != first.sha


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "usd_per_cpu_hour: -1\nusd_per_gib_hour: 1\nusd_per_gib_month: 1",
            r"hour: must be greater than or equal to 0, ",
        ),
        ("usd_per_cpu_hour: yes\nusd_per_gib_hour: 1\nusd_per_gib_month: 1", "hour: must be a valid number, got True"),
        ("usd_per_cpu_hour: .inf\nusd_per_gib_hour: 1\nusd_per_gib_month: 1", "hour: must be a finite number, got inf"),
        ("usd_per_cpu_hour: 1\nusd_per_gib_hour: 1", "usd_per_gib_month: must be given"),
        ("usd_per_cpu_hour: 1\nusd_per_cpu_hour: 2", "not YAML: key 'usd_per_cpu_hour' is given twice"),
        ("usd_per_cpu_hour: [", "not YAML: "),
        ("", "file: must be a valid dictionary or instance of Rates, got None"),
        ("usd_per_cpu_hour: 1\nusd_per_gib_hour: 1\nusd_per_gib_month: 1\neur: 1", "eur: is not a known key"),
    ],
)
def test_bad_rates_are_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(policies.PolicyError, match=rf"policy.yml: .*{message}") as caught:
        policies.load_rates(write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n: 20 }\n\n", "n: 0 }\n\n", "target.n: must be greater than or equal to 1, got 0"),
        ("n: 20 }\n\n", "n: 2.5 }\n\n", "target.n: must be a valid integer, got 2.5"),
        (
            "n: 20 }\n\n",
            "usd_per_period: 5 }\n\n",
            "target: target of kind top_per_candidate takes n or no number, got usd_per_period",
        ),
        (
            "kind: top_per_candidate, n: 20 }\n\n",
            "kind: budget, contacts_per_period: 5, usd_per_period: 5 }\n\n",
            "target: target of kind budget takes contacts_per_period or usd_per_period or no number, got contacts",
        ),
        ("contact_cost_usd: 0.01 #", "contact_cost_usd: -1 #", "contact_cost_usd: must be greater than or equal to 0"),
        (
            "wrong_contact_cost_usd: 0.002",
            "wrong_contact_cost_usd: no",
            "wrong_contact_cost_usd: must be a valid number",
        ),
        ("margin_rate: 0.25", "margin_rate: 25", "margin_rate: must be less than or equal to 1, got 25"),
        ("margin_rate: [0.05,", "margin_rate: [2,", r"sensitivity.margin_rate\[0\]: must be less than or equal to 1"),
        (
            "sales_value, profit]",
            "clicks]",
            r"objectives\[1\]: must be 'conversions', 'sales_value' or 'profit', got 'clic",
        ),
        ("sales_value, profit]", "conversions]", "file: objectives must differ, got"),
    ],
)
def test_bad_value_assumptions_are_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (CONF / "value.yml").read_text()
    assert old in text
    with pytest.raises(policies.PolicyError, match=rf"policy.yml: {message}"):
        policies.load_value(write(tmp_path, text.replace(old, new)))


@pytest.mark.parametrize(
    ("target", "per", "budget", "top_n"),
    [
        ("{ kind: top_per_candidate, n: 7 }", "candidate", 7, 7),
        ("{ kind: top_per_candidate }", "candidate", None, 20),
        ("{ kind: budget, contacts_per_period: 900 }", "period", 900, 20),
        ("{ kind: budget, usd_per_period: 2.5 }", "period", 250, 20),  # at 0.01 USD for a contact
        ("{ kind: budget, usd_per_period: 0.07 }", "period", 7, 20),  # 7.000000000000001 and
        ("{ kind: budget, usd_per_period: 0.29 }", "period", 29, 20),  # 28.999999999999996 in binary
        ("{ kind: budget }", "period", None, 20),
    ],
)
def test_a_target_says_within_what_and_how_many(
    tmp_path: Path, target: str, per: str, budget: int | None, top_n: int
) -> None:
    text = (CONF / "value.yml").read_text().replace("target: { kind: top_per_candidate, n: 20 }", f"target: {target}")
    value = policies.load_value(write(tmp_path, text))
    assert (value.target.per, value.budget, value.budget_top_n) == (per, budget, top_n)


def test_money_without_a_price_buys_no_contacts(tmp_path: Path) -> None:
    text = (CONF / "value.yml").read_text().replace("contact_cost_usd: 0.01 #", "contact_cost_usd: 0 #")
    text = text.replace("kind: top_per_candidate, n: 20 }\n\n", "kind: budget, usd_per_period: 5 }\n\n")
    with pytest.raises(
        policies.PolicyError, match=r"file: target\.usd_per_period needs a contact_cost_usd above 0, got 0"
    ):
        policies.load_value(write(tmp_path, text))
