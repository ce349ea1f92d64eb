"""The project file ``cu-cert.toml``: found, read strictly, checked, and written with every option explained."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cu_cert import recipes
from cu_cert._tables import AuditConfig, SigningConfig, TrainingConfig, UnlearningConfig, default_guesses
from cu_cert._toml import Document, build, comment, lines_of, read_document, toml_key, toml_value
from cu_cert.data._config import DataConfig
from cu_cert.errors import ConfigError, EnvironmentProblem
from cu_certificates._files import write_atomic
from cu_certificates._toml import KeyPath, nearest
from cu_certificates.errors import UsageError
from cu_certificates.policy import policy_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from cu_cert.data._guess import DataGuess

__all__ = [
    "AuditConfig",
    "DataConfig",
    "Project",
    "SigningConfig",
    "TrainingConfig",
    "UnlearningConfig",
    "default_guesses",
    "default_project_text",
    "find_project",
    "init_project",
    "load_project",
]

FILE_NAME: Final = "cu-cert.toml"
SCHEMA: Final = 1

_TABLES: Final = ("data", "training", "unlearning", "audit", "signing", "policy")

# The keys of the built-in recipes. They are declared in modules that import torch, which writing a project file must
# not do; a test holds this list against the declarations.
_RECIPE_KEYS: Final = (
    ("epochs", 30, "Passes over the records."),
    ("batch_size", 64, "Records a step."),
    ("learning_rate", 0.1, "Step size of SGD."),
    ("momentum", 0.9, "Momentum of SGD, in [0, 1)."),
    ("weight_decay", 0.0, "L2 penalty."),
    ("standardize", True, "Scale features by mean and deviation of the records trained on."),
    ("hidden", (128,), '"mlp" and "cnn": the widths of the dense hidden layers.'),
    ("filters", (8, 16), '"cnn" only: the kernels (output channels) of each convolution.'),
    ("kernel", 3, '"cnn" only: the side of its kernels.'),
    ("pooling", 2, '"cnn" only: the side of the squares that are averaged after each convolution; 1 for none.'),
    ("widths", (256,), '"adapter" only: the outputs of each layer of the frozen backbone.'),
    ("backbone_seed", 0, '"adapter" only: the seed of a random backbone.'),
    ("backbone", "", '"adapter" only: a model file whose first dense layers are the backbone; empty for a random one.'),
    ("rank", 8, '"adapter" only: the rank of the adapters.'),
    ("scale", 1.0, '"adapter" only: what the adapters\' output is multiplied by.'),
)


@dataclass(frozen=True, kw_only=True)
class Project:
    """A checked project.

    Args:
        path: The project file.
        root: Its folder; relative paths start there.
        data: The table ``[data]``.
        training: The table ``[training]``.
        unlearning: The table ``[unlearning]``.
        audit: The table ``[audit]``.
        signing: The table ``[signing]``.
        policy: The table ``[policy]`` as parsed; floor 1 reads it.
        lines: The line of each key of the file.
    """

    path: Path
    root: Path
    data: DataConfig
    training: TrainingConfig
    unlearning: UnlearningConfig
    audit: AuditConfig
    signing: SigningConfig
    policy: Mapping[str, object]
    lines: Mapping[KeyPath, int] = field(default_factory=dict, repr=False, compare=False)

    def where(self, *keys: str) -> str:
        """Return ``file:line`` of a key such as ``where("audit", "slots")``."""
        return self._document().where(*keys)

    def make_recipe(self) -> "recipes.Recipe":
        """Make the recipe of ``[training]``.

        Raises:
            ConfigError: An option is wrong; the message gives file and line.
        """
        with self._document().located():
            return recipes.make_recipe(self.training.recipe, self.training.options, root=str(self.root))

    def store_path(self, environ: Mapping[str, str]) -> Path:
        """Return the folder of trained models.

        Args:
            environ: The environment, where ``CU_CERT_STORE`` wins over the file so that a CI cache can carry it.
        """
        return self.root / (environ.get("CU_CERT_STORE") or self.audit.store)

    def key_path(self) -> Path | None:
        """Return the path of the private key, or ``None`` for the user's default key."""
        return None if self.signing.key is None else self.root / Path(self.signing.key).expanduser()

    def _document(self) -> Document:
        return Document(path=self.path, values={}, lines=self.lines)


def init_project(folder: Path, *, data: Path | None = None, force: bool = False) -> "DataGuess":
    """Write a project file into ``folder``.

    Args:
        folder: Where ``cu-cert.toml`` is to stand.
        data: The data file to describe; ``None`` for the built-in digits.
        force: Whether a project file that is there may be replaced.

    Returns:
        What was guessed about the data.

    Raises:
        ConfigError: There is a project file already.
        DataError: The data file cannot be read or has no usable columns.
        EnvironmentProblem: The folder cannot be written.
    """
    from cu_cert.data._guess import guess

    path = folder / FILE_NAME
    if path.exists() and not force:
        raise ConfigError(f"{path}: exists already; edit it, or pass --force to replace it")
    found = guess(data, folder)
    text = default_project_text(found)
    try:
        write_atomic(path, text.encode(), what="project file")
    except UsageError as error:
        raise EnvironmentProblem(str(error)) from None
    return found


def find_project(start: Path) -> Path:
    """Return the ``cu-cert.toml`` of ``start`` or of the nearest folder above it.

    Raises:
        ConfigError: There is none.
    """
    folder = start.absolute()
    for candidate in (folder, *folder.parents):
        if (candidate / FILE_NAME).is_file():
            return candidate / FILE_NAME
    raise ConfigError(
        f"no {FILE_NAME} in {folder} or in a folder above it; change to your project's folder, or write one with "
        "`cu-cert init` (`cu-cert init --data FILE` for your own data)"
    )


def load_project(path: Path) -> Project:
    """Read and check a project file.

    Args:
        path: The file, as :func:`find_project` returns it.

    Raises:
        ConfigError: The file is missing or not TOML, a key is unknown, or a value has the wrong type or lies out of
            range. The message gives file and line.
    """
    document = read_document(path.absolute())
    values = document.values
    if values.get("schema") != SCHEMA or isinstance(values["schema"], bool):
        found = f"schema = {toml_value(values['schema'])}" if "schema" in values else "no schema"
        raise ConfigError(
            f"{document.where('schema')}: {found}; expected the line 'schema = {SCHEMA}' at the top. A file with a "
            "higher number needs a newer cu-cert"
        )
    for key in values:
        if key not in ("schema", *_TABLES):
            raise ConfigError(f"{document.where(key)}: unknown key {key!r}; expected {nearest(key, _TABLES)}")
    tables = {name: _table(document, name) for name in _TABLES}
    own = {key: value for key, value in tables["training"].items() if key in ("recipe", "seed")}
    options = {key: value for key, value in tables["training"].items() if key not in own}
    with document.located():
        return Project(
            path=document.path,
            root=document.path.parent,
            data=build(DataConfig, "data", tables["data"]),
            training=build(TrainingConfig, "training", own, options=options),
            unlearning=build(UnlearningConfig, "unlearning", tables["unlearning"]),
            audit=build(AuditConfig, "audit", tables["audit"]),
            signing=build(SigningConfig, "signing", tables["signing"]),
            policy=tables["policy"],
            lines=document.lines,
        )


def with_plan(project: Project, path: Path) -> Project:
    """Return a project whose table ``[audit]`` comes from a file of its own.

    Args:
        project: The project.
        path: A TOML file that holds this table and no other.

    Raises:
        ConfigError: The file cannot be read, holds something else, or a value is wrong.
    """
    document = read_document(path.absolute())
    for key in document.values:
        if key not in ("schema", "audit"):
            raise ConfigError(f"{document.where(key)}: {key!r}; expected the table [audit] alone in a plan file")
    with document.located():
        return replace(project, audit=build(AuditConfig, "audit", _table(document, "audit")))


def _table(document: Document, name: str) -> Mapping[str, object]:
    found = document.values.get(name, {})
    if not isinstance(found, dict):
        raise ConfigError(
            f"{document.where(name)}: {name} = {toml_value(found)}; expected a table that starts with [{name}]"
        )
    return found


def default_project_text(data: "DataGuess") -> str:
    """Return a project file that trains and audits as it is, with every option explained.

    Args:
        data: What is known about the data.
    """
    return "\n".join(_text(data.config)) + "\n" + policy_text()


def _text(data: DataConfig) -> Iterator[str]:
    yield "# The project file of cu-cert. An option that is commented out with # has no value or its default."
    yield f"schema = {SCHEMA}"
    tables: tuple[tuple[str, str, DataclassInstance], ...] = (
        ("data", "The records.", data),
        ("training", "How models are trained.", TrainingConfig()),
        ("unlearning", "How records are unlearned.", UnlearningConfig()),
        ("audit", "What is tested; fixed, and hashed into the certificate, before a model is trained.", AuditConfig()),
        ("signing", "Who signs the certificate.", SigningConfig()),
    )
    for name, title, record in tables:
        yield from ("", "", f"# {title}", f"[{name}]")
        yield from lines_of(record)
        if name == "training":
            yield from comment(
                "All further keys belong to the recipe. Those of the built-in ones, with their defaults:"
            )
            for key, default, doc in _RECIPE_KEYS:
                yield from (f"# {doc}", f"#{toml_key(key)} = {toml_value(default)}")
    yield from ("", "")
