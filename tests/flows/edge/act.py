import os
import re
import signal
import sys
import time

import numpy
from promptflow.core import tool

VALUES = {
    "dict": {"a": [1, 2, {"b": "ü"}], "nan": float("nan")},
    "list": ["x", None, 3.5],
    "none": None,
    "empty": "",
    "numpy": numpy.float32(1.5),
    "infinity": float("inf"),
}


@tool
def act(text: str, topic: str) -> object:
    """Do what the directives in the topic say: `raise`, `kill`, `hang` or `give` a value (`mlflow`: whether it is loaded)."""
    do = dict(re.findall(r"\[\[(raise|kill|hang|give)=(.*?)\]\]", topic))
    if "raise" in do:
        raise ValueError(do["raise"])
    if "kill" in do:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in do:
        time.sleep(float(do["hang"]))
    if do.get("give") == "mlflow":
        return any(name.partition(".")[0] == "mlflow" for name in list(sys.modules))
    return VALUES[do["give"]] if "give" in do else text
