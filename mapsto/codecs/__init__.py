"""The menu of codecs."""

from mapsto.core.menus import Menu

CODECS = Menu(
    "codecs",
    {
        "text": "mapsto.codecs.text:TextCodec",
        "words": "mapsto.codecs.words:WordsCodec",
        "image": "mapsto.codecs.image:ImageCodec",
        "audio": "mapsto.codecs.audio:AudioCodec",
        "columns": "mapsto.codecs.columns:ColumnsCodec",
        "joint": "mapsto.codecs.joint:JointCodec",
    },
)
