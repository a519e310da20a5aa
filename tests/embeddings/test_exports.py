"""Exported transformers: ONNX graphs, quantised and optimised ones, and TorchScript modules."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile

import pytest
import torch
from tiny_transformers import make_language_folder, make_layout_folder, make_model_folder

from flair.checkpoint import UnsafeCheckpointError
from flair.data import Dictionary, Sentence
from flair.embeddings import (
    TransformerDocumentEmbeddings,
    TransformerEmbeddings,
    TransformerJitDocumentEmbeddings,
    TransformerJitEmbeddings,
    TransformerJitWordEmbeddings,
    TransformerOnnxDocumentEmbeddings,
    TransformerOnnxWordEmbeddings,
    TransformerWordEmbeddings,
)
from flair.embeddings._transformer.onnx import _classic_exporter
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
        if one.token_embedding and one.document_embedding:
            documents = [embedding.encode_documents(sentences(texts)).detach() for embedding in (one, other)]
            torch.testing.assert_close(*documents, atol=tolerance, rtol=0)


def labels():
    made = Dictionary(add_unk=False)
    for label in ("A", "B", "C"):
        made.add_item(label)
    return made


def model_with(embedding):
    """A tagger or a classifier of the same random weights whenever it is called."""
    torch.manual_seed(0)
    if embedding.token_embedding:
        return SequenceTagger(embedding, labels(), "x", use_crf=False, use_rnn=False, tag_format="BIO")
    return TextClassifier(embedding, label_type="x", label_dictionary=labels())


def predictions(model):
    batch = sentences(BATCHES[0])
    model.predict(batch)
    return [[(label.value, label.score) for label in sentence.get_labels("x")] for sentence in batch]


def assert_models_agree(embedding, exported, folder):
    """A model on the export predicts what one on the embedding does, and survives being saved."""
    embedding.eval()
    expected, found = predictions(model_with(embedding)), predictions(model := model_with(exported))
    assert [[value for value, _ in labels] for labels in found] == [
        [value for value, _ in labels] for labels in expected
    ]
    for ours, theirs in zip(found, expected, strict=True):
        assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-4)
    for form in ("model.pt", "model.safetensors", "model"):
        model.save(folder / "saved" / form)
        assert predictions(type(model).load(folder / "saved" / form)) == found


def with_lora(folder, **options):
    """Word embeddings with a LoRA whose second matrix is not zero."""
    peft = pytest.importorskip("peft")
    options = {"peft_config": peft.LoraConfig(r=4, target_modules=["query", "value"]), **options}
    embedding = TransformerWordEmbeddings(folder, **options)
    torch.manual_seed(1)
    for name, parameter in embedding.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return embedding


def with_prompts(folder):
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION")
    return TransformerWordEmbeddings(folder, peft_config=config)


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


@pytest.mark.parametrize("state", ["active", "merged", "disabled"])
def test_onnx_of_adapters(folder, tmp_path, state):
    onnx_installed()
    embedding = with_lora(folder)
    plain = vectors(TransformerWordEmbeddings(folder), BATCHES[0])
    if state == "merged":
        embedding.merge_adapters()
    elif state == "disabled":
        embedding.disable_adapters()
    exported = embedding.export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
    assert_equal(embedding, exported)
    assert torch.allclose(vectors(exported, BATCHES[0]), plain, atol=1e-4) == (state == "disabled")
    assert_models_agree(embedding, exported, tmp_path)


def test_onnx_of_prompts_and_context(folder, tmp_path):
    onnx_installed()
    for embedding in (with_prompts(folder), TransformerWordEmbeddings(folder, use_context=2)):
        exported = embedding.export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
        assert_equal(embedding, exported)
        assert_models_agree(embedding, exported, tmp_path)


def test_onnx_of_bfloat16_after_float(folder, tmp_path):
    onnx_installed()
    embedding = TransformerWordEmbeddings(folder, dtype="bfloat16").float()
    exported = embedding.export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
    assert_equal(embedding, exported)


@pytest.mark.parametrize("options", [{}, {"layers": "all", "layer_mean": False, "subtoken_pooling": "first_last"}])
def test_onnx_of_both_kinds_and_windows(folder, tmp_path, options):
    onnx_installed()
    embedding = TransformerEmbeddings(folder, allow_long_sentences=True, cls_pooling="mean", **options)
    exported = embedding.export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
    assert_equal(embedding, exported)
    assert_equal(exported, load_embeddings(exported.save_embeddings()), 0.0)
    assert_models_agree(embedding, exported, tmp_path)


@pytest.mark.parametrize("embedding_class", [TransformerWordEmbeddings, TransformerDocumentEmbeddings])
def test_smaller_and_faster_graphs_in_models(folder, tmp_path, embedding_class):
    onnx_installed()
    pytest.importorskip("sympy")
    embedding = embedding_class(folder)
    exported = embedding.export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
    exported.optimize_model(tmp_path / "new" / "optimised.onnx", model_type="bert", num_heads=2, hidden_size=16)
    assert_models_agree(embedding, exported, tmp_path)
    exported.quantize_model(tmp_path / "newer" / "quantised.onnx")
    model = model_with(exported)
    found = predictions(model)
    model.save(tmp_path / "quantised.pt")
    assert predictions(type(model).load(tmp_path / "quantised.pt")) == found


def page(text, seed):
    """Words with places, and a picture."""
    numpy = pytest.importorskip("numpy")
    pictures = pytest.importorskip("PIL.Image")
    draw = numpy.random.RandomState(seed)
    sentence = Sentence(text.split())
    for token in sentence:
        left, right = sorted(draw.randint(0, 1000, 2).tolist())
        token.add_metadata("bbox", (left, left, right, right))
    sentence.add_metadata("image", pictures.fromarray(draw.randint(0, 255, (40, 30, 3)).astype("uint8")))
    return sentence


@pytest.mark.parametrize("kind", ["layoutlm", "layoutlmv3", "lilt"])
def test_onnx_of_layout_models(tmp_path, kind):
    onnx_installed()
    embedding = TransformerWordEmbeddings(str(make_layout_folder(tmp_path / kind, kind)), needs_manual_ocr=True)
    exported = embedding.export_onnx(tmp_path / "model.onnx", [page("a film", 0), page("the fox", 1)])
    batch = [page(LONG, 2), page("a", 3), page("I love it", 4)]
    expected, found = embedding.encode_tokens(batch)[0], exported.encode_tokens(batch)[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert torch.equal(load_embeddings(exported.save_embeddings()).encode_tokens(batch)[0], found)


def test_onnx_of_languages(tmp_path):
    onnx_installed()
    pytest.importorskip("sacremoses")
    embedding = TransformerDocumentEmbeddings(str(make_language_folder(tmp_path / "xlm", "xlm")), cls_pooling="mean")
    example = Sentence(["the"], language_code="de")
    exported = embedding.export_onnx(tmp_path / "model.onnx", [example])
    batch = [Sentence(["the", "fox"], language_code=code) for code in ("de", "en")]
    vectors = exported.encode_documents(batch)
    torch.testing.assert_close(vectors, embedding.encode_documents(batch), atol=1e-4, rtol=0)
    assert (vectors[0] - vectors[1]).abs().max() > 1e-2


class PooledFirst(torch.nn.Module):
    """From inputs to the vectors of tokens, in operations that every exporter knows."""

    def __init__(self, embedding):
        super().__init__()
        self.model = embedding.model

    def forward(self, input_ids, token_lengths, attention_mask, word_ids):
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        tokens = torch.arange(token_lengths.max())
        belongs = (word_ids.unsqueeze(1) == tokens.view(1, -1, 1)).int()
        first = belongs.argmax(dim=2, keepdim=True).expand(-1, -1, states.shape[2])
        return states.gather(1, first) * belongs.max(dim=2, keepdim=True).values


@pytest.mark.filterwarnings("ignore")
def test_graphs_of_released_versions_pool_themselves(folder, tmp_path):
    """Their states name the graph's path, and neither a pooling nor weights beside the graph."""
    onnx_installed()
    embedding = TransformerWordEmbeddings(folder, allow_long_sentences=False).eval()
    wrapper = PooledFirst(embedding)
    names, tensors = TransformerJitWordEmbeddings.parameter_to_list(embedding, wrapper, sentences(EXAMPLES))
    rows = {name: {0: "batch", 1: "sequ_length"} for name in ("input_ids", "attention_mask", "word_ids")}
    torch.onnx.export(
        wrapper,
        tuple(tensors),
        str(tmp_path / "old.onnx"),
        input_names=names,
        output_names=["token_embeddings"],
        dynamic_axes={**rows, "token_lengths": {0: "sent-count"}, "token_embeddings": {0: "sent-count", 1: "tokens"}},
        opset_version=14,
        **_classic_exporter(),
    )
    made = embedding.export_onnx(tmp_path / "new.onnx", sentences(EXAMPLES)).save_embeddings()
    params = {key: made[key] for key in made if key not in ("subtoken_pooling", "onnx_external_data", "onnx_model")}
    old = load_embeddings({**params, "onnx_model": str(tmp_path / "old.onnx")})
    assert_equal(embedding, old)
    assert_models_agree(embedding, old, tmp_path)


def test_damaged_graphs(folder, tmp_path):
    onnx_installed()
    pytest.importorskip("sympy")
    exported = TransformerWordEmbeddings(folder).export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
    params = exported.save_embeddings()
    (tmp_path / "junk.onnx").write_text("junk")
    with pytest.raises(ValueError, match=r"cannot open .*junk\.onnx.*Export the embedding again"):
        load_embeddings({**params, "onnx_model": str(tmp_path / "junk.onnx")})
    with pytest.raises(ValueError, match=r"cannot open .*damaged or cut off"):
        load_embeddings({**params, "onnx_model": params["onnx_model"][:1000]})
    exported.optimize_model(tmp_path / "split.onnx", True, model_type="bert", num_heads=2, hidden_size=16)
    params = exported.save_embeddings()
    assert list(params["onnx_external_data"]) == ["split.onnx.data"]
    assert_equal(load_embeddings(params), exported, 0.0)
    (tmp_path / "split.onnx.data").unlink()
    with pytest.raises(FileNotFoundError, match=r"split\.onnx keeps weights in split\.onnx\.data"):
        exported.save_embeddings()
    with pytest.raises(ValueError, match=r"cannot open .*weights.*missing"):
        load_embeddings({**params, "onnx_external_data": {}})


def test_a_failed_export_leaves_the_embedding_in_training(folder, tmp_path):
    onnx_installed()
    embedding = TransformerWordEmbeddings(folder).train()
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.onnx"):
        embedding.export_onnx(tmp_path / "folder.onnx", sentences(EXAMPLES))
    assert embedding.training


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_what_to_install(folder, tmp_path, missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"{missing}.*pip install 'flair\[onnx\]'"):
        TransformerWordEmbeddings(folder).export_onnx(tmp_path / "model.onnx", sentences(EXAMPLES))
    if missing == "onnxruntime":
        with pytest.raises(ImportError, match=r"pip install 'flair\[onnx\]'"):
            TransformerOnnxWordEmbeddings(
                onnx_model=str(tmp_path / "model.onnx"), **TransformerWordEmbeddings(folder).to_args()
            )


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


class Both(Words):
    def forward(
        self, input_ids, token_lengths, attention_mask, overflow_to_sample_mapping, word_ids, sub_token_lengths
    ):
        vectors = self.e.forward(
            input_ids, sub_token_lengths, token_lengths, attention_mask, overflow_to_sample_mapping, word_ids
        )
        return vectors["token_embeddings"], vectors["document_embeddings"]


class WithoutWindows(Words):
    def forward(self, input_ids, token_lengths, attention_mask, word_ids):
        return super().forward(input_ids, token_lengths, attention_mask, None, word_ids)


@pytest.mark.parametrize("kind", ["plain", "adapters", "merged", "bfloat16", "context"])
@pytest.mark.filterwarnings("ignore")
def test_traced_words_in_a_tagger(folder, tmp_path, kind):
    options = {"bfloat16": {"dtype": "bfloat16"}, "context": {"use_context": 2}}.get(kind, {})
    lora = kind in ("adapters", "merged")
    embedding = with_lora(folder) if lora else TransformerWordEmbeddings(folder, **options)
    if kind == "merged":
        embedding.merge_adapters()
    jit = traced(embedding, Words(embedding), TransformerJitWordEmbeddings)
    assert_equal(embedding, jit)
    assert_models_agree(embedding, jit, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_traced_prompts_take_positions_away(folder):
    embedding = with_prompts(folder).eval()
    names, tensors = TransformerJitWordEmbeddings.parameter_to_list(embedding, Words(embedding), sentences(EXAMPLES))
    module = torch.jit.trace(Words(embedding), tensors, check_trace=False)
    jit = TransformerJitWordEmbeddings.create_from_embedding(module, embedding, names)
    assert_equal(embedding, jit)
    assert_equal(load_embeddings(jit.save_embeddings()), jit, 0.0)


@pytest.mark.filterwarnings("ignore")
def test_traced_tokens_and_documents(folder, tmp_path):
    embedding = TransformerEmbeddings(folder, allow_long_sentences=True, cls_pooling="mean")
    jit = traced(embedding, Both(embedding), TransformerJitEmbeddings)
    assert_equal(embedding, jit)
    assert_models_agree(embedding, jit, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_traced_without_windows(folder):
    embedding = TransformerWordEmbeddings(folder)
    jit = traced(embedding, WithoutWindows(embedding), TransformerJitWordEmbeddings)
    texts = BATCHES[2]
    torch.testing.assert_close(vectors(jit, texts), vectors(embedding, texts), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"longer than the 24 sub-tokens.*overflow_to_sample_mapping"):
        vectors(jit, [LONG])


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
