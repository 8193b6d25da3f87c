"""Convergence of parameter mixing against the number of partitions, on planted *narrow* data: Algorithm 2 beside plain
averaging. Writes the table into BENCHMARKS.md and the chart into docs/images/mixing.png."""

import tempfile
from pathlib import Path

import plotly.graph_objects as go
from playwright.sync_api import sync_playwright

from bench.planted import FOLDER, planted
from bench.report import ROOT, Measure, write
from dashboard.screenshots import FLAGS, browser_path
from ffm_udf import mixing
from ffm_udf.row_store import RowStore, put

K, ETA, L2, EPOCHS, PATIENCE, SEED = 4, 0.2, 2e-5, 40, 2, 1
# How partitions are merged, and whether their step grows with them.
WAYS = {"Algorithm 2": ("sum", True), "plain averaging": ("average", True),
        "plain averaging, one partition's step": ("average", False)}  # fmt: skip
WITHIN = {2: (0.3, 1.4), 4: (0.3, 1.8), 8: (0.5, 2.4)}  # % of the loss of one partition, and times its epochs
CHART = ROOT / "docs" / "images" / "mixing.png"
TITLE = "Parameter mixing"


def main():
    folder, data = rows()
    curves = {(1, "Algorithm 2"): curve(folder, data, 1, "Algorithm 2")}
    for partitions in WITHIN:
        for way in WAYS:
            curves[partitions, way] = curve(folder, data, partitions, way)
    loss, epochs = best(curves[1, "Algorithm 2"])
    measures = [Measure("one partition: best logloss", loss, ""), Measure("one partition: epochs to it", epochs, "")]
    for partitions, (percent, times) in WITHIN.items():
        for way in WAYS:
            found, needed = best(curves[partitions, way])
            worse, more = 100 * (found / loss - 1), needed / epochs
            name = f"{partitions} partitions, {way}"
            held = way == "Algorithm 2"  # averaging is there to be compared with
            measures.append(_measure(f"{name}: best logloss above one partition's", worse, "%", percent, held))
            measures.append(_measure(f"{name}: epochs ÷ those of one partition", more, "×", times, held))
    notes = (
        f"500k planted rows, 12 fields, k = {K}, bias and linear terms, eta {ETA} for one partition, early stopping "
        f"with patience {PATIENCE}, seed {SEED}; the same code as the Spark job, its tasks one after the other. The "
        f"step grows with the partitions but where it says so. See `docs/training.md` for the chart."
    )
    write("mixing", TITLE, measures, notes)
    draw(curves)


def _measure(name, value, unit, bar, held):
    return Measure.at_most(name, value, unit, bar) if held else Measure(name, value, unit)


def rows():
    """The planted rows as a RowStore: period 0 to train on, period 1 to test."""
    data, folder = planted("narrow"), FOLDER.parent / "narrow_rows"
    if not (folder / "done").exists():
        names = [f"f{place}" for place in range(data.X_train.shape[1])]
        RowStore.create(folder, names, {0: len(data.y_train), 1: len(data.y_test)})
        put(folder, 0, data.X_train, data.y_train)
        put(folder, len(data.y_train), data.X_test, data.y_test)
        (folder / "done").touch()
    return folder, data


def curve(folder, data, partitions, way):
    """Validation logloss per epoch."""
    merge, grows = WAYS[way]
    eta = ETA if grows else ETA / partitions  # mixing.step_size multiplies by the partitions
    hyper = {"k": K, "eta": eta, "l2": L2, "epochs": EPOCHS, "patience": PATIENCE, "seed": SEED}
    task = {
        **{"model_id": "bench", "algorithm": "ffm", "role": "bench", "rows": str(folder), "hyperparameters": hyper},
        **{"fields": RowStore.open(folder).fields, "n_features": data.n_features, "folder": "", "lineage": {}},
        **{"train": [0, 0], "valid": [1, 1], "calib": None, "half_life": None, "init": None, "calibrator": None},
    }
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as work:
        found = mixing.simulate(task, Path(work) / "mixing", partitions, merge=merge)
    return [entry["valid_logloss"] for entry in found]


def best(losses):
    """(lowest loss, its epoch)."""
    return min(losses), losses.index(min(losses)) + 1


def draw(curves):
    """The chart: logloss by epoch, a colour per number of partitions, a dash per way to merge."""
    colours = {1: "#1b1b1b", 2: "#0072b2", 4: "#d55e00", 8: "#009e73"}  # told apart without colour vision, too
    figure = go.Figure()
    dashes = dict(zip(WAYS, ("solid", "dash", "dot"), strict=True))
    for (partitions, way), losses in curves.items():
        label = f"{partitions} partitions, {way}" if partitions > 1 else "1 partition"
        epochs = list(range(1, len(losses) + 1))
        line = {"color": colours[partitions], "dash": dashes[way], "width": 2}
        figure.add_scatter(x=epochs, y=losses, name=label, mode="lines", line=line)
        low, at = best(losses)
        dot = {"color": colours[partitions], "size": 9}
        figure.add_scatter(x=[at], y=[low], mode="markers", marker=dot, showlegend=False)
    figure.update_layout(
        template="simple_white", width=1000, height=520, margin={"l": 70, "r": 20, "t": 50, "b": 60},
        title="Test logloss by epoch; the dot is the best epoch", xaxis_title="epoch", yaxis_title="logloss",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        page_file = Path(folder) / "chart.html"
        figure.write_html(page_file, include_plotlyjs=True)
        browser = driver.chromium.launch(executable_path=browser_path(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 540}, device_scale_factor=2)
        page.goto(page_file.as_uri())
        page.wait_for_selector(".main-svg")
        CHART.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=CHART)
        browser.close()


if __name__ == "__main__":
    main()
