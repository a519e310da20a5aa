"""Tokenizers and image processors as bytes: a zip of what ``save_pretrained`` writes."""

from __future__ import annotations

import json
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from flair.embeddings._transformer.loading import from_hub

SLOW_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model")
IMAGE_MODELS = ("layoutlmv2", "layoutlmv3", "layoutxlm")
"""Model types that look at the page's image besides its words."""
_MOST_UNPACKED = 1 << 28
"""Bytes; the largest vocabularies have some tens of millions."""
_RENAMED_PROCESSORS = ("FeatureExtractor", "ImageProcessor")


def load_tokenizer(name: str, **options: Any) -> Any:
    """The tokenizer of a model name or folder, with prefix spaces for byte-level BPE: words are tokenised singly."""
    from transformers import AutoTokenizer

    options = {"add_prefix_space": True, **options}
    tokenizer = from_hub(AutoTokenizer.from_pretrained, name, **options)
    if getattr(tokenizer, "is_fast", False) and options["add_prefix_space"]:
        # transformers 5 honours the option for some classes only
        splitter = tokenizer.backend_tokenizer.pre_tokenizer
        if getattr(splitter, "add_prefix_space", None) is False:
            splitter.add_prefix_space = True
            tokenizer.backend_tokenizer.pre_tokenizer = splitter
    return tokenizer


def prepare_tokenizer(tokenizer: Any) -> Any:
    """Give tokenizers of models that were trained without padding (GPT-2, Llama) a padding token.

    The attention mask hides these positions, so that any token does.
    """
    if tokenizer.pad_token_id is None:
        replacement = tokenizer.eos_token or tokenizer.unk_token or tokenizer.bos_token
        if replacement is not None:
            tokenizer.pad_token = replacement
    return tokenizer


def pack(saveable: Any) -> BytesIO:
    """Zip the files of ``saveable.save_pretrained``; equal contents give equal bytes."""
    with tempfile.TemporaryDirectory() as folder:
        saveable.save_pretrained(folder)
        paths = sorted(path for path in Path(folder).iterdir() if path.is_file())
        if any(path.name == "tokenizer.json" for path in paths):
            paths = [path for path in paths if path.name not in SLOW_VOCABULARIES]
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED) as archive:
            for path in paths:
                member = zipfile.ZipInfo(path.name, date_time=(1980, 1, 1, 0, 0, 0))
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, path.read_bytes())
    buffer.seek(0)
    return buffer


def unpack(data: BytesIO | bytes, folder: str) -> None:
    """Write the members of a zip from :func:`pack` into a folder; names that point elsewhere are refused.

    Raises:
        ValueError: bytes that are no zip archive, or a member whose name leaves the folder.
    """
    raw = data if isinstance(data, bytes) else data.getvalue()
    try:
        archive = zipfile.ZipFile(BytesIO(raw))
    except zipfile.BadZipFile as error:
        raise ValueError(f"The tokenizer data of this file is no zip archive ({len(raw)} bytes): {error}.") from error
    with archive:
        check_sizes(archive, len(raw))
        for name in archive.namelist():
            target = (Path(folder) / name).resolve()
            if Path(folder).resolve() not in target.parents:
                raise ValueError(f"The tokenizer archive holds a file outside its folder: {name!r}.")
            if name.endswith("/"):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))


def check_sizes(archive: zipfile.ZipFile, packed: int) -> None:
    """Refuse an archive that would unpack to much more than a tokenizer's files do.

    Raises:
        ValueError: as said.
    """
    total = sum(member.file_size for member in archive.infolist())
    if total > max(_MOST_UNPACKED, 2 * packed):
        raise ValueError(f"An archive of {packed:,} bytes in the file would unpack to {total:,} bytes.")


def tokenizer_from_bytes(data: BytesIO | bytes) -> Any:
    """The tokenizer in a zip from :func:`pack`, those of released versions included."""
    with tempfile.TemporaryDirectory() as folder:
        unpack(data, folder)
        return prepare_tokenizer(load_tokenizer(folder, trust_remote_code=False))


def load_image_processor(name: str, model_type: str, **options: Any) -> Any:
    """The image processor of models that see the page, without its own text recognition; None for all others."""
    if model_type not in IMAGE_MODELS:
        return None
    from transformers import AutoImageProcessor

    return from_hub(AutoImageProcessor.from_pretrained, name, apply_ocr=False, **options)


def image_processor_from_bytes(data: BytesIO | bytes | None) -> Any:
    """The image processor in a zip from :func:`pack`; older libraries called it a feature extractor, in two places."""
    if data is None:
        return None
    from transformers import AutoImageProcessor

    with tempfile.TemporaryDirectory() as folder:
        unpack(data, folder)
        config = Path(folder) / "preprocessor_config.json"
        if config.exists():
            values = json.loads(config.read_text())
            old_name = values.pop("feature_extractor_type", None)
            name = values.get("image_processor_type") or old_name
            if name:
                values["image_processor_type"] = name.replace(*_RENAMED_PROCESSORS)
            config.write_text(json.dumps(values))
        return AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
