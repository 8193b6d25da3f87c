"""The slow oracle: FFM in plain Python and float64, written from the formulas and from nothing of ffm_udf.

A row is a list of entries (field, feature, value). Weights are lists: v[feature][field][factor], w[feature], b, and the
AdaGrad sums beside them. One step follows libffm: entries in order, pair after pair, each pair with the weights it
finds; both gradients of a pair use the old values.
"""

import math
from dataclasses import dataclass, field


@dataclass
class NaiveFFM:
    """Weights and AdaGrad sums; `sums` is "vector" (one sum per latent vector, of mean squares) or "weight"."""

    v: list
    w: list
    b: float = 0.0
    eta: float = 0.2
    l2: float = 2e-5
    normalize: bool = True
    linear: bool = True
    bias: bool = True
    sums: str = "vector"
    v_sums: list = field(default_factory=list)
    w_sums: list = field(default_factory=list)
    b_sum: float = 1.0

    def __post_init__(self):
        each = self.sums == "weight"
        self.v_sums = [[[1.0] * (len(vector) if each else 1) for vector in block] for block in self.v]
        self.w_sums = [1.0] * len(self.w)

    def scale(self, row):
        """R = 1 / sum of squared values; 1 without normalisation or values."""
        norm = sum(x * x for _, _, x in row)
        return 1.0 / norm if self.normalize and norm > 0.0 else 1.0

    def logit(self, row):
        scale, n = self.scale(row), len(self.w)
        total = self.b if self.bias else 0.0
        if self.linear:
            total += math.sqrt(scale) * sum(self.w[j] * x for _, j, x in row if j < n)
        for p, (f, j, x) in enumerate(row):
            for g, m, z in row[p + 1 :]:
                if j < n and m < n:
                    total += scale * x * z * sum(a * b for a, b in zip(self.v[j][g], self.v[m][f], strict=True))
        return total

    def loss(self, row, y):
        z = self.logit(row)
        return max(z, 0.0) - y * z + math.log1p(math.exp(-abs(z)))

    def slope(self, row, y):
        """dloss / dlogit."""
        return 1.0 / (1.0 + math.exp(-self.logit(row))) - y

    def gradient(self, row, y):
        """{weight: dloss / dweight}, without l2; weights are ("b",), ("w", j) and ("v", j, field, factor)."""
        scale, slope, out = self.scale(row), self.slope(row, y), {}
        if self.bias:
            out["b",] = slope
        for p, (f, j, x) in enumerate(row):
            if self.linear:
                out["w", j] = out.get(("w", j), 0.0) + slope * math.sqrt(scale) * x
            for g, m, z in row[p + 1 :]:
                for d in range(len(self.v[j][g])):
                    for own, other in ((("v", j, g, d), self.v[m][f][d]), (("v", m, f, d), self.v[j][g][d])):
                        out[own] = out.get(own, 0.0) + slope * scale * x * z * other
        return out

    def step(self, row, y, importance=1.0):
        """One AdaGrad step in place; returns the loss before it."""
        loss, kappa, scale = self.loss(row, y), importance * self.slope(row, y), self.scale(row)
        for p, (f, j, x) in enumerate(row):
            for g, m, z in row[p + 1 :]:
                own, other = list(self.v[j][g]), list(self.v[m][f])
                self._step_vector(j, g, kappa * scale * x * z, other)
                self._step_vector(m, f, kappa * scale * x * z, own)
        if self.linear:
            for _, j, x in row:
                gradient = kappa * math.sqrt(scale) * x + self.l2 * self.w[j]
                self.w_sums[j] += gradient**2
                self.w[j] -= self.eta * gradient / math.sqrt(self.w_sums[j])
        if self.bias:
            self.b_sum += kappa**2
            self.b -= self.eta * kappa / math.sqrt(self.b_sum)
        return loss

    def _step_vector(self, j, f, kappa, partner):
        vector, sums = self.v[j][f], self.v_sums[j][f]
        gradient = [kappa * b + self.l2 * a for a, b in zip(vector, partner, strict=True)]
        if self.sums == "vector":
            sums[0] += sum(g * g for g in gradient) / len(gradient)
        for d, g in enumerate(gradient):
            if self.sums == "weight":
                sums[d] += g * g
            vector[d] -= self.eta * g / math.sqrt(sums[d if self.sums == "weight" else 0])
