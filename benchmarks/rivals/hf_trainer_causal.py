"""A character-level GPT-2 with transformers.Trainer, as its documentation shows it; nanoGPT's CPU setting.

usage: hf_trainer_causal.py TRAIN.txt VALID.txt [--rate 5e-5] [--seconds 120] [--every 100]

Prints one JSON line: the validation loss (nats a character, blocks of 64) and the seconds of training alone, every so
many steps. The rate falls linearly to 0 over `--steps`, the Trainer's default.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("train")
parser.add_argument("valid")
parser.add_argument("--rate", type=float, default=5e-5)
parser.add_argument("--steps", type=int, default=3900)
parser.add_argument("--every", type=int, default=300)
parser.add_argument("--seed", type=int, default=0)
asked = parser.parse_args()

texts = [Path(name).read_text(encoding="utf-8") for name in (asked.train, asked.valid)]
codes = {character: number for number, character in enumerate(sorted(set("".join(texts))))}
train, valid = (torch.tensor([codes[character] for character in text]) for text in texts)
BLOCK, BATCH = 64, 12


class Blocks(torch.utils.data.Dataset):
    """Every block of 64 characters, beginning anywhere."""

    def __len__(self):
        return len(train) - BLOCK

    def __getitem__(self, index):
        ids = train[index : index + BLOCK]
        return {"input_ids": ids, "labels": ids}


torch.manual_seed(asked.seed)
model = GPT2LMHeadModel(GPT2Config(vocab_size=len(codes), n_positions=BLOCK, n_embd=128, n_layer=4, n_head=4,
                                   resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))  # fmt: skip


@torch.inference_mode()
def look():
    """The mean over the validation text, in blocks that do not overlap."""
    model.eval()
    count = len(valid) // BLOCK
    losses = [
        model(input_ids=part, labels=part).loss.item() * len(part)
        for part in valid[: count * BLOCK].view(-1, BLOCK).split(64)
    ]
    model.train()
    return sum(losses) / count


class Watch(TrainerCallback):
    """Looks at the validation text now and then; the clock stands meanwhile."""

    def __init__(self):
        self.start, self.curve = time.perf_counter(), []

    def on_step_end(self, args, state, control, **kwargs):
        """Note the loss."""
        if state.global_step % asked.every == 0:
            begun = time.perf_counter()
            self.curve.append({"step": state.global_step, "seconds": begun - self.start, "loss": look()})
            self.start += time.perf_counter() - begun


watch = Watch()
trainer = Trainer(model=model, train_dataset=Blocks(), callbacks=[watch], args=TrainingArguments(
    output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, max_steps=asked.steps, learning_rate=asked.rate,
    seed=asked.seed, save_strategy="no", report_to="none", disable_tqdm=True))  # fmt: skip
watch.start = time.perf_counter()
trainer.train()
print(
    json.dumps(
        {"peer": "transformers.Trainer", "rate": asked.rate, "parameters": model.num_parameters(), "curve": watch.curve}
    )
)
