"""SimCLR and MoCo as people write them: Pillow augments each picture in a DataLoader's workers, a float32 net in NCHW learns.

    python views_plain.py PICTURES.npy STEPS [--objective moco] [--workers 2]

PICTURES is (n, 32, 32, 3) uint8; the net is the same as Mapsto's of size tiny. The last line is JSON.
"""

import argparse
import copy
import json
import math
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageOps
from torch import nn
from torch.utils.data import DataLoader, Dataset


def view(image):
    width, height = image.size
    area, ratio = random.uniform(0.2, 1.0), math.exp(random.uniform(-1, 1) * math.log(4 / 3) / 2)
    w, h = min(1.0, math.sqrt(area) * ratio) * width, min(1.0, math.sqrt(area) / ratio) * height
    left, top = random.uniform(0, width - w), random.uniform(0, height - h)
    image = image.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    if random.random() < 0.8:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(random.uniform(0.6, 1.4))
        hue, saturation, value = image.convert("HSV").split()
        turn = int(random.uniform(-0.1, 0.1) * 255)
        hue = Image.fromarray((np.asarray(hue, np.int16) + turn).astype(np.uint8))
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    if random.random() < 0.2:
        image = ImageOps.grayscale(image).convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().sub(127.5).div(64.0)


class Pictures(Dataset):
    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, at):
        image = Image.fromarray(self.pixels[at])
        return view(image), view(image)


class Block(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.short = nn.Identity()
        if stride > 1 or before != width:
            self.short = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        return F.relu(self.short(x) + self.body(x))


def net(width=256):
    widths = [width >> i for i in (3, 2, 1, 0)]
    blocks = [Block(widths[max(0, i - 1)], wide, 1 if i == 0 else 2) for i, wide in enumerate(widths)]
    stem = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 128)]
    return nn.Sequential(*stem, *blocks, *head)


class SimCLR:
    def __init__(self, model):
        self.model = model

    def loss(self, one, two):
        z = F.normalize(self.model(torch.cat([one, two])), dim=1)
        scores = (z @ z.T / 0.2).masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
        return F.cross_entropy(scores, (torch.arange(len(z)) + len(one)) % len(z))


class MoCo:
    def __init__(self, model, queue=4096, momentum=0.99):
        self.model, self.twin, self.momentum = model, copy.deepcopy(model).requires_grad_(False), momentum
        self.queue = F.normalize(torch.randn(queue, 128), dim=1)

    def loss(self, one, two):
        with torch.no_grad():
            for slow, fast in zip(self.twin.parameters(), self.model.parameters(), strict=True):
                slow.mul_(self.momentum).add_(fast, alpha=1 - self.momentum)
            keys = F.normalize(self.twin(two), dim=1)
        z = F.normalize(self.model(one), dim=1)
        scores = torch.cat([(z * keys).sum(1, keepdim=True), z @ self.queue.T], 1) / 0.2
        self.queue = torch.cat([self.queue[len(keys) :], keys])
        return F.cross_entropy(scores, torch.zeros(len(z), dtype=torch.long))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures")
    parser.add_argument("steps", type=int)
    parser.add_argument("--objective", choices=("simclr", "moco"), default="simclr")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    torch.manual_seed(0)
    batch, model = 256, net()
    objective = {"simclr": SimCLR, "moco": MoCo}[asked.objective](model)
    data = Pictures(np.load(asked.pictures))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    loader = DataLoader(data, batch, shuffle=True, num_workers=asked.workers, drop_last=True)
    took, begun = [], time.perf_counter()
    for step, (one, two) in enumerate(loader):
        loss = objective.loss(one, two)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        took.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        if step + 1 == asked.steps:
            break
    seconds = sum(took[3:])  # without the workers' start
    print(json.dumps({"pictures_per_second": batch * len(took[3:]) / seconds, "loss": float(loss.detach())}))


if __name__ == "__main__":
    main()
