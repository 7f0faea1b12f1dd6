"""The menu of encoders."""

from mapsto.core.menus import Menu

ENCODERS = Menu(
    "encoders",
    {
        "transformer": "mapsto.encoders.transformer:Transformer",
        "recurrent": "mapsto.encoders.recurrent:Recurrent",
        "convnet": "mapsto.encoders.convnet:Convnet",
        "hub": "mapsto.encoders.hub:Hub",
        "hub-image": "mapsto.encoders.pictures:Pictures",
        "hub-audio": "mapsto.encoders.recordings:Recordings",
        "words": "mapsto.encoders.words:Words",
        "resnet": "mapsto.encoders.resnet:Resnet",
        "patches": "mapsto.encoders.patches:Patches",
        "vgg": "mapsto.encoders.vgg:VGG",
        "module": "mapsto.encoders.module:Module",
        "speech": "mapsto.encoders.speech:Speech",
        "voices": "mapsto.encoders.voices:Voices",
        "columns": "mapsto.encoders.columns:Columns",
        "trees": "mapsto.encoders.trees:Trees",
        "siamese": "mapsto.encoders.towers:Siamese",
        "cells": "mapsto.encoders.cells:Cells",
        "fused": "mapsto.encoders.fused:Fused",
        "space": "mapsto.encoders.space:Space",
    },
)
