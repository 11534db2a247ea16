"""The norm lab: choose a random walk; see its norm beside the prediction.

    lab = NormLab()         # the last line of a cell shows it
    lab.walk                # the `Walk` of what it shows
    print(lab.script)       # Python that makes the same view

Each change is one call of `clipedu.norms.sandbox`, with few chains so that it takes a second, and one of `plot_walk`. The
text below the picture says what was predicted.
"""

from __future__ import annotations

import math
from typing import Any

import ipywidgets

from clipedu.norms import Walk, sandbox
from clipedu.norms.contribution import NORMALISERS, average, contribution_factor
from clipedu.norms.equilibrium import balance, time_constant
from clipedu.optim import DECAY_LAWS
from clipedu.optim.schedule import SCHEDULES
from clipedu.plots.random_walks import plot_walk
from clipedu.plots.style import to_png
from clipedu.widgets.controls import Lab, control_style, paragraphs, slider

RATES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]
DECAYS = [0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
BETAS = [0.0, 0.5, 0.8, 0.9, 0.95, 0.98]
STARTS = {"at its balance": None, "at 0": 0.0, "at a quarter of it": 0.25, "at four times it": 4.0}
STEPS, WARMUP = 1000, 50


class NormLab(Lab):
    """Choose lr, decay, momentum, law and schedule; see norms of a weight.

    Attributes:
        walk: the walk that it shows, of the last choice that worked.
    """

    def __init__(self):
        super().__init__("900px")
        self.walk: Walk | None = None
        style = control_style("340px")

        def menu(name: str, options: list[str] | dict[str, str], value: str) -> ipywidgets.Dropdown:
            return ipywidgets.Dropdown(options=options, value=value, description=name, **style)

        self.lr = slider("peak lr", RATES, 0.01, style)
        self.weight_decay = slider("weight decay", DECAYS, 0.5, style)
        self.beta = slider("momentum", BETAS, 0.9, style)
        self.law = menu("decay law", list(DECAY_LAWS), "constant")
        self.schedule = menu("schedule", list(SCHEDULES), "cosine")
        self.normaliser = menu("normaliser", list(NORMALISERS), "adam")
        self.begin = menu("start", list(STARTS), "at its balance")
        self.quantity = menu("show", {"norm of the weight": "norm", "cos(w, u)": "cosine"}, "norm")
        self.about = ipywidgets.HTML(layout=ipywidgets.Layout(max_width="1050px"))
        columns = (
            [self.lr, self.weight_decay, self.beta],
            [self.law, self.schedule, self.normaliser],
            [self.begin, self.quantity],
        )
        self._arrange(columns, [self.status, self.picture, self.about, self.line])

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `sandbox` after the normaliser."""
        matrix = self.normaliser.value == "polar"  # polar factors take longest: fewer chains
        settings: dict[str, Any] = {
            "lr": self.lr.value,
            "weight_decay": self.weight_decay.value,
            "alpha": round(1 - self.beta.value, 6),
            "law": self.law.value,
            "schedule": self.schedule.value,
            "warmup": WARMUP if self.schedule.value == "cosine" else 0,
            "steps": STEPS,
            "shape": (8, 16) if matrix else 64,
            "chains": 24 if matrix else 128,
        }
        start = STARTS[self.begin.value]
        return settings | {"start": start and start * self._balance(settings)}

    def _script(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        show = "" if self.quantity.value == "norm" else f", {self.quantity.value!r}"
        return "\n".join(
            [
                "from clipedu.norms import sandbox",
                "from clipedu.plots.norms import plot_walk",
                f"walk = sandbox({self.normaliser.value!r}, {given})",
                f"plot_walk(walk{show})",
            ]
        )

    def _balance(self, settings: dict[str, Any]) -> float:
        """Return ||w||^2 / C at which the walk settles at the peak lr."""
        shrink = settings["lr"] * settings["weight_decay"]
        matrix = settings["shape"] if self.normaliser.value == "polar" else None
        memory = average(settings["alpha"])
        return balance(
            settings["lr"], shrink, contribution_factor(memory, self.normaliser.value, matrix, keep=1 - shrink)
        )

    def _draw(self) -> None:
        self.walk = sandbox(self.normaliser.value, **self.settings)
        end = f"theory {self.walk.predicted[-1]:.4g}, walked {self.walk.measured[-1]:.4g} ± {self.walk.error[-1]:.1g}"
        self._say(f"||w||^2 / C after {self.walk.step[-1]} steps: {end}")
        self.about.value = paragraphs(in_words(self.walk))
        self.picture.value = to_png(plot_walk(self.walk, self.quantity.value))


def in_words(walk: Walk) -> list[str]:
    """Describe the prediction for a walk in two or three sentences."""
    lr, alpha, shape = (walk.settings[name] for name in ("lr", "alpha", "shape"))
    shrink = lr * walk.settings["weight_decay"]
    matrix = shape if isinstance(shape, tuple) else None
    effective = lr * math.sqrt(contribution_factor(average(alpha), walk.settings["normaliser"], matrix))
    step = f"Momentum {1 - alpha:g} makes a step of {lr:g} count like one of {effective:.3g} without momentum."
    if alpha == 1:
        step = f"Without momentum a step of {lr:g} counts once."
    if shrink == 0:
        return ["There is no decay, so there is no balance: the weight grows for as long as it walks.", step]
    peak = f"At the peak a step takes {100 * shrink:.3g} % of the weight"
    waits = f"the gap to its balance falls by e in {time_constant(shrink):.3g} steps."
    if walk.Lambda < 1:
        verdict = "less than 1: this run is too short to come near its balance, it ends where it starts"
    elif walk.Lambda < 4:
        verdict = f"a share of {math.exp(-walk.Lambda):.2g} of the initial gap is left: neither start nor balance alone decides"
    else:
        verdict = "its start is forgotten, if lr stayed up for long enough"
    return [f"{peak}; {waits}", step, f"Lambda = 2 * (sum of shrinks) = {walk.Lambda:.3g}: {verdict}."]
