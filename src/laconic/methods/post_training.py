r"""Post-training compression: a trained network and a few hundred inputs, no labels and no training.

Posterior: the curvature of each layer at the trained weights, from second moments of its inputs and the
measured sensitivity of the predictions. Decision: each weight takes the level of least predicted loss plus
price times code length, what that does to the output is made up for by the weights after it, and each layer
is re-solved for the inputs that the layers before it really give. The price is the one knob; it is found by
what the network really loses on inputs that decided nothing.

Sources: Frantar & Alistarh, Optimal Brain Compression, NeurIPS 2022; Frantar et al., GPTQ, ICLR 2023;
Conzelmann et al., Reducing Storage of Pretrained Neural Networks by Rate-Constrained Quantization and Entropy
Coding, 2025.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from laconic.errors import DataError, InputError, ModelError
from laconic.methods.common.grid_choice import finish
from laconic.methods.contract import Compressed, Context, Judge, Method
from laconic.methods.layerwise.calibration import calibration_calls, learnt_of
from laconic.methods.layerwise.comparison import Comparison, Divergence
from laconic.methods.layerwise.outcome import Wanted, facts_of, searched, searched_refined, with_reachable
from laconic.methods.layerwise.refining import Refine
from laconic.methods.layerwise.training_batches import augmented
from laconic.methods.layerwise.trials import make_subject
from laconic.methods.registry import MethodEntry
from laconic.networks import duplicate
from laconic.networks.norm_folding import fold_batch_norms
from laconic.networks.probe import check_model
from laconic.quantize.second_order import SecondOrder


@dataclass(frozen=True)
class PostTraining(Method):
    """Rate-distortion quantisation of a trained network, layer by layer, from unlabelled inputs.

    It needs no training: as a stage it takes ``FitConfig(epochs=0)``. Its inputs are the stage's training
    batches, of which the labels are not read.

    Args:
        examples: How many inputs are used, the first of the batches.
        held_out: Share of them that decides nothing and measures the loss, in (0, 1).
        max_kl: Nats per term that the predictions may be from the original's where no target is given.
        trials: Prices that are tried at most; each takes a pass over the inputs.
        second_order: Settings of the rounding.
        asymmetric: Whether a layer is re-solved for the inputs that it will get.
        fold: Whether batch norms are folded into the layers before them first.
        temperature: What logits are divided by where the Fisher information says what errors cost; at 1 an
            overconfident classifier has hardly any.
        divergence: How far two outputs are apart, summed over the examples: a function (outputs, reference
            outputs) in place of the task's, such as ``laconic.tasks.likelihoods.cosine_distance``.
        refine: Training on the grid after the decision; off where its ``steps`` are 0. It needs no labels.

    Raises:
        InputError: A setting outside its bounds.

    >>> import torch, laconic
    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> net = laconic.prepare(nn.Linear(8, 4), PostTraining(), x[:2], data_size=64, batches=[x])
    >>> small = laconic.convert(net)
    >>> sorted(small.tensors), small.facts["divergence"] <= 0.01
    (['bias', 'weight'], True)
    """

    examples: int = 1000
    held_out: float = 0.25
    max_kl: float = 0.01
    trials: int = 12
    second_order: SecondOrder = SecondOrder(damping_by_samples=0.3)
    asymmetric: bool = True
    fold: bool = True
    temperature: float = 4.0
    divergence: Divergence | None = None
    refine: Refine = Refine()

    gentler = "lower max_kl"
    smaller = "higher max_kl"
    measures_divergence = True

    def __post_init__(self) -> None:
        if self.examples < 1 or self.trials < 1:
            raise InputError(
                f"examples and trials must be at least 1, got {self.examples} and {self.trials}. "
                "Cure: examples=1000, trials=12"
            )
        if not self.temperature > 0:
            raise InputError(f"temperature must be > 0, got {self.temperature}. Cure: temperature=4")
        if not 0 < self.held_out < 1 or not self.max_kl > 0:
            raise InputError(
                f"need 0 < held_out < 1 and max_kl > 0, got {self.held_out} and {self.max_kl}. "
                "Cure: held_out=0.25, max_kl=0.01"
            )

    @property
    def changes_architecture(self) -> bool:  # type: ignore[override]
        """Whether batch norms may be folded."""
        return self.fold

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """A copy."""
        check_model(model, example)
        if all(p.is_complex() for p in model.parameters()):
            raise ModelError(
                f"{type(model).__name__} has complex weights alone, which have no grid. "
                "Cure: hold them as real ones (torch.view_as_real)"
            )
        return duplicate(model)

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Search the price, and decide all weights at it."""
        plain, folded = _folded(module, context) if self.fold else (duplicate(module).eval(), ())
        if context.batches is None:
            raise DataError("no calibration inputs were given. Cure: batches=..., a few hundred inputs")
        labels = self.refine.steps > 0 and self.refine.labels > 0
        seed = context.noise.seed
        deciding, measuring = calibration_calls(
            plain, context.batches(), context.task, self.examples, self.held_out, seed, labels=labels
        )
        if self.refine.steps and self.refine.augment is not None:  # before the search, which takes a while
            augmented(deciding.inputs[0], self.refine.augment, torch.Generator().manual_seed(seed))
        needed = labels or self.divergence is None
        learnt = learnt_of(plain, context.task, context.batches) if needed else {}
        comparison = Comparison(plain, measuring, context.task, learnt, self.divergence)
        wanted = Wanted.of(judge, self.max_kl)
        subject = make_subject(
            plain,
            deciding,
            comparison,
            context.policy,
            self.second_order,
            seed=seed,
            asymmetric=self.asymmetric,
            removed=context.removed,
            wanted=wanted.max_kl or self.max_kl,
            task=context.task if self.divergence is None else None,
            temperature=self.temperature,
        )
        found = searched(subject, wanted, context.example, self.trials)
        if self.refine.steps:
            found = searched_refined(subject, wanted, context.example, found, self.refine, seed)
        found, reachable = with_reachable(subject, wanted, context.example, found, self.trials)
        facts = reachable | facts_of(
            found, subject, wanted, measuring.examples, folded, refining=self.refine.steps > 0
        )
        done = finish(found.best.module, found.best.tensors, facts, wanted.judge)
        return replace(done, architecture_changed=bool(folded))


def _folded(module: nn.Module, context: Context) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy with its batch norms folded; none where names are kept: folding would change what they name."""
    if context.policy.keep:
        return duplicate(module).eval(), ()
    return fold_batch_norms(module, context.example)


METHOD = MethodEntry(
    "post-training",
    PostTraining,
    presets={"full": {"": {"fit.epochs": 0}}, "demo": {"": {"fit.epochs": 0}}},
    paper="Frantar et al., GPTQ, ICLR 2023; Frantar & Alistarh, Optimal Brain Compression, NeurIPS 2022",
)
