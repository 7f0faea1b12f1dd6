"""The menu of self-supervised objectives: name ↦ where it lives."""

from mapsto.core.menus import Menu

OBJECTIVES = Menu(
    "objectives",
    {
        "masked": "mapsto.objectives.masked:Masked",
        "permuted": "mapsto.objectives.permuted:Permuted",
        "denoise": "mapsto.objectives.denoise:Denoise",
        "electra": "mapsto.objectives.electra:Electra",
        "causal": "mapsto.objectives.causal:Causal",
        "skipgram": "mapsto.objectives.words:SkipGram",
        "cbow": "mapsto.objectives.words:Cbow",
        "simclr": "mapsto.objectives.simclr:SimCLR",
        "moco": "mapsto.objectives.moco:MoCo",
        "speech": "mapsto.objectives.frames:MaskedFrames",
        "cpc": "mapsto.objectives.cpc:Cpc",
        "columns": "mapsto.objectives.columns:MaskedColumns",
        "scarf": "mapsto.objectives.scarf:Scarf",
        "contrast": "mapsto.objectives.contrast:Contrast",
        "align": "mapsto.objectives.align:Align",
    },
)
