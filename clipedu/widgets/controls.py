"""Controls shared by the labs."""

from __future__ import annotations

from typing import Any

import ipywidgets


def _slider(name: str, values: list[float], chosen: float, look: dict[str, Any]) -> ipywidgets.SelectionSlider:
    """A slider over these values and the chosen one, which it keeps to the last digit."""
    options = [(f"{value:g}", value) for value in sorted({float(f"{value:.3g}") for value in values} | {chosen})]
    return ipywidgets.SelectionSlider(options=options, value=chosen, description=name, continuous_update=False, **look)


def slider_check() -> ipywidgets.VBox:
    """A slider and what Python heard of it: if the number follows the slider, widgets work in both directions."""
    slider = ipywidgets.IntSlider(value=3, min=0, max=10, description="move me")
    heard = ipywidgets.Label(f"Python heard: {slider.value}")
    slider.observe(lambda change: setattr(heard, "value", f"Python heard: {change['new']}"), "value")
    return ipywidgets.VBox([slider, heard])
