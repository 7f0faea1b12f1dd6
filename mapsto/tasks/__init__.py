"""Menu of tasks: what turns an encoded example into an answer."""

from mapsto.core.menus import Menu

TASKS = Menu(
    "tasks",
    {
        "classify": "mapsto.tasks.classify:Classify",
        "regress": "mapsto.tasks.regress:Regress",
        "transcribe": "mapsto.tasks.transcribe:Transcribe",
    },
)
