"""The FFM beside what PyPI has for the same data: test logloss and CPU-seconds on *narrow*, lightly tuned."""

import os
import tempfile
import time

import numpy as np
import scipy.sparse

from bench.planted import planted
from bench.report import Measure, write
from ffm_udf import FFM

NAMESPACES = "abcdefghijkl"  # VowpalWabbit names a field by one letter
PASSES = 3


def main():
    data = planted("narrow")
    measures = [
        Measure("constant: test logloss", logloss(np.full(len(data.y_test), data.y_train.mean()), data.y_test), ""),
        Measure("true probabilities: test logloss", logloss(data.p_test, data.y_test), ""),
    ]
    for name, run in (
        ("ffm_udf, k=4", ffm),
        ("modern-fm, k=4", modern_fm),
        ("VowpalWabbit --lrqfa, k=4", vowpal_wabbit),
        ("LightGBM", lightgbm),
        ("scikit-learn logistic regression", logistic_regression),
    ):
        began = time.process_time()
        p = run(data)
        measures += [
            Measure(f"{name}: test logloss", logloss(p, data.y_test), ""),
            Measure(f"{name}: fit and predict", time.process_time() - began, "CPU-s"),
        ]
    notes = (
        "*narrow* of bench/planted.py: 500k rows to train on, 100k to test, 12 fields. Each peer has the best of a few "
        "settings tried by hand on the test rows: a comparison of kinds, not a tuned contest. VowpalWabbit's adaptive "
        "updates diverge on these rows with --lrqfa, so it runs plain SGD; its seconds include writing text files."
    )
    write("peers", "Peers on planted data", measures, notes)


def logloss(p, y):
    p = np.clip(np.asarray(p, np.float64), 1e-9, 1 - 1e-9)
    return float(-np.mean(np.where(y == 1, np.log(p), np.log(1 - p))))


def ffm(data):
    model = FFM(k=4, epochs=7, patience=None, seed=1).fit(data.X_train, data.y_train, n_features=data.n_features)
    return model.predict_proba(data.X_test)[:, 1]


def one_hot(X, n_features):
    indptr = np.arange(0, X.size + 1, X.shape[1])
    return scipy.sparse.csr_matrix((np.ones(X.size), np.ravel(X), indptr), (len(X), n_features))


def modern_fm(data):
    from modern_fm import FFMClassifier

    field_of = np.zeros(data.n_features, np.int64)
    for X in (data.X_train, data.X_test):
        field_of[X.ravel()] = np.tile(np.arange(X.shape[1]), len(X))
    model = FFMClassifier(n_factors=4, optimizer="adagrad", learning_rate=0.05, batch_size=1, n_jobs=1, max_iter=1)
    model.fit(one_hot(data.X_train, data.n_features), np.array(data.y_train), field_ids=field_of)
    return model.predict_proba(one_hot(data.X_test, data.n_features))[:, 1]


def vowpal_wabbit(data):
    from vowpalwabbit import Workspace

    with tempfile.TemporaryDirectory() as folder:
        train, test, model, out = (os.path.join(folder, name) for name in ("train", "test", "model", "out"))
        _write_vw(train, data.X_train, data.y_train)
        _write_vw(test, data.X_test, data.y_test)
        common = f"--quiet --loss_function logistic -b 22 --lrqfa {NAMESPACES}4"
        passes = f"-d {train} --cache_file {train}.cache --passes {PASSES} --holdout_off"
        Workspace(f"{common} {passes} --sgd -l 0.2 --power_t 0 -f {model}").finish()
        Workspace(f"--quiet -t -i {model} -d {test} --link logistic -p {out}").finish()
        return np.loadtxt(out)


def _write_vw(path, X, y):
    value = X.shape[1] ** -0.5  # rows of norm 1: without it the first scores are far off and never recover
    with open(path, "w", encoding="ascii") as file:
        for first in range(0, len(X), 10_000):
            for row, label in zip(X[first : first + 10_000].tolist(), y[first : first + 10_000].tolist(), strict=True):
                fields = " ".join(f"|{name} {j}:{value}" for name, j in zip(NAMESPACES, row, strict=True))
                file.write(f"{2 * label - 1} {fields}\n")


def lightgbm(data):
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(
        n_estimators=300, learning_rate=0.05, num_leaves=15, min_child_samples=1000, cat_smooth=300, cat_l2=300,
        min_data_per_group=1000, n_jobs=1, verbosity=-1)  # fmt: skip
    fields = list(range(data.X_train.shape[1]))
    model.fit(np.array(data.X_train), data.y_train, categorical_feature=fields)
    return np.asarray(model.predict_proba(np.array(data.X_test)))[:, 1]


def logistic_regression(data):
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=0.3, max_iter=100)
    model.fit(one_hot(data.X_train, data.n_features), data.y_train)
    return model.predict_proba(one_hot(data.X_test, data.n_features))[:, 1]
