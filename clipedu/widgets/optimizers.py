"""The optimizer lab: compare the paths of optimizers in one landscape.

    lab = OptimizerLab()    # the last line of a cell shows it
    lab.paths               # name -> path of what it shows
    print(lab.script)       # Python that makes the same view

Each view is one call of `clipedu.toys.landscapes.descend` for each optimizer and one of `plot_descent`.
"""

from __future__ import annotations

import math
from typing import Any

import ipywidgets

from clipedu.optim import DECAY_LAWS, OPTIMIZERS
from clipedu.optim.schedule import SCHEDULES
from clipedu.plots.optimizers import plot_descent
from clipedu.plots.style import to_png
from clipedu.toys.landscapes import LANDSCAPES, Descent, coupled_minimum, descend
from clipedu.utils.errors import ClipeduError
from clipedu.widgets.controls import Lab, control_style, slider

SHOWN = ("sgd", "sgdw", "adam", "adamw", "nadamw", "lion", "muon", "scion", "scionc")
RATES = [0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0]
DECAYS = [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
SCALES = [("x 1/1000", 0.001), ("x 1/50", 0.02), ("x 1/10", 0.1), ("x 1", 1.0), ("x 10", 10.0)]
MOST = 7  # as many as there are colours


class OptimizerLab(Lab):
    """Choose optimizers, their settings and a landscape; see their paths.

    Attributes:
        paths: the paths that are shown, by the optimizer's name.
    """

    def __init__(self):
        super().__init__("760px")
        self.paths: dict[str, Descent] = {}
        style = control_style("330px", "95px")
        on_release = style | {"continuous_update": False}
        self.optimizers = ipywidgets.SelectMultiple(
            options=SHOWN,
            value=("sgd", "adam", "adamw"),
            rows=8,
            description="optimizers",
            tooltip="several: Ctrl or Cmd and click",
            **style,
        )
        self.lr = slider("lr", RATES, 0.1, style)
        self.momentum = ipywidgets.FloatSlider(
            min=0, max=0.98, step=0.02, value=0.9, description="momentum", readout_format=".2f", **on_release
        )
        self.weight_decay = slider("weight decay", DECAYS, 0.1, style)
        self.law = ipywidgets.Dropdown(options=list(DECAY_LAWS), value="constant", description="decay law", **style)
        self.scale = ipywidgets.SelectionSlider(options=SCALES, value=1.0, description="loss", **on_release)
        self.noise = ipywidgets.FloatSlider(min=0, max=5, step=0.5, value=0, description="noise", **on_release)
        self.schedule = ipywidgets.Dropdown(options=list(SCHEDULES), value="cosine", description="schedule", **style)
        self.landscape = ipywidgets.Dropdown(options=list(LANDSCAPES), value="valley", description="landscape", **style)
        self.table = ipywidgets.HTML()
        columns = (
            [self.optimizers],
            [self.lr, self.momentum, self.weight_decay, self.law],
            [self.scale, self.noise, self.schedule, self.landscape],
        )
        self._arrange(columns, [self.status, self.picture, self.table, self.line])

    def _script(self) -> str:
        calls = "".join(
            f"    {name!r}: descend({name!r}, {_arguments(self._settings(name))}),\n" for name in self.paths
        )
        return (
            "from clipedu.toys.landscapes import descend\nfrom clipedu.plots.optimizers import plot_descent\n\n"
            f"paths = {{\n{calls}}}\nplot_descent({{{self._title!r}: paths}})"
        )

    @property
    def _title(self) -> str:
        loss = f"loss x {self.scale.value:g}"
        return f"{loss}, lr {self.lr.value:g}, weight decay {self.weight_decay.value:g} ({self.law.value})"

    def _settings(self, name: str) -> dict[str, Any]:
        """Return arguments of `descend`; the law only for decoupled decay."""
        settings = {"lr": self.lr.value, "momentum": round(self.momentum.value, 2)}
        settings["weight_decay"] = self.weight_decay.value
        if "decay_law" in OPTIMIZERS[name].defaults:
            settings["decay_law"] = self.law.value
        rest = {"scale": self.scale, "noise": self.noise, "schedule": self.schedule, "landscape": self.landscape}
        return settings | {key: control.value for key, control in rest.items()}

    def _draw(self) -> None:
        paths = {name: descend(name, **self._settings(name)) for name in self.optimizers.value[:MOST]}
        if not paths:
            raise ClipeduError("Choose an optimizer; for several, hold Ctrl or Cmd and click")
        self.paths = paths
        self._say(f"Only the first {MOST} are shown." if len(self.optimizers.value) > MOST else "", warn=True)
        coupled = self.landscape.value == "valley" and any(_law(name, self.law.value) == "coupled L2" for name in paths)
        pulled = coupled_minimum(self.weight_decay.value, self.scale.value)
        self.picture.value = to_png(
            plot_descent({self._title: paths}, pulled_to={self._title: pulled} if coupled else None)
        )
        self.table.value = self._table()

    def _table(self) -> str:
        """Return final distances to minimum and origin, and steps, in HTML."""
        heads = ("optimizer", "decay", "end to minimum", "end to origin", "steps until within 0.1 of the minimum")
        rows = ["".join(f'<th style="padding:0 14px;text-align:left">{head}</th>' for head in heads)]
        for name, path in self.paths.items():
            lost = not math.isfinite(path.distance)
            ends = ("left the numbers", "") if lost else (f"{path.distance:.3f}", f"{path.from_origin:.3f}")
            steps = path.steps_to(0.1)
            cells = (name, _law(name, self.law.value), *ends, "never" if steps is None else str(steps))
            rows.append("".join(f'<td style="padding:0 14px">{cell}</td>' for cell in cells))
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _law(name: str, law: str) -> str:
    """Name the decay of an optimizer, as the table does."""
    if name == "scionc":
        return "corrected"
    return law if "decay_law" in OPTIMIZERS[name].defaults else "coupled L2"


def _arguments(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in settings.items())
