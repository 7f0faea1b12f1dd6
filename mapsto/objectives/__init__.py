"""Menu of objectives that are not tasks: what an encoder learns from before it has labels, or from few."""

from mapsto.core.menus import Menu

OBJECTIVES = Menu(
    "objectives",
    {
        "masked": "mapsto.objectives.masked:Masked",
        "causal": "mapsto.objectives.causal:Causal",
        "contrast": "mapsto.objectives.contrast:Contrast",
    },
)
