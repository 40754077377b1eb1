"""Plain decoding for evaluation, without decodekit's loop: greedy for causal models, threshold unmasking for masked."""

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from decodekit.zoo.data import Example
from training.batches import causal, encode
from training.settings import CANVAS


def _chunks(prompts: list[str], size: int) -> list[list[str]]:
    return [prompts[at : at + size] for at in range(0, len(prompts), size)]


def _left_padded(prompts: list[str], tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor]:
    encoded = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"]


def _answer(tokens: list[int], tokenizer: PreTrainedTokenizerFast) -> str:
    """Text up to the first end token."""
    end = tokenizer.eos_token_id
    text: str = tokenizer.decode(tokens[: tokens.index(end)] if end in tokens else tokens)
    return text


@torch.no_grad()
def greedy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: list[str], most: int = 96, size: int = 50
) -> list[str]:
    """Greedy answers of a causal model by ``transformers``' own ``generate``; at most ``most`` tokens each."""
    plan = GenerationConfig(
        do_sample=False, max_new_tokens=most, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    answers: list[str] = []
    for part in _chunks(prompts, size):
        tokens, attention = _left_padded(part, tokenizer)  # [B, P], [B, P]
        out = model.generate(input_ids=tokens, attention_mask=attention, generation_config=plan)  # [B, P+A]
        answers += [_answer(row.tolist(), tokenizer) for row in out[:, tokens.shape[1] :]]
    return answers


@torch.no_grad()
def unmask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    threshold: float = 0.9,
    cells: int = CANVAS,
    size: int = 50,
) -> tuple[list[str], float]:
    """Threshold unmasking (Fast-dLLM, arXiv 2505.22618, algorithm 1, one block): answers and mean rounds a canvas.

    A round commits every masked cell whose most probable token reaches ``threshold``, and always the surest one.
    """
    mask, answers, rounds = tokenizer.mask_token_id, [], 0
    for part in _chunks(prompts, size):
        tokens, attention = _left_padded(part, tokenizer)
        canvas = torch.full((len(part), cells), mask)  # [B, N]
        attention = torch.cat([attention, torch.ones_like(canvas)], 1)  # [B, P+N]
        while bool((canvas == mask).any()):
            rounds += int((canvas == mask).any(1).sum())
            logits = model(input_ids=torch.cat([tokens, canvas], 1), attention_mask=attention).logits[:, -cells:]
            logits[..., mask] = float("-inf")  # [B, N, V]
            sure, best = logits.softmax(-1).max(-1)  # [B, N], [B, N]
            sure = sure.masked_fill(canvas != mask, -1.0)
            take = (sure >= threshold) | (sure == sure.max(1, keepdim=True).values) & (sure >= 0)
            canvas = torch.where(take, best, canvas)
        answers += [_answer(row.tolist(), tokenizer) for row in canvas]
    return answers, rounds / max(1, len(prompts))


@torch.no_grad()
def acceptance(
    base: PreTrainedModel, draft: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, examples: list[Example]
) -> list[float]:
    """Mean of sum(min(p, q)) over the gold answer tokens of each example: the chance that base accepts a drafted token.

    Leviathan et al., arXiv 2211.17192, section 3.2, at temperature 1.
    """
    means: list[float] = []
    for row in encode(examples, tokenizer):
        tokens = causal([row], tokenizer.pad_token_id, 0.0).tokens  # [1, T]
        seam = len(row.prompt)
        p = base(input_ids=tokens).logits[0, seam - 1 : -1].softmax(-1)  # [A, V]
        q = draft(input_ids=tokens).logits[0, seam - 1 : -1].softmax(-1)  # [A, V]
        means.append(float(torch.minimum(p, q).sum(-1).mean()))
    return means
