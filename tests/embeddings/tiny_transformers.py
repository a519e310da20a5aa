"""Tiny random transformers with tokenizers of their own, as model folders that any transformers version reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

CORPUS = [
    "The quick brown fox jumps over the lazy dog .",
    "Berlin is the capital of Germany and Paris is the capital of France .",
    "George Washington went to Washington and never came back !",
    "unbelievable internationalisation of antidisestablishmentarianism",
    "I love this film , it is great , funny and moving .",
    "Der schnelle braune Fuchs springt über den faulen Hund .",
    "what a terrible waste of time and money ; do not watch it .",
    "0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t u v w x y z",
]

KINDS = (
    *("bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta", "modernbert", "albert", "deberta-v2"),
    *("t5", "gpt2", "llama", "qwen2", "xlm"),
)

_SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def _tokenizer(kind: str) -> Any:
    """A fast tokenizer of the family, trained on a few lines."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    if kind in ("bert", "distilbert", "electra", "mpnet"):
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=180, special_tokens=special, show_progress=False)
        tokenizer.train_from_iterator(CORPUS, trainer)
        ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
        )
        names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
        return tokenizer, names
    if kind in ("roberta", "gpt2", "modernbert", "llama", "qwen2"):
        special = ["<|endoftext|>"] if kind == "gpt2" else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(CORPUS, trainer)
        if kind == "gpt2":
            tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
            return tokenizer, {
                "bos_token": special[0],
                "eos_token": special[0],
                "unk_token": special[0],
                "pad_token": special[0],
            }
        ends = (("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")))
        tokenizer.post_processor = processors.RobertaProcessing(*ends, trim_offsets=True, add_prefix_space=False)
        names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
        return tokenizer, {**names, "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    special = ["<pad>", "</s>", "<unk>"] if kind == "t5" else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁")]
    )
    trainer = trainers.UnigramTrainer(vocab_size=160, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in special if token in ("<s>", "</s>")]
    single, pair = ("$A </s>", "$A </s> $B </s>") if kind == "t5" else ("<s> $A </s>", "<s> $A </s> </s> $B </s>")
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    if kind == "t5":
        return tokenizer, names
    return tokenizer, {**names, "bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}


def _config(kind: str, vocabulary: int, positions: int) -> Any:
    """A configuration of the family with sizes that run in milliseconds."""
    import transformers

    sizes = {"vocab_size": vocabulary, "max_position_embeddings": positions, **_SIZES}
    if kind in ("bert", "electra"):
        config_class = {"bert": transformers.BertConfig, "electra": transformers.ElectraConfig}[kind]
        return config_class(**sizes, **_NO_DROPOUT)
    if kind == "distilbert":
        return transformers.DistilBertConfig(
            vocab_size=vocabulary,
            max_position_embeddings=positions,
            dim=16,
            n_layers=3,
            n_heads=2,
            hidden_dim=24,
            dropout=0.0,
            attention_dropout=0.0,
        )
    if kind in ("roberta", "xlm-roberta"):
        config_class = transformers.RobertaConfig if kind == "roberta" else transformers.XLMRobertaConfig
        sizes["max_position_embeddings"] = positions + 2
        return config_class(**sizes, **_NO_DROPOUT, pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1)
    if kind == "t5":
        return transformers.T5Config(
            vocab_size=vocabulary,
            d_model=16,
            d_kv=8,
            d_ff=24,
            num_layers=3,
            num_heads=2,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
    if kind == "gpt2":
        return transformers.GPT2Config(
            vocab_size=vocabulary,
            n_positions=positions,
            n_embd=16,
            n_layer=3,
            n_head=2,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    if kind == "llama":
        return transformers.LlamaConfig(**sizes, num_key_value_heads=2, pad_token_id=1, bos_token_id=0, eos_token_id=2)
    if kind == "qwen2":
        return transformers.Qwen2Config(**sizes, num_key_value_heads=1, bos_token_id=0, eos_token_id=2)
    if kind == "mpnet":
        sizes["max_position_embeddings"] = positions + 2
        return transformers.MPNetConfig(**sizes, **_NO_DROPOUT, pad_token_id=0, bos_token_id=2, eos_token_id=3)
    if kind == "albert":
        return transformers.AlbertConfig(
            **sizes, embedding_size=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=1
        )
    if kind == "deberta-v2":
        return transformers.DebertaV2Config(
            **sizes,
            **_NO_DROPOUT,
            relative_attention=True,
            max_relative_positions=8,
            pos_att_type=["p2c", "c2p"],
            position_buckets=4,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            position_biased_input=False,
            type_vocab_size=0,
            pad_token_id=1,
        )
    if kind == "modernbert":
        return transformers.ModernBertConfig(
            **sizes, pad_token_id=1, bos_token_id=0, eos_token_id=2, cls_token_id=0, sep_token_id=2
        )
    raise ValueError(f"No tiny {kind}. Known: {', '.join(KINDS)}.")


def make_model_folder(
    folder: str | Path, kind: str = "bert", *, max_length: int = 24, seed: int = 0, separator: bool = False
) -> Path:
    """Write a random model of a family and its tokenizer.

    Args:
        max_length: the tokenizer's limit in sub-tokens.
        seed: of the weights.
        separator: put the [FLERT] token into the vocabulary already.
    """
    import transformers
    from tokenizers import AddedToken

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, names = _tokenizer(kind)
    if separator:
        tokenizer.add_special_tokens([AddedToken("[FLERT]", special=True)])
        names = {**names, "additional_special_tokens": ["[FLERT]"]}
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer_class = {"roberta": "RobertaTokenizerFast", "gpt2": "GPT2TokenizerFast"}.get(
        kind, "PreTrainedTokenizerFast"
    )
    options = {"tokenizer_class": tokenizer_class, "model_max_length": max_length, **names}
    if kind in ("roberta", "gpt2"):
        model = json.loads((folder / "tokenizer.json").read_text())["model"]
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
        merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    config = _config(kind, tokenizer.get_vocab_size(), max(max_length, 64))
    model_class = transformers.T5EncoderModel if kind == "t5" else transformers.AutoModel
    model = model_class(config) if kind == "t5" else model_class.from_config(config)
    with torch.no_grad():  # the library's initialisation is so small that every token would look alike
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.3)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.1)
    model.save_pretrained(folder)
    torch.random.set_rng_state(state)
    return folder


_PAGE_SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 66,
}


def make_layout_folder(folder: str | Path, kind: str) -> Path:
    """A tiny random "layoutlm" or "layoutlmv3", with tokenizer and image processor."""
    import transformers

    folder = Path(folder)
    make_model_folder(folder, "bert" if kind == "layoutlm" else "roberta", max_length=16)
    vocabulary = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    if kind == "layoutlm":
        model = transformers.LayoutLMModel(
            transformers.LayoutLMConfig(vocab_size=vocabulary, **{**_PAGE_SIZES, "hidden_size": 6})
        )
    else:
        ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
        boxes = {"coordinate_size": 4, "shape_size": 4, "input_size": 16, "patch_size": 8}
        model = transformers.LayoutLMv3Model(
            transformers.LayoutLMv3Config(vocab_size=vocabulary, **ids, **boxes, **_PAGE_SIZES)
        )
        settings["tokenizer_class"] = "LayoutLMv3TokenizerFast"
        processor = {"image_processor_type": "LayoutLMv3ImageProcessor", "size": {"height": 16, "width": 16}}
        (folder / "preprocessor_config.json").write_text(json.dumps({**processor, "apply_ocr": False}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder
