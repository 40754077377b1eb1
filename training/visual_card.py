"""Measure the visual models and write their cards: ``python -m training.visual_card``."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from training.visual_finish import NAMES, heldout, strays
from training.visual_recipe import CODES, FOLDER, opened_vq

_WHAT = {
    "visual": "A class-conditional model (Llama architecture) over the codes of pictures, after the plan of LlamaGen "
    "(arXiv 2406.06525) at a small size: 28 x 28 grey values are 7 x 7 codes of a codebook of 512 unit vectors of "
    "width 8, written in raster order after a token for the class. Beside it lie the image tokenizer "
    "(`vq.safetensors`), its codebook (`codebook.safetensors`), a classifier that judges pictures "
    "(`classifier.safetensors`) and the mean and covariance of its features over held-out pictures "
    "(`reference.safetensors`).",
    "visual-draft": "A small model over the same codes that drafts for `visual` in speculative decoding.",
}
_USE = """## Use

```python
import decodekit as dk

out = dk.generate("zoo:visual", [dk.images.prompt(kind) for kind in range(10)], strategy="sample", max_tokens=49)
dk.images.png("digits.png", dk.images.decoded(out))
```

Prompts are a class, `dk.images.prompt(3)` or the text `<3>`, or no class, `dk.images.prompt()` or `<none>`, which is
what classifier-free guidance compares with: `guidance(1.5, prompt='<none>')`. The class was dropped one time in ten in
training.

"""
_LIMITS = """## Limits

Trained on 8,000 MNIST digits (Yann LeCun, Corinna Cortes, Christopher Burges; CC BY-SA 3.0), each time on drawn paper
of its own with a level, a slope of light and a soft grain (`visual_data`): a black background would make half of the
codes certain, which no photograph does. It draws digits and nothing else. Held out are 2,000 images, which are of
MNIST's test part, too. It exists to demonstrate, test and compare decoding strategies on a CPU within seconds.
"""


@torch.inference_mode()
def laws(folder: Path, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(laws [N, 49, V] in float64 along pictures, their codes [N, 49])."""
    model = LlamaForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    codes = opened_vq().encode(images)
    tokens = torch.cat([CODES + labels[:, None], codes[:, :-1]], 1)
    return model(input_ids=tokens, use_cache=False).logits.double().softmax(-1), codes


def measure(name: str, out: Path) -> dict[str, Any]:
    """All figures of one model."""
    images, labels = heldout(500)
    p, codes = laws(out / name, images, labels)
    stray = strays(out / name)
    bits = float(torch.special.entr(p).sum(-1).mean()) / math.log(2)
    report: dict[str, Any] = {
        "decoding": "plain sampling",
        "bits a code, held out": round(float(-p.gather(2, codes[..., None]).log2().mean()), 3),
        "entropy of the law, bits": round(bits, 3),
        "probability of the best code": round(float(p.amax(-1).mean()), 4),
        "probability of tokens that are no codes": f"{stray['mean']:.1e} on average, {stray['most']:.1e} at most",
    }
    if name == "visual-draft":
        target, _ = laws(out / "visual", images, labels)
        report["acceptance against `visual`, mean of sum(min(p, q))"] = round(
            float(torch.minimum(p, target).sum(-1).mean()), 4
        )
        return report
    return report | _pictures(images, labels)


@torch.inference_mode()
def _pictures(held: Tensor, labels: Tensor) -> dict[str, Any]:
    from decodekit.models.load import load
    from decodekit.testing.harness import run
    from decodekit.vision import images

    vq = opened_vq()
    found: dict[str, Any] = {}
    codes = vq.encode(held)
    found["mean squared error of the image tokenizer"] = round(float((vq.decode(codes) - held).pow(2).mean()), 5)
    used = torch.bincount(codes.flatten(), minlength=CODES).double()
    found["codes in use, as perplexity"] = round(float((torch.special.entr(used / used.sum()).sum()).exp()), 1)
    rebuilt, real = images.quality(vq.decode(codes), labels), images.quality(held, labels)
    found["held-out pictures: the judge is right"] = real.accuracy
    found["held-out pictures through the tokenizer: the judge is right"] = rebuilt.accuracy
    for what, strategy in (("plain", "sample"), ("guidance(1.5)", "sample | guidance(1.5, prompt='<none>')")):
        out = run(strategy, load("zoo:visual"), [images.prompt(k) for k in range(10)], max_tokens=49, samples=100)
        drawn = images.decoded([list(text) for text in out.texts])
        q = images.quality(drawn, [k for k in range(10) for _ in range(100)])
        found[f"1,000 drawn pictures, {what}: the judge sees the class"] = (
            f"{q.accuracy:.3f} ({q.accuracy_low:.3f} to {q.accuracy_high:.3f})"
        )
        found[f"1,000 drawn pictures, {what}: Fréchet distance of features"] = (
            f"{q.distance:.2f} ({q.distance_low:.2f} to {q.distance_high:.2f})"
        )
    found["... of held-out pictures through the tokenizer (500)"] = round(rebuilt.distance, 2)
    return found


def text(name: str, folder: Path) -> str:
    """The card of model ``name`` whose files are in ``folder``."""
    training = json.loads((folder / "training.json").read_text())
    evaluation = json.loads((folder / "evaluation.json").read_text())
    lines = [f"# zoo:{name}", "", _WHAT[name], ""]
    for what, about in training.items():
        settings = about["settings"]
        shape = f", {settings['layers']} layers of width {settings['hidden']}" if settings["layers"] else ""
        lines.append(
            f"- `{what}`: {about['parameters']:,} parameters{shape}, weights in bfloat16. {settings['steps']:,} steps "
            f"of {settings['batch']} pictures (seed {settings['seed']}, {about['cpu_seconds']} s of one CPU core, "
            f"last loss {about['losses'][-1]}){_schedules(about)}."
        )
    lines += ["", _USE.rstrip(), "", "## Figures", "", "| figure | value |", "| --- | --- |"]
    lines += [f"| {key} | {value} |" for key, value in evaluation.items() if key != "decoding"]
    return "\n".join(lines) + "\n\n" + _LIMITS


def _schedules(about: dict[str, Any]) -> str:
    """A run whose schedule was changed on the way says so: its settings alone do not make these weights."""
    parts = about.get("schedules", [])
    if len({part["planned_steps"] for part in parts}) < 2:
        return ""
    said = ", ".join(f"from step {part['from_step']:,} that of {part['planned_steps']:,} steps" for part in parts)
    return f"; the schedule of the learning rate was shortened on the way: {said}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the visual models and write their cards.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the zoo (default: the package's own)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in NAMES:
        folder = options.out / name
        report = measure(name, options.out)
        (folder / "evaluation.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
        (folder / "README.md").write_text(text(name, folder))
        print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
