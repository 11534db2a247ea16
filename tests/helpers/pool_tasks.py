"""What the tests of the pool let workers do; a worker imports it from here."""

import logging
import os
import time
import warnings
from pathlib import Path

from clipedu.utils.errors import ClipeduError


def task(shared, what, *rest, on_steps):
    """Do one of the functions below."""
    on_steps(0, 4)
    globals()[what](shared, *rest)
    on_steps(4, 4)


def add(shared, folder, number):
    """Write a number plus what is shared, the threads of torch, and who has done it."""
    import torch

    total = float(shared["table"].sum()) + number
    Path(folder, f"{number}.txt").write_text(f"{total} {torch.get_num_threads()} {os.getpid()}")


def say(shared, text):
    logging.getLogger("clipedu").warning(text)
    logging.getLogger("clipedu").debug("not heard")
    warnings.warn_explicit("old", FutureWarning, "place.py", 7)
    warnings.warn(f"of {text}", UserWarning, stacklevel=1)
    print("printed by a library", flush=True)


def fail(shared, kind):
    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    raise {"clipedu": ClipeduError("cannot"), "odd": Odd(1, 2), "exit": SystemExit(3)}[kind]


def die(shared, number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(shared, code):
    os._exit(code)


def wait(shared, folder, name):
    """Wait to be stopped, and write how that came."""
    try:
        Path(folder, name).write_text(str(os.getpid()))
        time.sleep(60)
    except KeyboardInterrupt as error:
        Path(folder, name).write_text(type(error).__name__)
        raise
