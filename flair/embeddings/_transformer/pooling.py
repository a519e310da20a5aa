"""From hidden states to vectors: stitching of long sentences, sub-token pooling, document pooling.

All functions work on whole batches of tensors and can be traced by torch.jit and ONNX exporters. The word ids used
throughout say for every sub-token position which token it belongs to; positions outside the sentence (special
tokens, context, padding) are negative.
"""

import torch


@torch.jit.script_if_tracing
def pad_sequence_embeddings(all_hidden_states: list[torch.Tensor]) -> torch.Tensor:
    """Stack ``[length_i, hidden]`` tensors into ``[batch, longest, hidden]``, padded with zeros."""
    longest = 0
    for hidden_states in all_hidden_states:
        longest = max(longest, hidden_states.shape[0])
    first = all_hidden_states[0]
    padded = torch.zeros([len(all_hidden_states), longest, first.shape[1]], dtype=first.dtype, device=first.device)
    for row, hidden_states in enumerate(all_hidden_states):
        padded[row, : hidden_states.shape[0]] = hidden_states
    return padded


@torch.jit.script_if_tracing
def truncate_hidden_states(hidden_states: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
    """Cut ``[layers, batch, positions, hidden]`` to the number of positions of ``input_ids``.

    Layout models append image patches to the sequence; these never take part in pooling.
    """
    return hidden_states[:, :, : input_ids.shape[1]]


@torch.jit.script_if_tracing
def combine_strided_tensors(
    hidden_states: torch.Tensor,
    overflow_to_sample_mapping: torch.Tensor,
    half_stride: int,
    max_length: int,
    default_value: int,
) -> torch.Tensor:
    """Stitch the overlapping windows of long sentences together.

    Neighbouring windows share ``2 * half_stride`` sub-tokens and each window begins and ends with a special token.
    Where two windows meet, each gives up its special token and the outer half of the overlap, so that every
    sub-token is represented by the window in which it has more context.

    Args:
        hidden_states: ``[windows, positions]`` or ``[windows, positions, hidden]``.
        overflow_to_sample_mapping: the sentence each window belongs to, ascending, ``[windows]``.
        half_stride: half the number of sub-tokens that neighbouring windows share.
        max_length: number of positions of a full window, special tokens included.
        default_value: what the result is padded with.

    Returns:
        ``[sentences, longest stitched sentence, ...]``.
    """
    samples = int(overflow_to_sample_mapping.max().item()) + 1
    counts = torch.bincount(overflow_to_sample_mapping, minlength=samples)
    width = max_length + (int(counts.max().item()) - 1) * (max_length - 2)
    shape = [samples, width]
    for size in hidden_states.shape[2:]:
        shape.append(size)
    combined = torch.zeros(shape, dtype=hidden_states.dtype, device=hidden_states.device) + default_value
    window = 0
    for sample in range(samples):
        windows = int(counts[sample].item())
        position = 0
        for i in range(windows):
            begin = 0 if i == 0 else 1 + half_stride
            end = hidden_states.shape[1] if i == windows - 1 else max_length - 1 - half_stride
            piece = hidden_states[window, begin:end]
            combined[sample, position : position + piece.shape[0]] = piece
            position += piece.shape[0]
            window += 1
    return combined


@torch.jit.script_if_tracing
def fill_masked_elements(
    all_token_embeddings: torch.Tensor,
    sentence_hidden_states: torch.Tensor,
    mask: torch.Tensor,
    word_ids: torch.Tensor,
    lengths: torch.LongTensor,
) -> torch.Tensor:
    """Write the hidden states of the positions in ``mask`` to the tokens they belong to.

    Args:
        all_token_embeddings: filled in place, ``[batch, tokens, hidden]``; tokens without a position stay as they are.
        sentence_hidden_states: ``[batch, positions, hidden]``.
        mask: at most one position per token, ``[batch, positions]``, bool.
        word_ids: ``[batch, positions]``.
        lengths: number of tokens of each sentence, ``[batch]``.
    """
    rows = torch.nonzero(mask)[:, 0]
    words = word_ids[mask]
    picked = sentence_hidden_states[mask]
    inside = words < lengths[rows]
    all_token_embeddings[rows[inside], words[inside]] = picked[inside]
    return all_token_embeddings


@torch.jit.script_if_tracing
def insert_missing_embeddings(
    token_embeddings: torch.Tensor, word_id: torch.Tensor, length: torch.LongTensor
) -> torch.Tensor:
    """Spread the vectors of the tokens in ``word_id`` over a sentence; tokens without sub-token get zeros.

    Args:
        token_embeddings: ``[present tokens, hidden]``.
        word_id: the index of each of them, ``[present tokens]``.
        length: number of tokens of the sentence, a scalar.

    Returns:
        ``[length, hidden]``.
    """
    shape = [int(length.item()), token_embeddings.shape[1]]
    spread = torch.zeros(shape, dtype=token_embeddings.dtype, device=token_embeddings.device)
    spread[word_id] = token_embeddings
    return spread


@torch.jit.script_if_tracing
def fill_mean_token_embeddings(
    all_token_embeddings: torch.Tensor,
    sentence_hidden_states: torch.Tensor,
    word_ids: torch.Tensor,
    token_lengths: torch.Tensor,
) -> torch.Tensor:
    """Write the mean over each token's sub-tokens to ``all_token_embeddings`` ``[batch, tokens, hidden]``, in place."""
    tokens = all_token_embeddings.shape[1]
    inside = (word_ids >= 0) & (word_ids < token_lengths.unsqueeze(1))
    rows = torch.nonzero(inside)[:, 0]
    slots = rows * tokens + word_ids[inside]
    flat = all_token_embeddings.view(-1, all_token_embeddings.shape[2])
    sums = torch.zeros(flat.shape, dtype=torch.float32, device=flat.device)
    sums = sums.index_add(0, slots, sentence_hidden_states[inside].float())
    counts = torch.zeros([flat.shape[0]], dtype=torch.float32, device=flat.device)
    counts = counts.index_add(0, slots, torch.ones(slots.shape, dtype=torch.float32, device=flat.device))
    present = (counts > 0).unsqueeze(1)
    means = (sums / counts.clamp(min=1).unsqueeze(1)).to(flat.dtype)
    return torch.where(present, means, flat).view(all_token_embeddings.shape)


@torch.jit.script_if_tracing
def document_cls_pooling(sentence_hidden_states: torch.Tensor, sentence_lengths: torch.Tensor) -> torch.Tensor:
    """The last position of each sentence, ``[batch, hidden]``: the summary of models that close with it (T5, GPT)."""
    rows = torch.arange(sentence_hidden_states.shape[0], device=sentence_hidden_states.device)
    return sentence_hidden_states[rows, sentence_lengths - 1]


def _inside(hidden_states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    positions = torch.arange(hidden_states.shape[1], device=hidden_states.device)
    return (positions.unsqueeze(0) < lengths.unsqueeze(1)).unsqueeze(2)


@torch.jit.script_if_tracing
def document_mean_pooling(sentence_hidden_states: torch.Tensor, sentence_lengths: torch.Tensor) -> torch.Tensor:
    """The mean over each sentence's positions, special tokens included, ``[batch, hidden]``."""
    inside = _inside(sentence_hidden_states, sentence_lengths)
    sums = sentence_hidden_states.float().masked_fill(~inside, 0.0).sum(dim=1)
    return (sums / sentence_lengths.unsqueeze(1)).to(sentence_hidden_states.dtype)


@torch.jit.script_if_tracing
def document_max_pooling(sentence_hidden_states: torch.Tensor, sentence_lengths: torch.Tensor) -> torch.Tensor:
    """The maximum over each sentence's positions, special tokens included, ``[batch, hidden]``."""
    inside = _inside(sentence_hidden_states, sentence_lengths)
    return sentence_hidden_states.masked_fill(~inside, float("-inf")).max(dim=1).values


@torch.jit.script_if_tracing
def pool_tokens(
    hidden_states: torch.Tensor, word_ids: torch.Tensor, token_lengths: torch.Tensor, pooling: str
) -> torch.Tensor:
    """One vector a token, ``[batch, longest sentence, hidden]`` (twice the size for "first_last").

    Tokens without any sub-token (zero-width characters, private-use glyphs) get zeros.
    """
    batch, _, size = hidden_states.shape
    tokens = int(token_lengths.max())
    empty = torch.zeros([batch, tokens, size], dtype=hidden_states.dtype, device=hidden_states.device)
    if pooling == "mean":
        return fill_mean_token_embeddings(empty, hidden_states, word_ids, token_lengths)
    changes = word_ids[:, 1:] != word_ids[:, :-1]
    edge = torch.ones([batch, 1], dtype=torch.bool, device=word_ids.device)
    real = word_ids >= 0
    first, last = real & torch.cat([edge, changes], dim=1), real & torch.cat([changes, edge], dim=1)
    if pooling == "first":
        return fill_masked_elements(empty, hidden_states, first, word_ids, token_lengths)
    if pooling == "last":
        return fill_masked_elements(empty, hidden_states, last, word_ids, token_lengths)
    firsts = fill_masked_elements(empty, hidden_states, first, word_ids, token_lengths)
    lasts = fill_masked_elements(torch.zeros_like(empty), hidden_states, last, word_ids, token_lengths)
    return torch.cat([firsts, lasts], dim=2)


def pool_documents(
    hidden_states: torch.Tensor, sub_token_lengths: torch.Tensor | None, pooling: str, initial_cls_token: bool
) -> torch.Tensor:
    """One vector a sentence, ``[batch, hidden]``; ``sub_token_lengths`` is not needed for an initial [CLS]."""
    if pooling == "cls" and initial_cls_token:
        return hidden_states[:, 0]
    assert sub_token_lengths is not None
    if pooling == "cls":
        return document_cls_pooling(hidden_states, sub_token_lengths)
    if pooling == "mean":
        return document_mean_pooling(hidden_states, sub_token_lengths)
    return document_max_pooling(hidden_states, sub_token_lengths)


def remove_special_markup(text: str) -> str:
    """Strip what sub-word tokenizers mark word boundaries with: ``##ing`` -> ``ing``, ``▁the`` -> ``the``."""
    for prefix in ("##", "Ġ", "▁"):
        if text.startswith(prefix):
            return text[len(prefix) :]
    return text.removesuffix("</w>")
