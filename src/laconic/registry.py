"""Objects by name: those of this library, of installed packages, and ``package.module:name``. No torch.

The library's own objects are listed without importing them: names come from a row in each file of a room
(``METHOD = MethodEntry("sparse-vd", ...)``, its first argument a literal), or from a table. So a misspelt
name is refused before torch is imported. An installed package adds names in its pyproject.toml::

    [project.entry-points."laconic.methods"]
    my-pruning = "my_package.pruning:MyPruning"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from laconic.errors import InputError
from laconic.own import did_you_mean, own_object
from laconic.text import plain_words

__all__ = ["Entry", "Registry", "room", "table"]


@dataclass(frozen=True)
class Entry:
    """A registered class and what is said of it.

    Args:
        name: Its name in a run file and at the command line.
        kind: The class.

    >>> Entry("entry", Entry).help
    'A registered class and what is said of it.'
    """

    name: str
    kind: Any

    @property
    def help(self) -> str:
        """The first line of the class's docstring."""
        return plain_words((self.kind.__doc__ or "").strip().partition("\n")[0])

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of its settings; none for a class that is no dataclass."""
        return tuple(f.name for f in fields(self.kind) if f.init) if is_dataclass(self.kind) else ()


@dataclass(frozen=True)
class Registry:
    """Names of one kind of object, and where each object is.

    Args:
        what: What errors call such an object, as "method".
        group: The entry points of installed packages.
        known: A function that returns where the library's own objects are, ``module:name`` by name.
        base: The class that every registered class must have as its base, as ``module:name``; empty where a
            function of the right signature will do.
        factory: Whether a registered class or function is itself what is wanted (an optimiser's class, which
            is called with parameters later), so that it is not called without arguments.
        mistaken: A class whose subclasses are refused, as ``module:name``, and what belongs there instead;
            both empty where there is none.

    >>> NUMBERS = Registry("number", "laconic.numbers", lambda: {"circle": "math:pi"})
    >>> NUMBERS.find("circle")
    3.141592653589793
    >>> NUMBERS.find("cirkle")
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: there is no number 'cirkle'. Cure: did you mean circle?
    """

    what: str
    group: str
    known: Callable[[], Mapping[str, str]] = field(repr=False)
    base: str = ""
    factory: bool = False
    mistaken: tuple[str, str] = ("", "")

    def names(self) -> tuple[str, ...]:
        """All registered names, in order. Imports none of the objects.

        Raises:
            InputError: A name that is taken twice.
        """
        return tuple(sorted(self._places()))

    def place(self, name: str) -> str:
        """Where the object of a registered name is, as ``module:name``."""
        return self._places()[name]

    def check(self, text: str) -> None:
        """Raises InputError for a text that is neither a registered name nor ``package.module:name``."""
        if ":" in text:
            module, _, name = text.partition(":")
            if not module or not name:
                raise InputError(
                    f"{self.what} {text!r} should read package.module:name. Cure: my_module:name for what "
                    "my_module.py calls name"
                )
            return
        places = self._places()
        if text not in places:
            raise InputError(f"there is no {self.what} {text!r}. Cure: {did_you_mean(text, places)}")

    def find(self, text: str) -> Any:
        """The object of this name.

        Args:
            text: A registered name, or a module, a colon and a name in it.

        Raises:
            InputError: No such object, with the name that may have been meant, or one of another kind.
        """
        self.check(text)
        if ":" in text:
            return self._checked(own_object(text, self.what), text)
        place = self._places()[text]
        named = text if place.startswith("laconic.") else f"{text}, {place}"
        return self._checked(own_object(place, f"{self.what} {text},"), named)

    def _checked(self, found: Any, text: str) -> Any:
        kind = found.kind if isinstance(found, Entry) else found
        wrong, cure = self.mistaken
        if wrong and isinstance(kind, type) and issubclass(kind, own_object(wrong, self.what)):
            raise InputError(f"{self.what} {text}: {kind.__name__} is no family of them. Cure: {cure}")
        if not self.base:
            return found
        base = own_object(self.base, self.what)
        if not (isinstance(kind, type) and issubclass(kind, base)):
            told = (
                f"the class {kind.__name__}" if isinstance(kind, type) else f"of type {type(kind).__name__}"
            )
            raise InputError(
                f"{self.what} {text} is {told}, and no {self.what}. "
                f"Cure: a frozen dataclass with the base {base.__module__.rpartition('.')[0]}.{base.__name__}"
            )
        return found

    def _places(self) -> dict[str, str]:
        """Where the object of each name is."""
        from importlib.metadata import entry_points  # twenty milliseconds, which not every start needs

        places = dict(self.known())
        for point in entry_points(group=self.group):
            if places.get(point.name, point.value) != point.value:
                raise InputError(
                    f"the {self.what} {point.name!r} is registered twice, by "
                    f"{places[point.name].partition(':')[0]} and by {point.value}. "
                    "Cure: another name in the package of your own, or uninstall one of them"
                )
            places[point.name] = point.value
        return places


def room(name: str, variable: str) -> Callable[[], Mapping[str, str]]:
    """Where the registered objects of a room of this library are.

    Args:
        name: A package of this library, as "laconic.methods".
        variable: What a row is called, as "METHOD".

    Returns:
        A registry's ``known``: a function that returns ``module:name`` by name.

    >>> room("laconic.tasks", "TASK")()["regression"]
    'laconic.tasks.regression:TASK'
    """

    def known() -> Mapping[str, str]:
        from laconic.rows import rows_of  # it parses files, which not every start needs

        return rows_of(name, variable)

    return known


def table(**places: str) -> Callable[[], Mapping[str, str]]:
    """A registry's ``known`` from a table; names are written with underscores for hyphens.

    Returns:
        A function that returns ``module:name`` by name.

    >>> table(one_shot="laconic.schedules:OneShot")()
    {'one-shot': 'laconic.schedules:OneShot'}
    """
    named = {name.replace("_", "-"): place for name, place in places.items()}
    return lambda: named


METHODS = Registry(
    "method", "laconic.methods", room("laconic.methods", "METHOD"), "laconic.methods.contract:Method"
)
TASKS = Registry("task", "laconic.tasks", room("laconic.tasks", "TASK"), "laconic.tasks.task:Task")
NETWORKS = Registry("network", "laconic.networks", room("laconic.zoo", "NETWORK"))
PRIORS = Registry(
    "prior",
    "laconic.priors",
    table(
        gaussian_mixture="laconic.bayes.priors.gaussian_mixture:GaussianMixture",
        half_cauchy="laconic.bayes.priors.half_cauchy:HalfCauchy",
        laplace="laconic.bayes.priors.laplace:Laplace",
        log_uniform="laconic.bayes.priors.log_uniform:LogUniform",
        normal="laconic.bayes.priors.normal:Normal",
        scale_mixture="laconic.bayes.priors.scale_mixture:ScaleMixture",
        sparse_mixture="laconic.bayes.priors.sparse_mixture:SparseMixture",
        spike_and_slab="laconic.bayes.priors.spike_and_slab:SpikeAndSlab",
        spikes="laconic.bayes.priors.spikes:Spikes",
        student_t="laconic.bayes.priors.student_t:StudentT",
    ),
)
POSTERIORS = Registry(
    "posterior",
    "laconic.posteriors",
    table(
        gaussian="laconic.bayes.posteriors.gaussian:GaussianFamily",
        multiplicative="laconic.bayes.posteriors.multiplicative:MultiplicativeFamily",
        scaled="laconic.bayes.posteriors.scaled:ScaledFamily",
    ),
    mistaken=(
        "laconic.bayes.posteriors.posterior:Posterior",
        "a function (name, weight) that returns a posterior, as laconic.bayes:GaussianFamily",
    ),
)
SCHEDULES = Registry(
    "schedule",
    "laconic.schedules",
    table(
        one_shot="laconic.schedules:OneShot",
        iterative="laconic.schedules:Iterative",
        linear="laconic.schedules:Linear",
        geometric="laconic.schedules:Geometric",
        cubic="laconic.schedules:Cubic",
    ),
)
OPTIMIZERS = Registry(
    "optimizer",
    "laconic.optimizers",
    table(adam="laconic.train.optimizers:Adam", sgd="laconic.train.optimizers:SGD"),
    factory=True,
)
RATE_SCHEDULES = Registry(
    "learning-rate schedule",
    "laconic.rate_schedules",
    table(linear="laconic.schedules:LinearDecay"),
    factory=True,
)

METHOD_CHOICES = {"method": METHODS, "prior": PRIORS, "posterior": POSTERIORS, "schedule": SCHEDULES}
"""Fields of a method whose value may be named, and from which registry."""
FIT_CHOICES = {"optimizer": OPTIMIZERS, "schedule": RATE_SCHEDULES}
"""The same of the training with a method."""
