"""What alpaca_eval 0.6.6's own code computes from synthetic annotations of a judge.

    python -m venv v && v/bin/pip install alpaca_eval==0.6.6 --no-deps
    v/bin/pip install pandas==3.0.* scikit-learn==1.9.* scipy patsy huggingface_hub python-dotenv tiktoken datasets
    v/bin/python win_rates.py > win_rates.json

Its df_gamed.csv is on the Hub alone; here one of the same columns is made up.
"""

import importlib.util
import json
import sys
import tempfile
import types
import warnings

import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")
# Its __init__ imports clients of judges, which are not needed.
package = types.ModuleType("alpaca_eval")
package.__path__ = list(importlib.util.find_spec("alpaca_eval").submodule_search_locations)
sys.modules["alpaca_eval"] = package
from alpaca_eval.metrics import glm_winrate  # noqa: E402


def case(seed, rows, skill, slope, discrete=False):
    rng = np.random.default_rng(seed)
    difficulty = np.round(rng.normal(0, 1, rows), 4)
    gamed = []
    for shift in (-300, 400):
        delta = np.round((rng.normal(0, 200, rows) - shift) / 400, 4)
        odds = -0.8 * np.tanh(delta) + 0.1 * difficulty
        for i in range(rows):
            preference = float(np.round(1 / (1 + np.exp(-odds[i] - rng.normal(0, 1))), 4))
            gamed.append([i, preference, float(delta[i]), float(difficulty[i])])
    lengths = rng.integers(50, 3000, (rows, 2))
    delta = lengths[:, 0] - lengths[:, 1]
    odds = skill + slope * np.tanh(delta / delta.std()) + 0.4 * difficulty + rng.normal(0, 1.5, rows)
    share = 1 / (1 + np.exp(-odds))
    preference = np.where(share > 0.5, 2.0, 1.0) if discrete else np.round(1 + share, 6)
    preference[3] = 1.5
    if discrete:
        preference[4] = 0
    annotations = pd.DataFrame({
        "output_1": ["x" * n for n in lengths[:, 0]],
        "output_2": ["x" * n for n in lengths[:, 1]],
        "generator_1": "base",
        "generator_2": "model",
        "annotator": "judge",
        "preference": preference,
    })
    table = pd.DataFrame(gamed, columns=["index", "preference", "std_delta_len", "instruction_difficulty"])
    table["model"] = "gamed"
    table["not_gamed_baseline"] = False
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        table.to_csv(file.name, index=False)
        glm_winrate.hf_hub_download = lambda **_: file.name
        expected = {
            name: {
                key: float(value)
                for key, value in glm_winrate.get_length_controlled_winrate(
                    annotations.copy(), glm_name=name, save_weights_dir=None
                ).items()
            }
            for name in ("length_controlled_v1", "length_controlled_minimal")
        }
    return {"lengths": lengths.tolist(), "preference": preference.tolist(), "gamed": gamed, "expected": expected}


if __name__ == "__main__":
    cases = [case(1, 120, 0.6, -0.8), case(2, 150, -1.5, -1.5), case(3, 90, 0.1, -0.3, discrete=True)]
    print(json.dumps(cases, separators=(",", ":")))
