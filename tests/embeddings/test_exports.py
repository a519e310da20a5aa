"""Exported transformers: ONNX graphs, quantised and optimised ones, and TorchScript modules."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile

import pytest
import torch
from tiny_transformers import make_model_folder

from flair.checkpoint import UnsafeCheckpointError
from flair.data import Dictionary, Sentence
from flair.embeddings import (
    TransformerDocumentEmbeddings,
    TransformerEmbeddings,
    TransformerJitDocumentEmbeddings,
    TransformerJitWordEmbeddings,
    TransformerOnnxDocumentEmbeddings,
    TransformerOnnxWordEmbeddings,
    TransformerWordEmbeddings,
)
from flair.embeddings.base import load_embeddings
from flair.models import SequenceTagger, TextClassifier

LONG = "the quick brown fox jumps over the lazy dog " * 6
BATCHES = [
    ["George Washington went to Washington", "I love this film", "x", LONG],
    [LONG],
    ["a b c"],
    ["Berlin is the capital of Germany"] * 5,
]
EXAMPLES = ["what a film", "Der schnelle braune Fuchs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(make_model_folder(tmp_path_factory.mktemp("model"), "bert", max_length=24))


def sentences(texts):
    return [Sentence(text) for text in texts]


def vectors(embedding, texts):
    if embedding.token_embedding:
        return embedding.encode_tokens(sentences(texts))[0].detach()
    return embedding.encode_documents(sentences(texts)).detach()


def assert_equal(one, other, tolerance=1e-4):
    for texts in BATCHES:
        torch.testing.assert_close(vectors(one, texts), vectors(other, texts), atol=tolerance, rtol=0)


def onnx_installed():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "t5"])
def test_onnx_words(tmp_path, kind):
    onnx_installed()
    model = make_model_folder(tmp_path / kind, kind, max_length=24)
    embedding = TransformerWordEmbeddings(str(model), layers="-1,-2", layer_mean=False, subtoken_pooling="first_last")
    exported = embedding.export_onnx(tmp_path / "out" / "model.onnx", sentences(EXAMPLES))
    assert type(exported) is TransformerOnnxWordEmbeddings
    assert exported.embedding_length == embedding.embedding_length
    assert_equal(embedding, exported)


def test_onnx_of_a_model_in_training(folder, tmp_path):
    onnx_installed()
    embedding = TransformerWordEmbeddings(folder, use_context=2).train()
    exported = embedding.export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
    assert embedding.training
    embedding.eval()
    assert_equal(embedding, exported)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_onnx_documents(folder, tmp_path, pooling):
    onnx_installed()
    embedding = TransformerDocumentEmbeddings(folder, cls_pooling=pooling, allow_long_sentences=pooling != "cls")
    exported = embedding.export_onnx(str(tmp_path / "model.onnx"), sentences(EXAMPLES))
    assert type(exported) is TransformerOnnxDocumentEmbeddings
    assert_equal(embedding, exported)


def test_onnx_of_both_kinds_and_embed(folder, tmp_path):
    onnx_installed()
    embedding = TransformerEmbeddings(folder)
    exported = embedding.export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
    ours, theirs = Sentence("I love this film"), Sentence("I love this film")
    embedding.embed(ours)
    exported.embed(theirs)
    torch.testing.assert_close(ours.embedding, theirs.embedding, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours[2].embedding, theirs[2].embedding, atol=1e-4, rtol=0)


def test_onnx_in_a_tagger_and_a_fresh_process(folder, tmp_path):
    onnx_installed()
    embedding = TransformerWordEmbeddings(folder)
    exported = embedding.export_onnx(tmp_path / "graphs" / "model.onnx", sentences(EXAMPLES))
    tags = Dictionary(add_unk=False)
    for tag in ("A", "B", "C"):
        tags.add_item(tag)
    tagger = SequenceTagger(exported, tags, "pos", use_crf=False, use_rnn=False, tag_format="BIO")
    for form in ("tagger.pt", "tagger.safetensors", "tagger"):
        tagger.save(tmp_path / form)
    sentence = Sentence(BATCHES[0][0])
    tagger.predict(sentence)
    (tmp_path / "graphs").rename(tmp_path / "elsewhere")  # model files need no graph beside them
    code = (
        "import sys\nfrom flair.data import Sentence\nfrom flair.models import SequenceTagger\n"
        "for path in sys.argv[2:]:\n"
        "    sentence = Sentence(sys.argv[1])\n    SequenceTagger.load(path).predict(sentence)\n"
        "    print('=' + ' '.join(label.value for label in sentence.get_labels('pos')))\n"
    )
    forms = [str(tmp_path / form) for form in ("tagger.pt", "tagger.safetensors", "tagger")]
    run = subprocess.run(
        [sys.executable, "-c", code, BATCHES[0][0], *forms], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    expected = "=" + " ".join(label.value for label in sentence.get_labels("pos"))
    assert [line for line in run.stdout.splitlines() if line.startswith("=")] == [expected] * 3


def test_onnx_classifier_learns_and_round_trips(folder, tmp_path):
    onnx_installed()
    exported = TransformerDocumentEmbeddings(folder).export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
    labels = Dictionary(add_unk=False)
    for label in ("good", "bad"):
        labels.add_item(label)
    classifier = TextClassifier(exported, label_type="mood", label_dictionary=labels)
    points = [Sentence("I love it").add_label("mood", "good"), Sentence("what a waste").add_label("mood", "bad")]
    loss, count = classifier.forward_loss(points)
    loss.backward()
    assert count == 2
    assert classifier.decoder.weight.grad.abs().sum() > 0
    classifier.save(tmp_path / "classifier.pt")
    twin = TextClassifier.load(tmp_path / "classifier.pt")
    assert_equal(classifier.embeddings, twin.embeddings, 0.0)
    assert_equal(pickle.loads(pickle.dumps(exported)), exported, 0.0)


def test_quantised_and_optimised(folder, tmp_path):
    onnx_installed()
    embedding = TransformerWordEmbeddings(folder)
    exported = embedding.export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
    pytest.importorskip("sympy")
    exported.optimize_model(tmp_path / "optimised.onnx", model_type="bert", num_heads=2, hidden_size=16)
    assert exported.onnx_model == str(tmp_path / "optimised.onnx")
    assert_equal(embedding, exported)
    exported = embedding.export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
    exported.quantize_model(tmp_path / "quantised.onnx")
    operations = {
        node.op_type for node in pytest.importorskip("onnx").load(str(tmp_path / "quantised.onnx")).graph.node
    }
    assert "MatMulInteger" in operations
    exact = torch.cat([vectors(embedding, texts).flatten(0, 1) for texts in BATCHES])
    rough = torch.cat([vectors(exported, texts).flatten(0, 1) for texts in BATCHES])
    similarity = torch.nn.functional.cosine_similarity(exact, rough, dim=-1)[exact.abs().sum(-1) > 0]
    # Eight bits of random weights: single tokens go down to 0.92, depending on the processor's integer instructions.
    assert similarity.mean() > 0.97
    assert similarity.min() > 0.8
    assert_equal(exported, load_embeddings(exported.save_embeddings()), 0.0)


def test_sessions_open_and_close(folder, tmp_path):
    onnx_installed()
    exported = TransformerWordEmbeddings(folder).export_onnx(
        tmp_path / "model.onnx", sentences(EXAMPLES), providers=["NoSuchProvider", "CPUExecutionProvider"]
    )
    before = vectors(exported, BATCHES[2])
    exported.remove_session()
    assert exported.session is None
    assert torch.equal(vectors(exported, BATCHES[2]), before)


def test_onnx_refusals(folder, tmp_path):
    onnx_installed()
    embedding = TransformerWordEmbeddings(folder)
    with pytest.raises(ValueError, match="one example sentence"):
        embedding.export_onnx(tmp_path / "model.onnx", [Sentence("")])
    exported = embedding.export_onnx(
        tmp_path / "model.onnx", sentences(EXAMPLES), session_options={"intra_op_num_threads": 1}
    )
    params = exported.save_embeddings()
    assert load_embeddings(params).session_options == {"intra_op_num_threads": 1}
    with pytest.raises(ValueError, match="optimized_model_filepath"):
        load_embeddings({**params, "session_options": {"optimized_model_filepath": str(tmp_path / "evil")}})
    with pytest.raises(ValueError, match="outside"):
        load_embeddings({**params, "onnx_external_data": {"../evil": b""}})
    with pytest.raises(ValueError, match="no 'speed'"):
        embedding.export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES), session_options={"speed": 1})
    with pytest.raises(FileNotFoundError, match="Export the embedding again"):
        load_embeddings({**params, "onnx_model": str(tmp_path / "gone.onnx")})
    with pytest.raises(ValueError, match="bfloat16"):
        TransformerWordEmbeddings(folder, dtype="bfloat16").export_onnx(tmp_path / "b.onnx", sentences(EXAMPLES))


class Words(torch.nn.Module):
    def __init__(self, embedding):
        super().__init__()
        self.e = embedding

    def forward(self, input_ids, token_lengths, attention_mask, overflow_to_sample_mapping, word_ids):
        return self.e.forward(
            input_ids=input_ids,
            token_lengths=token_lengths,
            attention_mask=attention_mask,
            overflow_to_sample_mapping=overflow_to_sample_mapping,
            word_ids=word_ids,
        )["token_embeddings"]


class Documents(torch.nn.Module):
    def __init__(self, embedding):
        super().__init__()
        self.e = embedding

    def forward(self, input_ids, attention_mask, sub_token_lengths):
        return self.e.forward(input_ids=input_ids, attention_mask=attention_mask, sub_token_lengths=sub_token_lengths)[
            "document_embeddings"
        ]


def traced(embedding, wrapper, kind):
    embedding.eval()
    names, tensors = kind.parameter_to_list(embedding, wrapper, sentences(EXAMPLES))
    return kind.create_from_embedding(torch.jit.trace(wrapper, tensors), embedding, names)


@pytest.mark.parametrize("pooling", ["first", "last", "mean", "first_last"])
@pytest.mark.filterwarnings("ignore")
def test_traced_words(folder, pooling):
    embedding = TransformerWordEmbeddings(folder, subtoken_pooling=pooling, fine_tune=False)
    jit = traced(embedding, Words(embedding), TransformerJitWordEmbeddings)
    assert jit.param_names == [
        "input_ids",
        "token_lengths",
        "attention_mask",
        "overflow_to_sample_mapping",
        "word_ids",
    ]
    assert_equal(embedding, jit)
    assert_equal(load_embeddings(jit.save_embeddings()), jit, 0.0)
    assert_equal(pickle.loads(pickle.dumps(jit)), jit, 0.0)


@pytest.mark.filterwarnings("ignore")
def test_traced_documents_in_a_classifier(folder, tmp_path):
    embedding = TransformerDocumentEmbeddings(folder, cls_pooling="mean", fine_tune=False)
    jit = traced(embedding, Documents(embedding), TransformerJitDocumentEmbeddings)
    assert_equal(embedding, jit)
    labels = Dictionary(add_unk=False)
    labels.add_item("good")
    labels.add_item("bad")
    classifier = TextClassifier(jit, label_type="mood", label_dictionary=labels)
    for form in ("model.pt", "model.safetensors", "model"):
        classifier.save(tmp_path / form)
        assert_equal(TextClassifier.load(tmp_path / form).embeddings, jit, 0.0)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_that_acts_is_refused(folder):
    embedding = TransformerWordEmbeddings(folder, fine_tune=False)
    params = traced(embedding, Words(embedding), TransformerJitWordEmbeddings).save_embeddings()
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(params["jit_model"])) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            extra = (
                b"\n  def __setstate__(self, state: int) -> None:\n    return None\n" if name.endswith(".py") else b""
            )
            target.writestr(name, source.read(name) + extra)
    with pytest.raises(UnsafeCheckpointError, match="__setstate__"):
        load_embeddings({**params, "jit_model": changed.getvalue()})
    with pytest.raises(RuntimeError, match="no TorchScript module"):
        load_embeddings({**params, "jit_model": b"not a zip"})
