"""What is typed: the options and arguments of every command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bad_inputs import Case, command
from tests.bad_inputs.checkpoints import network
from tests.helpers.checkpoints import CARD
from tests.helpers.records import attacked_row, row
from tests.helpers.specs import certify_spec
from transmooth.checkpoint import weights
from transmooth.data.prepare import prepare
from transmooth.publishing import model_card
from transmooth.records import attacked
from transmooth.records import table as records

LOG = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n" + "".join(f"{k}\t1\t1\t0.{k + 1}\t1\t0:00:01\n" for k in range(5))


def certify(*more: Any) -> Callable[[], str]:
    """`transmooth certify` of a sound model and images, the last of two equal options counts."""

    def use() -> str:
        if "digits" not in more:
            sound()
        count = [] if "--indices" in more else ["--images", 2]
        sigma = [] if "--sigma" in more else ["--sigma", 0.5]
        settings = [*sigma, "--n", 20, "--n0", 5, "--alpha", 0.01, *count, "--out", "r.parquet"]
        return command("certify", "model", "images", *settings, *more)

    return use


def sound() -> None:
    """A model and images that fit it."""
    weights.save(Path("model"), network(), CARD)
    source = {"kind": "digits", "seed": 0, "test": 10}
    prepare({"source": source, "size": 8, "stored": 8, "validation": 0, "seed": 0}, Path("images"), Path())


def attack(*more: Any) -> Callable[[], str]:
    """`transmooth attack` of a sound model and images, beside records of another model."""

    def use() -> str:
        sound()
        records.write(records.from_rows([row(index) for index in range(5)], {}), Path("r.parquet"))
        Path("log.tsv").write_text(LOG)
        return command("attack", "model", "images", "--epsilon", 0.5, "--steps", 1, "--images", 2, *more)

    return use


def typed(*arguments: Any) -> Callable[[], str]:
    """Any command, beside a log and records."""

    def use() -> str:
        Path("log.tsv").write_text(LOG)
        records.write(records.from_rows([row(index) for index in range(5)], {}), Path("r.parquet"))
        Path("folder.parquet").mkdir()
        return command(*arguments)

    return use


NAMED = ["--method", "Gaussian", "--dataset", "cifar10", "--network", "net"]


def other_log(numbers: range, label: int = 1, *more: str) -> Callable[[], str]:
    """`transmooth compare` of a log and one of these images, all of one label."""

    def use() -> str:
        lines = [f"{k}\t{label}\t1\t0.1\t{int(label == 1)}\t0:00:01\n" for k in numbers]
        Path("other.tsv").write_text(LOG.splitlines(True)[0] + "".join(lines))
        return typed("compare", "log.tsv", "other.tsv", "--radius", 0, *more)()

    return use


def report(*more: Any) -> Callable[[], str]:
    """`transmooth report` of these inputs: two records, attacks of both and of another image, and two studies."""

    def use() -> str:
        for number, study in enumerate(("a", "b")):
            made = records.from_rows([row(0)], {})
            Path(study, "evaluate").mkdir(parents=True)
            records.write(made, Path(study, "evaluate", f"run_{number}", "certify", "records.parquet"))
            records.write(made, Path(f"{study}.parquet"))
            model = row(0)["model"] if study == "a" else "another"
            attacked.write(attacked.from_rows([attacked_row(0, model=model)], {}), Path(f"attack_{study}.parquet"))
        attacked.write(attacked.from_rows([attacked_row(7)], {}), Path("attack_of_7.parquet"))
        return command("report", *more, "--out", "report.html")

    return use


def sequential() -> str:
    """`transmooth leaderboard add` of records that are decided at a few radii."""
    records.write(records.from_rows([row(0, method="sequential")], {"spec": {"radii": [0.1]}}), Path("s.parquet"))
    return command("leaderboard", "add", "s.parquet", *NAMED)


def usage(option: str, why: str) -> str:
    return f"Error: Invalid value for '{option}': {why}"


def publish(name: str, *more: Any) -> Callable[[], str]:
    """`transmooth publish` of a checkpoint that no training made."""

    def use() -> str:
        weights.save(Path("model"), network(), CARD)
        return command("publish", "model", name, *more)

    return use


def trained(*more: Any) -> Callable[[], str]:
    """`transmooth publish` of a checkpoint whose card is of a training, beside records of other weights."""

    def use() -> str:
        card = dict.fromkeys(model_card.NEEDED) | CARD
        weights.save(Path("model"), network(), card)
        records.write(records.from_rows([row(index) for index in range(5)], {}), Path("r.parquet"))
        return command("publish", "model", "a/b", "--out", "new", *more)

    return use


SAID = "transmooth: "
JOB = ("job", "evaluate", "--spec", certify_spec().text, "--data", ".", "--checkpoint", ".", "--out", "x.parquet")
LOG_OF = ("import-log", "log.tsv", "new.parquet", "--sigma")

CASES = [
    Case(
        "certify --sigma nan",
        usage("--sigma", "should be numbers >= 0 with commas or spaces between, such as 0,0.25,0.5; found 'nan'"),
        certify("--sigma", "nan"),
    ),
    Case(
        "certify --sigma=0.25 --sigma=0.5",
        usage("--sigma", "is there twice; several numbers go in one, with commas"),
        certify("--sigma", 0.1, "--sigma=0.25"),
    ),
    Case(
        "certify --indices 0,9999",
        f"{SAID}--indices: images test has images 0 to …, not 9999",
        certify("--indices", "0,9999"),
    ),
    Case(
        "certify --sigma 1e39",
        f"{SAID}sigma must be a positive finite number (noise on the [0, 1] image), got 1e+39",
        certify("--sigma", "1e39"),
    ),
    Case("certify --sigma strong", usage("--sigma", "…"), certify("--sigma", "strong")),
    Case("certify --alpha 1.5", f"{SAID}alpha must be strictly between 0 and 1, got 1.5", certify("--alpha", 1.5)),
    Case("certify --n -1", f"{SAID}n must be an integer from 0 to 2^63 - 1, got -1", certify("--n", -1)),
    Case("certify --n 1e5", usage("--n", "…"), certify("--n", "1e5")),
    Case("certify --n0 0", f"{SAID}n0 (selection samples) must be at least 1, got 0", certify("--n0", 0)),
    Case("certify --seed of 20 digits", usage("--seed", "…"), certify("--seed", 10**19)),
    Case("certify --batch 0", usage("--batch", "…"), certify("--batch", 0)),
    Case("certify --images 0", usage("--images", "…"), certify("--images", 0)),
    Case("certify --size 0", usage("--size", "…"), certify("--size", 0)),
    Case(
        "certify --radii 0.5,0.25",
        f"{SAID}radii must be … in increasing order, each once, got (0.5, 0.25)",
        certify("--method", "sequential", "--radii", "0.5,0.25"),
    ),
    Case(
        "certify --sigma 1,0.5 --threshold 0.1,0",
        f"{SAID}--threshold: is for the methods cascade, margin, multiscale, dual_rs, found with cohen",
        certify("--sigma", "1,0.5", "--threshold", "0.1,0"),
    ),
    Case(
        "certify --method cascade --sigma 1,0.5 --threshold 0.1",
        f"{SAID}--threshold: should be there for each of 2 --sigma, found 1",
        certify("--method", "cascade", "--sigma", "1,0.5", "--threshold", 0.1),
    ),
    Case(
        "certify --method cascade --sigma 1,1",
        f"{SAID}each sigma should be one stage, got 1.0, 1.0",
        certify("--method", "cascade", "--sigma", "1,1"),
    ),
    Case(
        "certify --radii 100",
        f"{SAID}n = 20 samples certify at most 0.4108 at sigma = 0.5; radii start at 100.0",
        certify("--method", "sequential", "--radii", "100"),
    ),
    Case(
        "certify --radii nan",
        usage("--radii", "should be numbers >= 0 with commas or spaces between, such as 0,0.25,0.5; found 'nan'"),
        certify("--radii", "nan"),
    ),
    Case(
        "certify --out FOLDER/x.parquet, where FOLDER is a file",
        f"{SAID}[Errno 17] File exists: '…/model/model.json/…'",
        certify("--out", "model/model.json/r.parquet"),
    ),
    Case("certify without a model", "Error: Missing argument …", typed("certify")),
    Case("attack --epsilon 0", f"{SAID}epsilon: should be a number above 0, found 0.0", attack("--epsilon", 0)),
    Case("attack --epsilon nan", f"{SAID}epsilon: should be a number above 0, found nan", attack("--epsilon", "nan")),
    Case("attack --norm l1", usage("--norm", "…'l1' is not one of 'l2', 'linf'."), attack("--norm", "l1")),
    Case("attack --steps 0", usage("--steps", "…"), attack("--steps", 0)),
    Case(
        "attack --sigma 0",
        f"{SAID}sigma must be a positive finite number (noise on the [0, 1] image), got 0.0",
        attack("--sigma", 0),
    ),
    Case(
        "attack --n 5 votes",
        f"{SAID}n = 5 votes always abstain at alpha = 0.001: it takes at least 11",
        attack("--sigma", 0.5, "--n", 5),
    ),
    *(
        Case(
            f"attack --{option} without --sigma",
            f"{SAID}--{option}: is about a smoothed classifier: needs --sigma",
            attack(f"--{option}", value),
        )
        for option, value in (
            ("records", "r.parquet"),
            ("denoiser", "unet"),
            ("samples", 16),
            ("n", 1000),
            ("alpha", 0.001),
        )
    ),
    Case(
        "attack --records in linf",
        f"{SAID}--records: certified radii are of norm l2, and --norm is linf",
        attack("--records", "r.parquet", "--sigma", 0.5, "--norm", "linf"),
    ),
    Case(
        "attack with records of another sigma",
        f"{SAID}r.parquet: holds no records of sigma = 0.25; there are: 0.5",
        attack("--records", "r.parquet", "--sigma", 0.25),
    ),
    Case(
        "attack with records of another model",
        f"{SAID}r.parquet: is of another model, abc; the attack is of …",
        attack("--records", "r.parquet", "--sigma", 0.5),
    ),
    Case(
        "attack with a log for records",
        f"{SAID}log.tsv: should be records, which say what model they are of; is a log",
        attack("--records", "log.tsv", "--sigma", 0.5),
    ),
    Case(
        "attack --out r.tsv",
        f"{SAID}r.tsv: should end in .parquet (records)",
        attack("--out", "r.tsv"),
    ),
    Case("accuracy of a folder", f"{SAID}folder.parquet: a folder, not a file", typed("accuracy", "folder.parquet")),
    Case(
        "accuracy --alpha 2",
        f"{SAID}alpha must be strictly between 0 and 1, got 2.0",
        typed("accuracy", "log.tsv", "--alpha", 2),
    ),
    Case(
        "accuracy --sigma of other records",
        f"{SAID}r.parquet: holds no records of sigma = 2.0; there are: 0.5",
        typed("accuracy", "r.parquet", "--sigma", 2),
    ),
    Case("audit --n 0", usage("--n", "…"), typed("audit", "log.tsv", "--n", 0)),
    Case(
        "audit --sigma -1",
        f"{SAID}sigma must be a positive finite number (noise on the [0, 1] image), got -1.0",
        typed("audit", "log.tsv", "--sigma", -1),
    ),
    Case(
        "audit --alpha 0",
        f"{SAID}alpha must be strictly between 0 and 1, got 0.0",
        typed("audit", "log.tsv", "--alpha", 0),
    ),
    Case(
        "leaderboard show, in no checkout",
        f"{SAID}params/leaderboard.csv: no such file; a checkout has it, --file names another",
        typed("leaderboard", "show"),
    ),
    Case(
        "leaderboard show --sort 0.3",
        f"{SAID}--sort: should be acr or one of 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3; found '0.3'",
        typed("leaderboard", "show", "--sort", 0.3),
    ),
    Case(
        "leaderboard show of a log",
        f"{SAID}log.tsv: should have the columns paper,method,…; found …",
        typed("leaderboard", "show", "--file", "log.tsv"),
    ),
    Case(
        "leaderboard add at a sigma that is too small",
        f"{SAID}log.tsv: its largest radius 0.5 is more than sigma = 0.05 gives with any usual alpha and n, …",
        typed("leaderboard", "add", "log.tsv", "--sigma", 0.05, *NAMED),
    ),
    Case(
        "leaderboard add of a dataset without a name",
        f"{SAID}dataset: should be named, found nothing",
        typed("leaderboard", "add", "log.tsv", "--sigma", 0.5, *NAMED, "--dataset", ""),
    ),
    Case(
        "leaderboard add of records by sequential",
        f"{SAID}s.parquet: an audit is of radii by Cohen's procedure, these are by sequential",
        sequential,
    ),
    Case(
        "compare --radius nan",
        usage("--radius", "…"),
        typed("compare", "log.tsv", "log.tsv", "--radius", "nan"),
    ),
    Case("compare --radius -1", usage("--radius", "…"), typed("compare", "log.tsv", "log.tsv", "--radius", -1)),
    Case(
        "compare with what is not there",
        f"{SAID}gone.tsv: no such file",
        typed("compare", "log.tsv", "gone.tsv", "--radius", 0),
    ),
    Case(
        "compare logs of some of the same images",
        f"{SAID}both logs must hold the same images, found 2 in one alone, such as [0, 5]; --common compares …",
        other_log(range(1, 6)),
    ),
    Case(
        "compare logs of other images",
        f"{SAID}both logs must hold the same images, found 7 in one alone, such as [0, 1, 2, 3, 4, 7, 8]",
        other_log(range(7, 9)),
    ),
    Case(
        "compare --common logs of other images",
        f"{SAID}the two logs have no image in common",
        other_log(range(7, 9), 1, "--common"),
    ),
    Case(
        "compare logs of other labels",
        f"{SAID}both logs must have the same labels, found different ones for images [0, 1, 2, 3, 4]",
        other_log(range(5), 2),
    ),
    Case(
        "report of a study and of records",
        f"{SAID}a, b.parquet: should be two folders of results or two files, found one of each",
        report("a", "b.parquet"),
    ),
    Case(
        "report of two studies without a run in common",
        f"{SAID}a, b: have no evaluation in common, found run_0/certify in one and run_1/certify in the other",
        report("a", "b"),
    ),
    Case(
        "report of two records with --images",
        f"{SAID}--images: are of one network's page, not of one that compares two",
        report("a.parquet", "b.parquet", "--images", "pictures"),
    ),
    Case(
        "report of records with --denoiser alone",
        f"{SAID}--denoiser: shows what it leaves of --images, which are not named",
        report("a.parquet", "--denoiser", "unet"),
    ),
    Case(
        "report of an attack of another network",
        f"{SAID}attack_b.parquet: its model should be the same as in a.parquet",
        report("a.parquet", "attack_b.parquet"),
    ),
    Case(
        "report of an attack of other images",
        f"{SAID}attack_of_7.parquet: its images should be among those of a.parquet",
        report("a.parquet", "attack_of_7.parquet"),
    ),
    Case(
        "report of an attack, given three times",
        f"{SAID}attack_a.parquet: the attack within ℓ2 ≤ 0.5 is there twice; name each once",
        report(*["attack_a.parquet"] * 3),
    ),
    Case(
        "import-log --sigma 0",
        f"{SAID}sigma must be a positive finite number (noise on the [0, 1] image), got 0.0",
        typed(*LOG_OF, 0, "--alpha", 0.001, "--n", 100_000),
    ),
    Case(
        "import-log with too small an --n",
        f"{SAID}log.tsv: 5 radii are not those of sigma = 0.1, alpha = 0.001, n = 11 …",
        typed(*LOG_OF, 0.1, "--alpha", 0.001, "--n", 11),
    ),
    Case(
        "import-log of records",
        f"{SAID}r.parquet: is records, not a log",
        typed("import-log", "r.parquet", "new.parquet", "--sigma", 1, "--alpha", 0.001, "--n", 1000),
    ),
    Case(
        "import-log over a folder",
        f"{SAID}[Errno 21] Is a directory: 'folder.parquet'",
        typed("import-log", "log.tsv", "folder.parquet", "--sigma", 1, "--alpha", 0.001, "--n", 100_000),
    ),
    Case(
        "export-log into a folder that cannot be",
        f"{SAID}[Errno 20] Not a directory: 'log.tsv/log.tsv'",
        typed("export-log", "r.parquet", "log.tsv/log.tsv"),
    ),
    Case(
        "publish without the owner's name",
        f"{SAID}a repository on a hub is OWNER/NAME, of letters, digits, '-', '_' and '.'; found 'digits'",
        publish("digits", "--out", "new"),
    ),
    Case(
        "publish what no training made",
        f"{SAID}model/model.json: should be of a training by transmooth; it lacks commit, data, lr, size, …",
        publish("a/b", "--out", "new"),
    ),
    Case(
        "publish over a folder that is there",
        f"{SAID}model: is there already; remove it or choose another --out",
        publish("a/b", "--out", "model"),
    ),
    Case("publish what is no checkpoint", f"{SAID}new/model.json: no such card; …", typed("publish", "new", "a/b")),
    Case(
        "publish with records of other weights",
        f"{SAID}r.parquet: of other weights, abc; the checkpoint's are …",
        trained("--records", "r.parquet"),
    ),
    Case("predict without --sigma", "Error: Missing option '--sigma'.", typed("predict", "model", "images")),
    Case(
        "a job whose --spec is no JSON",
        usage("--spec", "should be a JSON object, found '{'"),
        typed("job", "finish", "--spec", "{", "--data", ".", "--out", "x.parquet", "r.parquet"),
    ),
    Case(
        "a job whose --spec is a list",
        usage("--spec", "should be a JSON object, found '[]'"),
        typed("job", "finish", "--spec", "[]", "--data", ".", "--out", "x.parquet", "r.parquet"),
    ),
    Case(
        "a job for shard 3-of-2",
        usage("--shard", "should be K-of-N with K from 1 to N, such as 2-of-4; found '3-of-2'"),
        typed(*JOB, "--shard", "3-of-2"),
    ),
    Case(
        "a job for shard one",
        usage("--shard", "should be K-of-N with K from 1 to N, such as 2-of-4; found 'one'"),
        typed(*JOB, "--shard", "one"),
    ),
    Case("a command that is not there", "Error: No such command 'certfy'.…", typed("certfy")),
]
