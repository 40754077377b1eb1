"""Complete the folders of the visual models: ``python -m training.visual_finish``.

Writes the tokenizers, the codebook by itself and the statistics of held-out pictures. Then `visual_card` measures and
writes the cards.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from decodekit.vision.image_tokenizer import Classifier
from training.visual_data import CLASSES, TRAIN, on_paper, pictures
from training.visual_recipe import CODES, FOLDER, NONE_TOKEN, VOCAB, opened_vq

NAMES = ("visual", "visual-draft")


def tokenizer() -> PreTrainedTokenizerFast:
    """A word a token: `c0` to `c511` are codes, `<0>` to `<9>` classes, `<none>` is no class."""
    words = [*(f"c{i}" for i in range(CODES)), *(f"<{i}>" for i in range(CLASSES)), "<none>"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<none>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made)


def heldout(count: int = 2000, seed: int = 5) -> tuple[Tensor, Tensor]:
    """(images [N, 28, 28], classes [N]) that took no part in any training, on paper of their own."""
    ink, labels = pictures()
    ink, labels = ink[TRAIN:][:count], labels[TRAIN:][:count]
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([on_paper(part, generator) for part in torch.split(ink, 50)]), labels


def states(model: LlamaForCausalLM, images: Tensor, labels: Tensor) -> Tensor:
    """[N, 49, H] what the output layer reads along pictures."""
    codes = opened_vq().encode(images)
    kind = CODES + labels
    kind[::5] = NONE_TOKEN
    found: Tensor = model.model(input_ids=torch.cat([kind[:, None], codes[:, :-1]], 1), use_cache=False)[0]
    return found


@torch.inference_mode()
def strays(folder: Path) -> dict[str, float]:
    """How probable the tokens are that are no codes, all together, along held-out pictures."""
    model = LlamaForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    stray = model.lm_head(states(model, *heldout(300))).softmax(-1)[..., CODES:].sum(-1)
    return {"mean": float(stray.mean()), "most": float(stray.max())}


@torch.inference_mode()
def reference(folder: Path) -> None:
    """Mean and covariance of the judge's features over held-out pictures."""
    judge = Classifier(CLASSES)
    judge.load_state_dict({n: v.float() for n, v in load_file(str(folder / "classifier.safetensors")).items()})
    features = judge.features(heldout()[0]).double()
    save_file(
        {"mean": features.mean(0).float(), "covariance": features.T.cov().float().contiguous()},
        str(folder / "reference.safetensors"),
        {"format": "pt"},
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Complete the folders of the visual models.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the zoo (default: the package's own)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in NAMES:
        folder = options.out / name
        words = tokenizer()
        assert len(words) == VOCAB
        words.save_pretrained(str(folder))
        GenerationConfig().save_pretrained(str(folder))
        vectors = opened_vq(options.out / "visual").codebook.contiguous()
        save_file({"codebook": vectors}, str(folder / "codebook.safetensors"), {"format": "pt"})
        print(f"{name}: tokens that are no codes have {strays(folder)}")
    reference(options.out / "visual")


if __name__ == "__main__":
    main()
