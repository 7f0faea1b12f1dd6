"""The menu of encoders."""

from mapsto.core.menus import Menu

ENCODERS = Menu(
    "encoders",
    {
        "transformer": "mapsto.encoders.transformer:Transformer",
        "hub": "mapsto.encoders.hub:Hub",
        "siamese": "mapsto.encoders.towers:Siamese",
    },
)
