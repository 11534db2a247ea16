"""What a run keeps beside its checkpoints.

That is its tokenizer, the text configuration, and a description of its sets. A run of a released model keeps that model's settings and
tokenizer as its library writes them (`clipedu.interop.kept`).

Each is written once, beside its place, and renamed. A resumed run writes only what is missing or damaged: so neither a full disk
nor a kill takes anything away.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.interop.kept import RELEASED, rebuild
from clipedu.interop.released_tokenizer import ReleasedTokenizer
from clipedu.runs.schema import DATA as SETS
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_folder, read_json, reported, write_json
from clipedu.utils.hub import quiet
from clipedu.utils.importing import importing

if TYPE_CHECKING:
    from clipedu.data.tokenizer import Tokenizer

TOKENIZER, TEXT_ENCODER, DATA = "tokenizer", "text_encoder", "data.json"
_PROBE = ["A Red-Circle, left of 12 blue squares.", "über <b>&amp;</b> the_house"]

log = logging.getLogger("clipedu")


def tokenizer_sum(tokenizer: Tokenizer | ReleasedTokenizer) -> str:
    """Return a hash of a tokenizer.

    It covers vocabulary, settings, and how two sentences are split. It is the same for all versions of the tokenizers library.
    """
    if isinstance(tokenizer, ReleasedTokenizer):
        return tokenizer.identity()
    vocabulary = sorted(tokenizer.tokenizer.get_vocab().items())
    ids = tokenizer.encode(_PROBE)[0].tolist()
    facts = [vocabulary, tokenizer.length, tokenizer.pad_id, tokenizer.clean, ids]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def kept_tokenizer(run: Path, expected: str | None) -> Any:
    """Load the tokenizer that a run keeps, None if it has to be made again.

    That of a released model is a `ReleasedTokenizer`.

    Args:
        run: the run's folder.
        expected: `tokenizer_sum` of the one it was trained with so far; None where that is not known.
    Raises:
        ClipeduError: it is damaged, and nothing says what it was.
    """
    from clipedu.data.tokenizer import Tokenizer

    folder = run / TOKENIZER
    if (run / RELEASED).is_dir():
        return rebuild(run / RELEASED, read_json(run / "experiment.json").get("image_size")).tokenizer
    if not folder.exists():
        return None
    try:
        tokenizer = Tokenizer.load(folder)
        if expected is None or tokenizer_sum(tokenizer) == expected:
            return tokenizer
    except ClipeduError:
        if expected is None:
            raise

    return None


def check_tokenizer(run: Path, tokenizer: Tokenizer | ReleasedTokenizer, expected: str | None) -> None:
    """Check that a tokenizer is the one that a run was trained with so far.

    Args:
        run: the run's folder.
        tokenizer: what `kept_tokenizer` returned, or else the one that was made again.
        expected: as that of `kept_tokenizer`.
    Raises:
        ClipeduError: it is another.
    """
    if expected not in (None, tokenizer_sum(tokenizer)):
        raise ClipeduError(
            f"the tokenizer of {run} is missing or damaged, and the one made again of the data is another: "
            f"put a copy of {run / TOKENIZER} back"
        )


def keep_tokenizer(run: Path, tokenizer: Tokenizer | ReleasedTokenizer) -> None:
    """Write a run's tokenizer where it is missing or damaged.

    Raises:
        ClipeduError: it cannot be written.
    """
    from clipedu.data.tokenizer import Tokenizer

    if isinstance(tokenizer, ReleasedTokenizer):  # which is kept with the model's settings
        return
    folder, now = run / TOKENIZER, tokenizer_sum(tokenizer)
    try:
        if folder.exists() and tokenizer_sum(Tokenizer.load(folder)) == now:
            return
    except ClipeduError:
        pass
    _put(folder, tokenizer.save)


def text_config_sum(run: Path) -> str | None:
    """Return a hash of the text configuration that a run keeps.

    It covers neither versions nor paths. None: there is none, or it is damaged.

    Args:
        run: the run's folder.
    """
    try:
        content = read_json(run / TEXT_ENCODER / "config.json")
    except ClipeduError:
        return None
    return hashlib.sha256(json.dumps(_plain(content), sort_keys=True).encode()).hexdigest() if content else None


@importing()
def keep_text_config(run: Path, config: Any, expected: str | None = None) -> None:
    """Write a text model's configuration where it is missing or damaged.

    One that another version of transformers has written stays as it is, unless it was changed since.

    Args:
        run: the run's folder.
        config: of the text encoder, a transformers configuration.
        expected: `text_config_sum` when it was trained; None where that is not known.
    Raises:
        ClipeduError: it cannot be written.
    """
    from transformers import AutoConfig

    folder = run / TEXT_ENCODER
    if folder.exists():
        try:
            with quiet():
                kept = AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
            written_by = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("transformers_version")
        except Exception as error:  # noqa: BLE001  whatever a damaged file raises in transformers
            log.warning("the text configuration in %s is damaged (%s): writing it again", folder, _line(error))
        else:
            now, other = config.to_dict(), expected not in (None, text_config_sum(run))
            if _plain(kept) == _plain(now) or (written_by != now.get("transformers_version") and not other):
                return
            log.warning("the text configuration in %s was changed: writing it again", folder)
    _put(folder, config.save_pretrained)


def keep_descriptions(run: Path, describe: Callable[[], list[dict[str, Any]]]) -> None:
    """Write data.json where it is missing or damaged.

    Args:
        run: the run's folder.
        describe: returns a description of each set.
    Raises:
        ClipeduError: it cannot be written.
    """
    try:
        if read_json(run / DATA, SETS):
            return
    except ClipeduError as error:
        log.warning("%s: writing it again", error)
    write_json(run / DATA, describe())


def _put(folder: Path, save: Callable[[Path], Any]) -> None:
    """Write a folder beside its place and rename it; what was there goes only then."""
    with reported(folder):
        old = None
        with atomic_folder(folder) as partial:
            try:
                save(partial)
            except (OSError, ClipeduError):
                raise
            except Exception as error:  # noqa: BLE001  the tokenizers library raises a bare one for a full disk
                raise ClipeduError(f"{folder} cannot be written: {_line(error)}") from None
            if folder.exists():
                old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.damaged")
                folder.rename(old)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as JSON keeps it, without where it came from."""
    names = ("transformers_version", "_name_or_path", "name_or_path", "dtype", "torch_dtype", "architectures")
    return json.loads(json.dumps({key: value for key, value in config.items() if key not in names}, default=str))


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
