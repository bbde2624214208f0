"""Intervals and tests of scipy: python statistics.py > statistics.json (numpy 2, scipy 1.18).

The values are a formula's, so that they need not be kept."""
import json
import numpy as np
from scipy import stats

n = np.arange(60)
values = np.round(np.sin(n * 1.7) + 0.3 * np.cos(n * 0.37) + 0.15, 6)
weights = 1 + n % 5
rng = np.random.default_rng(1)
mean = stats.bootstrap((values,), np.mean, n_resamples=50_000, method="percentile", rng=rng).confidence_interval
ratio = stats.bootstrap((values, weights), lambda v, w, axis=-1: v.sum(axis) / w.sum(axis), paired=True,
                        n_resamples=50_000, method="percentile", rng=rng).confidence_interval
splits = [(0, 0), (0, 3), (5, 5), (7, 12), (20, 3), (400, 460), (9000, 9300)]
print(json.dumps({
    "mean": [values.mean(), *mean], "ratio": [values.sum() / weights.sum(), *ratio],
    "quantiles": [[q, np.quantile(values, q)] for q in (0, 0.025, 0.31, 1)],
    "mcnemar": [[a, b, stats.binomtest(a, a + b).pvalue if a + b else 1.0] for a, b in splits],
}))
