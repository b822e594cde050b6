import os
import re
import sys
import time

from promptflow.core import tool


@tool
def act(topic: str, text: str) -> str:
    """Do what the directives in the topic say: `home`, `raise`, `exit`, `die` or `hang`."""
    do = dict(re.findall(r"\[\[(home|raise|exit|die|hang)=(.*?)\]\]", topic))
    if "home" in do:
        os.environ["PF_HOME_DIRECTORY"] = do["home"]
    if "raise" in do:
        raise ValueError(do["raise"])
    if "exit" in do:
        sys.exit(int(do["exit"]))
    if "die" in do:
        os._exit(int(do["die"]))
    if "hang" in do:
        time.sleep(float(do["hang"]))
    return text
