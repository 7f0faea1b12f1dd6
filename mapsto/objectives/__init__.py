"""Menu of objectives that are not tasks: what an encoder learns from before it has labels, or from few."""

from mapsto.core.menus import Menu

OBJECTIVES = Menu("objectives", {"contrast": "mapsto.objectives.contrast:Contrast"})
