"""Several models with their optimizers in one checkpoint: a small GAN on digits.

python examples/gan.py [FOLDER]
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from holdfast import CheckpointStore, Loader
from holdfast.data import open_data
from holdfast.randomness import derive_seed, seed_generators

STEPS, SAVE_EVERY, NOISE = 40, 20, 16


def main(folder: str = "runs/gan") -> None:
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(NOISE, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())
    critic = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
    to_generator = torch.optim.Adam(generator.parameters(), lr=1e-3)
    to_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)
    batches = Loader(open_data("digits").pictures, batch_size=32, shuffle=True, drop_last=True)

    parts = {
        "generator": generator,
        "critic": critic,
        "to_generator": to_generator,
        "to_critic": to_critic,
        "batches": batches,
    }
    store = CheckpointStore(folder)
    step = store.restore_latest(parts)
    print(f"starting at step {step}" + (f": finished; delete {folder} to begin again" if step == STEPS else ""))
    while step < STEPS:
        for images, _, _ in batches:
            real = images.flatten(1).float() / 255
            seed_generators(derive_seed("step", 0, step))  # the noise is a function of the step: nothing to save
            fake = generator(torch.randn(len(real), NOISE))
            critic_loss = F.softplus(-critic(real)).mean() + F.softplus(critic(fake.detach())).mean()
            to_critic.zero_grad()
            critic_loss.backward()
            to_critic.step()
            generator_loss = F.softplus(-critic(fake)).mean()
            to_generator.zero_grad()
            generator_loss.backward()
            to_generator.step()
            step += 1
            if step % SAVE_EVERY == 0:
                store.save(step, parts)
                print(f"step {step}: critic {critic_loss.item():.3f}, generator {generator_loss.item():.3f}, saved")
            if step == STEPS:
                break


if __name__ == "__main__":
    main(*sys.argv[1:])
