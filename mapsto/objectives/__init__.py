"""The menu of self-supervised objectives: name ↦ where it lives."""

from mapsto.core.menus import Menu

OBJECTIVES = Menu(
    "objectives",
    {
        "masked": "mapsto.objectives.masked:Masked",
        "causal": "mapsto.objectives.causal:Causal",
        "skipgram": "mapsto.objectives.words:SkipGram",
        "cbow": "mapsto.objectives.words:Cbow",
        "contrast": "mapsto.objectives.contrast:Contrast",
    },
)
