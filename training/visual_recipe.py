"""Train the visual models: ``python -m training.visual_recipe vq|classifier|visual|draft|head``.

In that order: the tokenizer of images, the judge of images, the class-conditional transformer over codes, and two
drafts for it. Every number that decides the weights is here; one thread, seeded. A run writes its state now and then
and goes on from there when started again with the same arguments.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from decodekit.models.feature_head import FeatureHead
from decodekit.vision.image_tokenizer import GRID, VQ, Classifier
from decodekit.zoo import FOLDER as ZOO
from training.visual_data import CLASSES, TRAIN, on_paper, pictures

FOLDER = ZOO
CODES, NONE_TOKEN = 512, 512 + CLASSES
VOCAB, DROP = NONE_TOKEN + 1, 0.1


@dataclass(frozen=True)
class Settings:
    """Shape and schedule of one model."""

    steps: int
    batch: int
    rate: float
    hidden: int = 0
    layers: int = 0
    heads: int = 0
    inner: int = 0
    seed: int = 1


SETTINGS = {
    "vq": Settings(steps=1500, batch=64, rate=2e-3),
    "classifier": Settings(steps=3000, batch=64, rate=2e-3),
    "visual": Settings(steps=4500, batch=48, rate=2.5e-3, hidden=160, layers=4, heads=5, inner=416),
    "head": Settings(steps=1200, batch=48, rate=2e-3, hidden=160, layers=1, heads=5, inner=320),
    "draft": Settings(steps=2500, batch=48, rate=5e-3, hidden=64, layers=1, heads=2, inner=160),
}


def build(settings: Settings) -> LlamaForCausalLM:
    """A randomly initialised transformer over codes; seed torch before calling it."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=settings.hidden,
        intermediate_size=settings.inner,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=GRID * GRID + 15,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        initializer_range=0.04,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


def batches(settings: Settings, begin: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(images [B, 28, 28], classes [B]) from step `begin` on; each step's batch depends on its number alone."""
    ink, labels = pictures()
    ink, labels = ink[:TRAIN], labels[:TRAIN]
    for step in range(begin, settings.steps):
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        which = torch.randint(len(ink), (settings.batch,), generator=generator)
        yield on_paper(ink[which], generator), labels[which]


def rate(step: int, settings: Settings) -> float:
    """Learning rate: linear warm-up, then half a cosine down to 2 % of the peak."""
    warm = min(100, settings.steps // 10)
    if step < warm:
        return settings.rate * (step + 1) / warm
    return settings.rate * (0.02 + 0.49 * (1 + math.cos(math.pi * (step - warm) / max(1, settings.steps - warm))))


class Codebook(nn.Module):
    """Moving averages of a codebook (arXiv 1711.00937, appendix A.1); entries that nobody uses begin anew."""

    def __init__(self, codebook: Tensor) -> None:
        super().__init__()
        self.count: Tensor
        self.total: Tensor
        self.register_buffer("count", torch.ones(len(codebook)))
        self.register_buffer("total", codebook.clone())

    def forward(self, features: Tensor, codes: Tensor) -> Tensor:
        """The codebook after one step from features [N, W] and their codes [N]."""
        hot = F.one_hot(codes, len(self.count)).float()
        self.count.mul_(0.98).add_(hot.sum(0), alpha=0.02)
        self.total.mul_(0.98).add_(hot.T @ features, alpha=0.02)
        dead = (self.count < 0.05).nonzero()[:, 0]
        if len(dead):
            new = features[torch.randint(len(features), (len(dead),))]
            self.total[dead], self.count[dead] = new, 1.0
        return F.normalize(self.total, dim=-1)


class VQTraining(nn.Module):
    """Reconstruction and commitment loss of a batch."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.model = VQ(CODES)
        self.book = Codebook(self.model.codebook)

    def forward(self, images: Tensor, _: Tensor) -> Tensor:
        """The loss; moves the codebook."""
        features = self.model.features(images)
        codes = self.model.nearest(features)
        vectors = self.model.codebook[codes]
        with torch.no_grad():
            self.model.codebook.copy_(self.book(features.detach().flatten(0, 1), codes.flatten()))
        painted = self.model.paint(features + (vectors - features).detach())
        return F.mse_loss(painted, images) + 0.02 * (features - vectors.detach()).pow(2).sum(-1).mean()


class ClassifierTraining(nn.Module):
    """Cross entropy of a batch."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.model = Classifier(CLASSES)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss."""
        return F.cross_entropy(self.model(images), labels)


class CodesTraining(nn.Module):
    """Cross entropy of the next code; the class is dropped one time in ten, for classifier-free guidance."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.model = build(settings)
        self.vq = [opened_vq()]  # in a list: not trained

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss."""
        with torch.no_grad():
            codes = self.vq[0].encode(images)
        kind = torch.where(torch.rand(len(labels)) < DROP, NONE_TOKEN, CODES + labels)
        tokens = torch.cat([kind[:, None], codes[:, :-1]], 1)
        logits = self.model(input_ids=tokens, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1), codes.flatten())


class HeadTraining(nn.Module):
    """A feature head for the trained `visual`: the features that it says, and the law that they make."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.model = FeatureHead(settings.hidden, settings.heads, settings.inner)
        target = LlamaForCausalLM.from_pretrained(str(FOLDER / "visual"), dtype=torch.float32).eval()
        self.fixed = [opened_vq(), target.requires_grad_(False)]  # in a list: not trained

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Smooth L1 of the features and a tenth of the cross entropy to the target's law (EAGLE, section 4.3)."""
        vq, target = self.fixed
        with torch.no_grad():
            codes = vq.encode(images)
            tokens = torch.cat([CODES + labels[:, None], codes], 1)
            states = target.model(input_ids=tokens, use_cache=False)[0]
            law = target.lm_head(states[:, 1:]).softmax(-1)
        table = target.get_input_embeddings()
        at = torch.arange(tokens.shape[1] - 1).expand(len(tokens), -1)
        said = self.model(states[:, :-1], table(tokens[:, 1:]), at)
        near = F.smooth_l1_loss(said, states[:, 1:])
        logits = target.lm_head(said)
        return near + 0.1 * F.cross_entropy(logits.flatten(0, 1), law.flatten(0, 1))


TRAININGS: dict[str, Any] = {
    "vq": VQTraining,
    "classifier": ClassifierTraining,
    "visual": CodesTraining,
    "draft": CodesTraining,
    "head": HeadTraining,
}


def opened_vq(folder: Path = FOLDER / "visual") -> VQ:
    """The trained image tokenizer."""
    vq = VQ(CODES)
    vq.load_state_dict({name: value.float() for name, value in load_file(str(folder / "vq.safetensors")).items()})
    return vq.eval()


def train(what: str, settings: Settings, state: Path, every: int = 100) -> tuple[nn.Module, dict[str, Any]]:
    """The trained model and what is to be told of it; `state` is a file that is written now and then."""
    torch.manual_seed(settings.seed)
    training = TRAININGS[what](settings)
    optimizer = torch.optim.AdamW(training.parameters(), lr=settings.rate, betas=(0.9, 0.95), weight_decay=0.05)
    losses: list[float] = []
    begin, spent = time.process_time(), 0.0
    at, before = 0, []
    if state.is_file():
        kept = torch.load(state, weights_only=True)
        training.load_state_dict(kept["training"])
        optimizer.load_state_dict(kept["optimizer"])
        losses, at, spent = kept["losses"], kept["step"], kept["seconds"]
        before = kept.get("schedules", [])
    schedules = [*before, [at, settings.steps]]
    total = 0.0
    for step, (images, labels) in enumerate(batches(settings, at), at):
        torch.manual_seed(settings.seed * 7_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, settings)
        loss = training(images, labels)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(training.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total += loss.item()
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            losses.append(round(total / (step % every + 1), 5))
            total = 0.0
            seconds = spent + time.process_time() - begin
            print(f"step {step + 1}/{settings.steps} loss {losses[-1]} {seconds:.0f} s", flush=True)
            kept = {"training": training.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
            torch.save(kept | {"step": step + 1, "seconds": seconds, "schedules": schedules}, state)
    about = {
        "settings": asdict(settings),
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "losses": losses,
        "losses_are": f"means over {every} steps",
        "schedules": [{"from_step": at, "planned_steps": steps} for at, steps in schedules],
        "cpu_seconds": round(spent + time.process_time() - begin),
        "torch": torch.__version__,
    }
    return training.model.eval(), about


def save(what: str, model: nn.Module, about: dict[str, Any], out: Path) -> None:
    """Write the weights as bfloat16, and what is to be told."""
    folder = out / ("visual-draft" if what == "draft" else "visual")
    folder.mkdir(parents=True, exist_ok=True)
    half = {name: value.to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    if isinstance(model, LlamaForCausalLM):
        model.to(torch.bfloat16).save_pretrained(str(folder))
    else:
        save_file(half, str(folder / f"{what}.safetensors"), {"format": "pt"})
    path = folder / "training.json"
    told = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(told | {what: about}, indent=2) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train a visual model of the zoo.")
    parser.add_argument("what", choices=list(TRAININGS))
    parser.add_argument("--state", type=Path, required=True, help="file for the state of an unfinished run")
    parser.add_argument("--steps", type=int, help="steps of the schedule from here on (default: the settings')")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the zoo (default: the package's own)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = SETTINGS[options.what]
    if options.steps is not None:
        settings = replace(settings, steps=options.steps)
    model, about = train(options.what, settings, options.state)
    save(options.what, model, about, options.out)


if __name__ == "__main__":
    main()
