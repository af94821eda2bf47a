"""The keys of a config with their types and meanings."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which examples a run uses; splits are named by what they are for.

    Attributes:
        name: of the data set, for stores and reports: letters, digits, - and _.
        source: kind of the data source, see `aft_jax.data.SOURCES`.
        path: where the source finds it: a builder's name, hub id, directory or file pattern.
        task: what the labels are, where a source offers several.
        train: split to train on.
        tune: split that may choose anything (beta, steps); empty to carve it out of `train`.
        test: split that is evaluated once, at the end.
        tune_fraction: share of `train` that becomes tune where `tune` is empty, else 0.
        columns: what an example needs ("image", "text", "label", "id") -> the column that has it.
        template: how several columns become one text, see `aft_jax.data.TEMPLATES`; empty for none.
        on_error: "raise" at an example that cannot be read, or "skip" all of them, with a list.
    """

    name: str
    source: str
    path: str
    task: str
    train: str
    tune: str
    test: str
    tune_fraction: float
    columns: dict[str, str]
    template: str
    on_error: str


@dataclasses.dataclass(frozen=True)
class InputsConfig:
    """What the student reads of an example. Teachers bring their own preprocessing.

    Attributes:
        kind: "array", "image", "text" or "image_text".
        image_size: side of the square image, in pixels.
        image_fit: "stretch" the whole image to the square, or "crop" its centre; a view is a crop
            already and is stretched.
        mean: per channel, of pixels in [0, 1]; subtracted on the device.
        std: per channel, divided by on the device.
        tokenizer: directory or hub id of the student's tokenizer.
        max_length: tokens kept of a text.
        buckets: lengths in tokens that a batch is padded to, rising, the last `max_length`.
    """

    kind: str
    image_size: int
    image_fit: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tokenizer: str
    max_length: int
    buckets: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """How an augmented view of an image is cut; nothing is augmented while `views` is 0.

    Attributes:
        min_area: a view is a crop of at least this share of the image's area.
        flip: whether half of the views are mirrored.
    """

    min_area: float
    flip: bool


@dataclasses.dataclass(frozen=True)
class StudentConfig:
    """The network that is trained.

    Attributes:
        name: architecture, see `aft_jax.students.STUDENTS`, or your own as "module:function".
        options: keyword arguments of the architecture.
        init_from: run directory whose student gives the starting weights (its classifier head is
            replaced); empty for others.
        pretrained: hub id or directory of public weights to start from (their classifier head is
            replaced), in the form of timm or transformers; empty for others. Without either the
            weights are random.
        revision: commit hash, branch or tag of `pretrained` on the hub; empty for the newest.
    """

    name: str
    options: dict[str, Any]
    init_from: str
    pretrained: str
    revision: str


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """A frozen model whose features are extracted once.

    Attributes:
        kind: teacher family, see `aft_jax.teachers.TEACHERS`.
        source: what the family loads it from: a run directory ("flax"), a hub id or directory
            ("huggingface"), a model name ("timm"), "module:function" ("custom").
        revision: commit hash of the weights at their source; empty for the newest.
        pooling: which of its features; empty for the family's default.
        layers: hidden layers to pool, concatenated; -1 is the last one; empty for the default.
        tower: "image", "text" or "both" of a model with two; empty for what the examples have.
        dtype: the model computes in, "float32" or "bfloat16".
        max_length: tokens a text teacher reads; 0 for the model's own limit.
        trust_remote_code: whether code from the model's repository may run; needs `revision`.
        options: keyword arguments of a custom teacher.
    """

    kind: str
    source: str
    revision: str
    pooling: str
    layers: tuple[int, ...]
    tower: str
    dtype: str
    max_length: int
    trust_remote_code: bool
    options: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class FeaturesConfig:
    """How features are extracted, stored and read.

    Attributes:
        directory: of the stores, one per teacher and split; a local path or gs://bucket/path.
        splits: whose features `extract` computes and `import-official` reads; those of test serve
            the method "fconcat" and `export-official` alone.
        dtype: stored as "float32" or "bfloat16".
        batch_size: rows that a teacher sees at once.
        threads: that prepare batches while the teacher runs.
        processes: hosts that extract together, each with its own shards.
        process: which of them this is, from 0.
        missing: "error" at a row without features, or "skip" the regularizer for it.
        residency: where a run keeps them: "device", "host", "stream" from disk, or "auto".
    """

    directory: str
    splits: tuple[str, ...]
    dtype: str
    batch_size: int
    threads: int
    processes: int
    process: int
    missing: str
    residency: str


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Adam, linear warm-up and cosine decay to zero, both per step.

    Attributes:
        learning_rate: peak for the student.
        weight_decay: decoupled, for the student only.
        scales_learning_rate: peak for the regularizer's own parameters, but for the maps of kd and
            ft, which train at the student's; no weight decay.
        warmup_steps: steps from zero to the peak.
    """

    learning_rate: float
    weight_decay: float
    scales_learning_rate: float
    warmup_steps: int


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """What `compare` runs.

    Attributes:
        methods: the methods to compare; "stl" is the baseline.
        betas: grid that each method chooses from on the tune split.
        search_seeds: seeds of the runs that choose beta.
        seeds: paired seeds of the final runs; disjoint from `search_seeds`.
        method_options: method -> its keyword arguments; a method without an entry has
            `config.method_options` if it is `config.method`, else none.
    """

    methods: tuple[str, ...]
    betas: tuple[float, ...]
    search_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    method_options: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """What `sweep` runs, with `config.method`.

    Attributes:
        tuner: how beta is found: "grid" trains each beta; "population" trains all betas side by
            side, and the worse take over the better students' state and a beta beside theirs;
            "online" moves beta during one training by the gradient of the tune loss.
        betas: grid; where a population starts; where "online" starts.
        teachers: sets of teachers to try, each as names joined by "+", or "all", "each" (every
            teacher alone) or "leave_one_out" (all but one, in turn).
        seeds: of the runs that choose, and of the final ones.
        together: trials of one shape that train in one program; 0 for as many as fit, 1 for one
            after another.
        scheduler: "local", or "ray" for a cluster.
        interval: "population": steps between two exchanges, a multiple of `config.log_every`.
        factor: "population": beta is multiplied or divided by this where it is taken over.
        beta_learning_rate: "online": of log beta; slopes are small, since one step of the student
            changes little: at 0.1 beta moves by a few percent in 200 steps of the digits.
        retrain: whether the chosen setting trains again, on train and tune together, before test.
    """

    tuner: str
    betas: tuple[float, ...]
    teachers: tuple[str, ...]
    seeds: tuple[int, ...]
    together: int
    scheduler: str
    interval: int
    factor: float
    beta_learning_rate: float
    retrain: bool


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides the result of a run.

    Attributes:
        seed: of initial weights, data order and dropout.
        data: the examples.
        inputs: what the student reads of them.
        augment: how a view is cut.
        views: stored augmented versions of each image, of which every epoch shows one; 0 shows the
            image itself; -1 cuts a fresh view every epoch, for methods without teachers.
        student: the network.
        teachers: teacher name -> where it comes from.
        features: how their features are stored and read.
        method: what is trained, see `aft_jax.training.methods`.
        method_options: keyword arguments of the method.
        beta: strength of the regularizer.
        batch_size: rows of the global batch.
        steps: optimizer steps.
        log_every: steps between lines of `metrics.jsonl`, the only waits for the device.
        eval_every: steps between evaluations on the tune split; a multiple of `log_every`.
        checkpoint_every: steps between checkpoints; a multiple of `log_every`.
        devices: how many devices share the batch; 0 means all.
        steps_per_call: k, optimizer steps of one compiled call; fewer before an evaluation or a
            checkpoint. The host is asked once a call.
        accumulation_steps: micro-batches that a step's batch is computed in, one after another, to
            save memory; the kernel is still over the whole batch.
        precision: of the student's products and activations: "float32", "bfloat16", or "float16"
            with loss scaling. Parameters, optimizer and losses are float32.
        state_sharding: "replicated" keeps parameters and optimizer state on every device,
            "sharded" a part on each.
        inputs_residency: where what the student reads is kept: "device", "host" (loaded for every
            step), or "auto".
        optim: the optimizer.
        compare: the comparison.
        sweep: the sweep.
        official_quirks: train as the published code does, for side-by-side runs: scales as they
            start, SGD with momentum, the cosine by epochs, whole epochs with their ragged last
            batch, at most 100 batches the same in every epoch.
    """

    seed: int
    data: DataConfig
    inputs: InputsConfig
    augment: AugmentConfig
    views: int
    student: StudentConfig
    teachers: dict[str, TeacherConfig]
    features: FeaturesConfig
    method: str
    method_options: dict[str, Any]
    beta: float
    batch_size: int
    steps: int
    log_every: int
    eval_every: int
    checkpoint_every: int
    devices: int
    steps_per_call: int
    accumulation_steps: int
    precision: str
    state_sharding: str
    inputs_residency: str
    optim: OptimConfig
    compare: CompareConfig
    sweep: SweepConfig
    official_quirks: bool
