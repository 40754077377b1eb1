"""Loading: what is found, what is refused in one sentence, and the masked reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models

from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.errors import DecodekitError, ModelError, UnknownModel
from decodekit.models.load import load
from decodekit.models.masks import KNOWN
from decodekit.models.probe import fitting_cache

V = 40
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def words(count: int) -> Any:
    names = ["<pad>", "<s>", "</s>", "<mask>", *(f"w{i}" for i in range(count - 4))]
    raw = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<pad>"))
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="</s>", pad_token="<pad>", bos_token="<s>", mask_token="<mask>"
    )


@pytest.fixture(scope="module")
def llama() -> Any:
    torch.manual_seed(0)
    return hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES)).eval()


@pytest.fixture(scope="module")
def folder(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    llama.save_pretrained(path)
    words(V).save_pretrained(path)
    return path


def rows_of(prompts: list[list[int]], limit: int = 60) -> Rows:
    n = torch.arange(len(prompts))
    return Rows(prompts, torch.full_like(n, limit), n, n, n * 0)


@pytest.mark.parametrize(
    "how", [{}, {"device": "cpu"}, {"device_map": "cpu"}, {"device_map": "auto"}, {"attn": "eager"}]
)
def test_a_folder(folder: Path, llama: Any, how: dict[str, Any]) -> None:
    model = load(folder, **how)
    assert (model.vocab, model.context, model.eos, model.mask) == (V, 64, (2,), None)
    assert model.provides == {"causal_lm", "hidden", "embeddings"}
    assert (model.dtype, model.device.type) == (torch.float32, "cpu")
    rows = rows_of([[1, 5, 6]])
    with torch.no_grad():
        want = llama(torch.tensor([[1, 5, 6]])).logits[0, -1]
    torch.testing.assert_close(model.reader(Cost(), "t").read(rows, torch.tensor([[3]]))[0, 0], want)
    assert load(model) is model


def test_dtypes(folder: Path) -> None:
    assert load(str(folder), dtype="bfloat16").dtype == torch.bfloat16
    double = load(str(folder), dtype=torch.float64)
    logits = double.reader(Cost(), "t").read(rows_of([[1, 5]]), torch.tensor([[2]]))
    assert logits.dtype == torch.float64
    small = load(str(folder), dtype="bfloat16").reader(Cost(), "t").read(rows_of([[1, 5]]), torch.tensor([[2]]))
    assert small.dtype == torch.float32


@pytest.mark.parametrize("cache", ["slab", "holes", "none"])
def test_a_loaded_model_and_any_cache(llama: Any, cache: Any) -> None:
    for model in (load((llama, words(V)), cache=cache), load(llama, tokenizer=words(V), cache=cache)):
        got = model.reader(Cost(), "t").read(rows_of([[1, 5, 6]]), torch.tensor([[3]]))
        assert got.shape == (1, 1, V)
        (got + 1).mul_(2)  # what callers get is an ordinary tensor
        got.add_(1)


def test_every_end_of_text_counts(llama: Any, folder: Path, tmp_path: Path) -> None:
    other = hf.LlamaForCausalLM(hf.LlamaConfig(**{**SIZES, "eos_token_id": [7, 8]}))
    other.generation_config.eos_token_id = 9
    assert set(load((other, words(V))).eos) == {2, 7, 8, 9}
    bare = hf.LlamaForCausalLM(hf.LlamaConfig(**{**SIZES, "eos_token_id": None}))
    bare.generation_config.eos_token_id = None
    silent = words(V)
    silent.eos_token = None
    assert load((bare, silent)).eos == ()


def test_a_padded_vocabulary_is_fine_and_a_small_one_is_not(llama: Any) -> None:
    assert load((llama, words(V - 3))).vocab == V
    with pytest.raises(
        ModelError, match=r"the tokenizer has 41 tokens and model .* only 40: they do not belong together"
    ):
        load((llama, words(V + 1)))


def broken(folder: Path, kind: str) -> None:
    names = {"config": "config.json", "weights": "*.safetensors", "tokenizer": "tokenizer*"}
    for path in folder.glob(names[kind]):
        path.unlink()


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("config", "holds no config.json, so it is no model"),
        ("weights", "holds a config.json and no weights"),
        ("tokenizer", "holds no tokenizer; put its files there, or give tokenizer="),
    ],
)
def test_incomplete_folders(llama: Any, tmp_path: Path, kind: str, sentence: str) -> None:
    llama.save_pretrained(tmp_path)
    words(V).save_pretrained(tmp_path)
    broken(tmp_path, kind)
    with pytest.raises(UnknownModel, match=sentence) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_tokenizer_and_one_given(llama: Any, tmp_path: Path) -> None:
    llama.save_pretrained(tmp_path)
    assert load(tmp_path, tokenizer=words(V)).vocab == V


CALLS: list[tuple[Any, dict[str, Any], str]] = [
    ("./no/such/folder", {}, "there is no model folder './no/such/folder'"),
    ("nobody/nothing", {}, "model 'nobody/nothing' cannot be loaded"),
    ("zoo:nothing", {}, "no embedded model is called 'nothing'"),
    (3.5, {}, "the model is of type float; give a path"),
    ("FOLDER", {"dtype": "int8"}, "dtype 'int8' is no floating-point type"),
    ("FOLDER", {"device": "cpu", "device_map": "auto"}, "device and device_map both say"),
    ("LLAMA", {}, "was given without a tokenizer"),
]


@pytest.mark.parametrize(("what", "options", "sentence"), CALLS)
def test_refusals(folder: Path, llama: Any, what: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DecodekitError, match=sentence) as caught:
        load({"FOLDER": folder, "LLAMA": llama}.get(what, what), **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


TINY = {"vocab_size": V, "hidden_size": 16}
REFUSED: list[tuple[Any, str]] = [
    (hf.T5Config(vocab_size=V, d_model=16, d_ff=16, num_layers=1, num_heads=2), "t5 is an encoder-decoder model"),
    (hf.MambaConfig(**TINY, num_hidden_layers=1), "mamba keeps a recurrent state"),
    (hf.RwkvConfig(**TINY, num_hidden_layers=1), "rwkv keeps a recurrent state"),
    (hf.BloomConfig(**TINY, n_layer=1, n_head=2), "bloom adds ALiBi biases"),
    (hf.FalconConfig(**TINY, num_hidden_layers=1, num_attention_heads=2, alibi=True), "falcon adds ALiBi biases"),
]


@pytest.mark.parametrize(("config", "sentence"), REFUSED)
def test_families_that_cannot_be_served(config: Any, sentence: str, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    words(V).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()  # refused before the weights are looked at
    with pytest.raises(ModelError, match=sentence):
        load(tmp_path)


GQA = {**SIZES, "num_key_value_heads": 2}
COUSINS: dict[str, Any] = {
    "olmo": lambda: hf.OlmoForCausalLM(hf.OlmoConfig(**GQA)),
    "olmo3": lambda: hf.Olmo3ForCausalLM(hf.Olmo3Config(**GQA, sliding_window=8)),
    "smollm3": lambda: hf.SmolLM3ForCausalLM(hf.SmolLM3Config(**GQA)),
    "starcoder2": lambda: hf.Starcoder2ForCausalLM(hf.Starcoder2Config(**GQA)),
    "cohere": lambda: hf.CohereForCausalLM(hf.CohereConfig(**GQA)),
    "granite": lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**GQA)),
    "stablelm": lambda: hf.StableLmForCausalLM(hf.StableLmConfig(**GQA)),
    "gptj": lambda: hf.GPTJForCausalLM(
        hf.GPTJConfig(vocab_size=V, n_embd=32, n_layer=2, n_head=4, rotary_dim=8, n_positions=64)
    ),
}


@pytest.mark.parametrize("family", list(COUSINS))
def test_known_families_pass_the_probe(family: str) -> None:
    torch.manual_seed(0)
    model = COUSINS[family]().eval()
    assert model.config.model_type in KNOWN
    assert fitting_cache(model, family) == "slab"


def test_an_unknown_family_is_probed() -> None:
    config = hf.GPTBigCodeConfig(vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    model = load((hf.GPTBigCodeForCausalLM(config), words(V)))
    assert model.cache in ("slab", "holes")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_masked_model_sees_its_canvas_and_nothing_of_its_batch(attention: str) -> None:
    torch.manual_seed(1)
    bert = hf.BertForMaskedLM(hf.BertConfig(**SIZES)).eval()
    model = load((bert, words(V)), attn=attention)
    assert (model.provides, model.mask) == ({"masked_lm", "embeddings"}, 3)
    rows = rows_of([[1, 5, 6], [1, 7, 8, 9, 4]])
    rows.limit = torch.tensor([6, 8])
    at = torch.tensor([[3, 4, 5], [6, 7, NONE]])
    rows.write(
        torch.arange(3, 8)[None].expand(2, -1),
        torch.full((2, 5), 3),
        torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]).bool(),
    )
    got = model.reader(Cost(), "t").read(rows, at)
    for r in range(2):
        ids = rows.tokens[r : r + 1, : int(rows.limit[r])]
        with torch.no_grad():
            want = bert(ids).logits[0]
        want[:, 3] = -torch.inf
        here = at[r][at[r] != NONE]
        torch.testing.assert_close(got[r, : len(here)], want[here], atol=1e-5, rtol=1e-5)
