"""The comparison of `clipedu compare geometries`.

Cosine, Euclidean d^2 and Lorentz d, with and without entailment.
"""

from clipedu.studies.comparison import Comparison

# -d^2 starts at temperature 1 in EuCLIP, for long runs: a learned temperature moves by a factor of 1.2 in the laptop preset's 250
# steps. On pairs held out 0.05 to 0.3 were best here, with little between them (docs/results/geometries.md).
SQUARED = {"geometry": "euclidean-squared", "temperature": 0.1}

COMPARISON = Comparison(
    "cosine, Euclidean d^2 and Lorentz d, the last two also with entailment; temperature learned",
    {
        "cosine": {"geometry": "cosine"},
        "euclidean-squared": SQUARED,
        "lorentz": {"geometry": "lorentz"},
        "euclidean-squared+entailment": {
            **SQUARED,
            "entailment": 0.2,
            "entailment_options": {"min_radius": 0.3, "final_min_radius": 0.1},
        },
        "lorentz+entailment": {"geometry": "lorentz", "entailment": 0.2, "entailment_options": {"min_radius": 0.1}},
    },
    {"learn_temperature": True},
)
