"""Quantised base transformers (bitsandbytes, torchao): files hold what transformers itself writes for them.

The quantised matrices are no plain tensors, and a network built from its configuration alone is not quantised. They are
left out of state dicts, therefore: a full file carries the transformer as :func:`pack` writes it, and a file with
adapters only has it quantised again when it is loaded, which gives the same numbers.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from flair.embeddings._transformer import loading
from flair.embeddings._transformer.file_params import NO_CODE
from flair.embeddings._transformer.tokenizer_files import check_sizes

PACKED = "quantised_base"
"""The parameter of an embedding that holds a packed transformer."""


def is_quantised(config: Any) -> bool:
    """Whether a transformer of this configuration has quantised weights."""
    return getattr(config, "quantization_config", None) is not None


def quantised_keys(model: torch.nn.Module) -> list[str]:
    """The state-dict keys of quantised weights, and of the statistics that belong to them."""
    beginnings = [
        f"{name}.{part}"
        for name, module in model.named_modules()
        if _is_special(module._parameters.get("weight"))
        for part in ("weight", "SCB")
    ]
    return [key for key in model.state_dict() if key.startswith(tuple(beginnings))] if beginnings else []


def _is_special(weight: torch.nn.Parameter | None) -> bool:
    if weight is None:
        return False
    return type(weight).__name__ in ("Params4bit", "Int8Params") or type(weight.data) is not torch.Tensor


def pack(bare: Any) -> io.BytesIO:
    """A quantised transformer without adapters as a zip of the files that ``save_pretrained`` writes."""
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        with loading.patient_bars:
            bare.save_pretrained(folder)
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(Path(folder).iterdir()):
                # the same bytes whenever it is written
                archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes())
    packed.seek(0)
    return packed


def load(name: str, config: Any, dtype: Any, packed: io.BytesIO | bytes | str | None) -> Any:
    """The quantised transformer that an embedding was saved with.

    Args:
        name: what it was loaded from.
        config: its configuration; says how to quantise.
        dtype: of what is not quantised.
        packed: what :func:`pack` gave; or another place to load it from.
    """
    from transformers.quantizers.auto import AutoQuantizationConfig

    if packed is None or isinstance(packed, str):
        how = config.quantization_config
        how = AutoQuantizationConfig.from_dict(dict(how)) if isinstance(how, dict) else how
        where = packed or name
        return prepared(
            loading.load_model(where, loading.load_config(where, **NO_CODE), dtype, quantization_config=how, **NO_CODE)
        )
    packed = io.BytesIO(packed) if isinstance(packed, bytes) else packed
    packed.seek(0)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(packed) as archive:
        check_sizes(archive, len(packed.getvalue()))
        for entry in archive.infolist():  # names only: no path out of the folder
            (Path(folder) / Path(entry.filename).name).write_bytes(archive.read(entry))
        return prepared(loading.load_model(folder, loading.load_config(folder, **NO_CODE), dtype, **NO_CODE))


def prepared(model: Any) -> Any:
    """Freeze quantised weights, which cannot learn.

    And switch off what bitsandbytes does to 4-bit weights in the first prediction on some CPUs: training fails then.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        weight = module._parameters.get("weight")
        if _is_special(weight):
            weight.requires_grad_(False)
    return model
