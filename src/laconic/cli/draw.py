"""``laconic draw prior``: the picture of a prior. Imports nothing that a help text does not need."""

from __future__ import annotations

import argparse
from typing import Any

from laconic.cli.parser import add_command
from laconic.errors import InputError

EXAMPLES = """\
examples:
  laconic draw prior laplace --set scale=0.1 --out laplace.png
  laconic draw prior spikes --set levels=-0.2,0,0.2
  laconic draw prior my_priors:PowersOfTwo --path path.npz --out path.png

"""


def add_draw(commands: argparse._SubParsersAction[Any]) -> None:
    """The command and its options."""
    p = add_command(
        commands,
        "draw",
        "draw a prior: its density, the KL of a Gaussian posterior, and posteriors over training",
        EXAMPLES,
    )
    p.add_argument("what", choices=("prior",), metavar="prior", help="what is drawn")
    p.add_argument("name", metavar="NAME|MODULE:CLASS", help="NAMES, or one of your own")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a field: scale=0.1")
    p.add_argument(
        "--width", type=float, help="weights from -WIDTH to WIDTH are shown (default: 99 %% of the draws)"
    )
    p.add_argument(
        "--path", metavar="FILE.npz", help="what laconic.bayes.PosteriorPath recorded in training and saved"
    )
    p.add_argument("--out", metavar="FILE.png", help="the picture (default NAME.png)")
    p.registries = {"name": "PRIORS"}
    p.set_defaults(command="draw")


def run_draw(name: str, settings: list[str], width: float | None, path: str | None, out: str | None) -> int:
    """Draw a prior; returns the exit status."""
    from laconic.cli.request import set_flags
    from laconic.cli.settings import build
    from laconic.registry import PRIORS

    out = out or f"{name.rpartition(':')[2]}.png"
    if not out.endswith(".png"):
        raise InputError(
            f"draw: --out {out} should end in .png. Cure: --out {out.rpartition('.')[0] or out}.png"
        )
    PRIORS.check(name)
    try:
        from laconic.bayes import draw_prior
        from laconic.bayes.posterior_path import read_path
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError(
            "laconic draw needs torch, which the plain install leaves out. Cure: pip install 'laconic[train]'"
        ) from error
    prior = build(PRIORS.find(name), set_flags(settings))
    draw_prior(prior, out, width=width, posteriors=None if path is None else read_path(path))
    print(f"picture: {out}")
    return 0
