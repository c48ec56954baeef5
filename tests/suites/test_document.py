"""A wrong suite names its file, table and key before anything runs."""

from __future__ import annotations

import pytest

from mlcv_bench.cli.run import check_command
from mlcv_bench.comparing.limits import LIMITS
from mlcv_bench.errors import UsageError
from mlcv_bench.suites.document import read_suite


def read(tmp_path, text):
    path = tmp_path / "gate.toml"
    path.write_text(text, encoding="utf-8")
    return read_suite(path, check_command)


def test_a_suite_is_read_in_its_own_order(tmp_path):
    suite = read(
        tmp_path,
        """
        title = "gate"
        [entries.speed]
        command = "mlcv-bench time resnet20 --threads 1"
        max_slowdown = "5%"
        max_median_s = 0.1
        [entries."the cost"]
        command = ["flops", "resnet50", "--batch", "8"]
        max_params = 25.6e6
        timeout_s = 60
        """,
    )
    assert [entry.name for entry in suite.entries] == ["speed", "the cost"]
    speed, cost = suite.entries
    assert speed.arguments == ("time", "resnet20", "--threads", "1")
    assert speed.limits == {"max_slowdown": 0.05, "max_median_s": 0.1}
    assert speed.needs_baseline
    assert not cost.needs_baseline
    assert cost.command == "mlcv-bench flops resnet50 --batch 8"
    assert cost.limits == {"max_params": 25_600_000}
    assert cost.timeout_s == 60
    assert suite.baseline == tmp_path / "gate.baseline.json"
    assert [entry.name for entry in suite.only(["speed"]).entries] == ["speed"]
    with pytest.raises(UsageError, match=r"--only sped.*did you mean speed"):
        suite.only(["sped"])


def test_a_limit_that_its_command_can_decide_is_passed_on(tmp_path):
    text = '[entries.a]\ncommand = "ab resnet20 \'resnet20 --batch 1\'"\nmax_slowdown = "7%"\ntimeout_s = 60'
    (entry,) = read(tmp_path, text).entries
    assert entry.arguments[-2:] == ("--margin", "7%")
    assert entry.limits == {"max_slowdown": 0.07}
    (entry,) = read(tmp_path, "[entries.a]\ncommand = 'ab resnet20 resnet20 --margin 3%'").entries
    assert entry.arguments[-2:] == ("--margin", "3%")


def test_defaults_reach_every_entry_that_takes_them_and_may_be_switched_off(tmp_path):
    suite = read(
        tmp_path,
        """
        [defaults]
        must_match_baseline = true
        max_slowdown = "150%"
        allow = "smaller"
        timeout_s = 60
        [defaults.options]
        flops = "--input 3x64x64 --batch 2"
        time = ["--threads", "1", "--seconds=5"]
        [entries.cost]
        command = "flops resnet18 --batch 4"
        [entries.speed]
        command = "time resnet18 --seconds 9"
        must_match_baseline = false
        timeout_s = 90
        [entries.ab]
        command = "ab resnet20 resnet20"
        [entries.list]
        command = "list"
        """,
    )
    cost, speed, ab, listing = suite.entries
    assert cost.arguments == ("flops", "resnet18", "--batch", "4", "--input", "3x64x64")
    assert (cost.limits, cost.timeout_s, cost.allow) == ({"must_match_baseline": True}, 60, "smaller")
    assert speed.arguments == ("time", "resnet18", "--seconds", "9", "--threads", "1")
    assert (speed.limits, speed.timeout_s) == ({"max_slowdown": 1.5}, 90)
    assert ab.arguments[-2:] == ("--margin", "150%")
    assert listing.limits == {}


ENTRY = '[entries.a]\ncommand = "flops resnet50"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("entries == 1", r"is not TOML: .*line 1, column 10"),
        ("", r"no entries; write a table"),
        ("entries = 3", r"no entries"),
        ("titel = 'x'\n" + ENTRY, r"no top-level key 'titel'; did you mean title"),
        ("title = 3\n" + ENTRY, r"key 'title' takes a text"),
        ("baseline = 'x.txt'\n" + ENTRY, r"key 'baseline' takes a \.json"),
        ("entries.a = 3", r"entries\.a is no table"),
        ("[entries.'a/b']\ncommand = 'list'", r"\[entries\.a/b\]: a name"),
        ("[entries.a]\nmax_params = 1", r"\[entries\.a\] needs the key 'command'"),
        ("[entries.a]\ncommand = ''", r"\[entries\.a\] needs the key 'command'"),
        ("[entries.a]\ncommand = 'flops \"x'", r"\[entries\.a\], key 'command': no closing quotation"),
        (ENTRY + "max_parms = 3", r"\[entries\.a\] has no key 'max_parms'; did you mean max_params"),
        (
            ENTRY + "max_slowdown = '5%'",
            r"\[entries\.a\], key 'max_slowdown' does not fit `flops`, which takes max_par",
        ),
        (ENTRY + "max_params = -1", r"\[entries\.a\], key 'max_params' takes a number above 0.*not -1"),
        (ENTRY + "max_params = true", r"key 'max_params' takes a number above 0.*not true"),
        (ENTRY + "max_params = nan", r"key 'max_params' takes a number above 0"),
        (ENTRY + "max_params = inf", r"key 'max_params' takes a number above 0"),
        (ENTRY + "must_match_baseline = false", r"key 'must_match_baseline' takes true, or is left out, not false"),
        (ENTRY + "timeout_s = 0", r"key 'timeout_s' takes seconds"),
        ("[entries.a]\ncommand = 'time resnet20'\nmax_slowdown = 5", r"key 'max_slowdown' takes a share"),
        ("[entries.a]\ncommand = 'time resnet20'\nmax_slowdown = 'much'", r"key 'max_slowdown' takes a share"),
        (ENTRY + "allow = 'smaller'", r"key 'allow' belongs to must_match_baseline"),
        (ENTRY + "must_match_baseline = true\nallow = 'bigger'", r'key .allow. takes "smaller", or is left out'),
        ("defaults = 3\n" + ENTRY, r"defaults is no table"),
        ("[defaults]\nmax_parms = 3\n" + ENTRY, r"\[defaults\] has no key 'max_parms'; did you mean max_params"),
        ("[defaults.options]\nflops = '--bacth 2'\n" + ENTRY, r"\[entries\.a\], key 'command': .*--batch"),
        ("[defaults.options]\nflops = 3\n" + ENTRY, r"\[defaults\.options\], key 'flops' takes words"),
        ("[entries.a]\ncommand = 'flopz resnet50'", r"key 'command': no command 'flopz'; did you mean flops"),
        ("[entries.a]\ncommand = 'flops resnxt50_32x4d'", r"unknown architecture.*resnext50_32x4d"),
        ("[entries.a]\ncommand = 'flops resnet50 --bacth 2'", r"--bacth.*--batch"),
        ("[entries.a]\ncommand = 'flops resnet50 --batch 0'", r"--batch"),
        ("[entries.a]\ncommand = 'flops resnet50 --input 3x0x2'", r"--input 3x0x2"),
        ("[entries.a]\ncommand = 'flops resnet50 --set nothing=1'", r"nothing"),
        ("[entries.a]\ncommand = 'flops'", r"names"),
        ("[entries.a]\ncommand = 'flops resnet50 -o x.json'", r"leave -o out"),
        ("[entries.a]\ncommand = 'flops resnet50 -ox.json'", r"leave -ox.json out"),
        ("[entries.a]\ncommand = 'flops resnet50 --format=csv'", r"leave --format out"),
        ("[entries.a]\ncommand = 'flops --help'", r"--help runs nothing"),
        ("[entries.a]\ncommand = 'run other.toml'", r"cannot run a suite"),
        ("[entries.a]\ncommand = 'time resnet20 --runtime eagr'", r"did you mean eager"),
        ("[entries.a]\ncommand = 'time resnet20 --precision 200%'", r"200%"),
        ("[entries.a]\ncommand = 'time resnet20 --batch 1,x'", r"--batch takes whole numbers"),
        ("[entries.a]\ncommand = 'time resnet20 --dry-run'", r"--dry-run measures nothing"),
        ("[entries.a]\ncommand = 'time resnet20 --weights none.pt'", r"--weights none\.pt: there is no such file"),
        ("[entries.a]\ncommand = 'time resnet20 --resume'", r"--resume continues a store"),
        ("[entries.a]\ncommand = 'time resnet20 --store no/x.jsonl'", r"the folder no does not exist"),
        ("[entries.a]\ncommand = 'optim-race --task digits --data none'", r"--data"),
        ("[entries.a]\ncommand = 'ab resnet20 --base-path none'", r"none is no folder"),
        ("[entries.a]\ncommand = 'ab resnet20 --base-python none'", r"none does not exist"),
        ("[entries.a]\ncommand = 'ab resnet20 \"resnet20 --batch 2\"'", r"different batches"),
        ("[entries.a]\ncommand = 'ab resnet20 resnet20 --margin 0.1%'", r"give 0\.01"),
        ("[entries.a]\ncommand = 'ab resnet20 resnet20'\nmax_slowdown = '0.5%'", r"key 'max_slowdown': .*give 0\.01"),
        ("[entries.a]\ncommand = 'ab resnet20 resnet20 --margin 3%'\nmax_slowdown = '5%'", r"leave --margin out"),
        ("[entries.a]\ncommand = 'mlcv-bench'", r"key 'command' names no command"),
        ("[entries.a]\ncommand = 'draw resnet50'", r"`draw` saves no result"),
        (ENTRY + f"max_params = 1{'0' * 310}", r"takes a number above 0"),
        (ENTRY + f"timeout_s = 1{'0' * 310}", r"timeout_s' takes seconds"),
        (ENTRY + f"max_params = 1{'0' * 5000}", r"is not TOML"),
        ("x = " + "[" * 9999, r"is not TOML"),
        ("[entries.a]\ncommand = 'ab resnet20'", r"B is missing"),
        ("[entries.a]\ncommand = 'ab resnet20 \"resnet20 --dtype flot16\"'", r"float16"),
        ("[entries.a]\ncommand = 'summary resnt18'", r"resnet18"),
        ("[entries.a]\ncommand = 'diff resnet18 resnt34'", r"resnet34"),
        ("[entries.a]\ncommand = 'flops resnet18 --audit --training'", r"one at a time"),
        ("[entries.a]\ncommand = 'params resnt18'", r"resnet18"),
        ("[entries.a]\ncommand = 'verify foldin'", r"folding"),
        ("[entries.a]\ncommand = 'verify folding --groups x'", r"--groups"),
        ("[entries.a]\ncommand = 'verify all --dtype float8'", r"float8"),
        ("[entries.a]\ncommand = 'verify resnet18 resnet18 --weights no.pth'", r"no\.pth: there is no such file"),
        ("[entries.a]\ncommand = 'verify folding --mode tran'", r"did you mean train"),
        ("[entries.a]\ncommand = 'verify folding --input 3x8x8'", r"belong to two networks"),
        ("[entries.a]\ncommand = 'verify resnet18 resnet34 --input 1x64x64'", r"resnet18 takes 3"),
        ("[entries.a]\ncommand = 'verify a.py:f b.py:g --transplant carry'", r"carry is no function"),
        ("[entries.a]\ncommand = 'verify a.py:f b.py:g c.py:h'", r"two networks.*not 3"),
        ("[entries.a]\ncommand = 'verify momentum --device cuda'", r"--device changes nothing for momentum"),
        ("[entries.a]\ncommand = 'flops resnet18 --training --memory much'", r"write 16GB"),
        ("[entries.a]\ncommand = 'time resnet18 --seconds nan'", r"finite number"),
        ("[entries.a]\ncommand = 'ab mine.py:f \"resnet18 --store x\"'", r"a side is cells"),
        ("[entries.a]\ncommand = 'width --groups 300'", r"numbers of branches up to 269"),
        ("[entries.a]\ncommand = 'list nothing'", r"unknown kind"),
        ("[entries.a]\ncommand = 'optim-race --surface canyn'", r"canyon"),
        ("[entries.a]\ncommand = 'optim-race --optimizer adm'", r"adam"),
        ("[entries.a]\ncommand = 'optim-race --optimizer adam:beta3=1'", r"beta3"),
        ("[entries.a]\ncommand = 'optim-race --protocol tund'", r"tuned"),
        ("[entries.a]\ncommand = 'optim-race --task digts'", r"digits"),
        ("[entries.a]\ncommand = 'optim-race --task digits --epochs 0'", r"--epochs"),
        ("[entries.a]\ncommand = 'optim-race --task digits --surface canyon'", r"--surface belongs to"),
        ("[entries.a]\ncommand = 'claims --section 99'", r"99"),
        ("[entries.a]\ncommand = 'verify all'\nmust_verify = false", r"takes true"),
        ("[entries.a]\ncommand = 'verify all'\nmust_compute_same = true", r"add --fingerprint to its command"),
        (
            "[entries.a]\ncommand = 'verify resnet18 --fingerprint'\nmust_verify = true",
            r"key 'must_verify' has nothing to judge.*write must_compute_same",
        ),
        ("[entries.a]\ncommand = 'verify resnt18 --fingerprint'", r"'resnt18' is none"),
        ("[entries.a]\ncommand = 'optim-race'\nmust_reach = []", r"key 'must_reach' takes true, optimizers as"),
        ("[entries.a]\ncommand = 'optim-race'\nmust_reach = 1.5", r"an accuracy up to 1, not 1\.5"),
        (
            "[entries.a]\ncommand = 'optim-race --optimizer sgd,adam:lr=0.1'\nmust_reach = ['sgd', 'lion']",
            r"key 'must_reach': names lion, which its command does not race; it races sgd, adam:lr=0\.1$",
        ),
        (
            "[entries.a]\ncommand = 'optim-race --task digits --optimizer adam:lr=0.1'\nmust_reach = ['adam:lr=0.2']",
            r"names adam:lr=0\.2, which",
        ),
        (
            "[entries.a]\ncommand = 'optim-race'\nmust_reach = 0.9",
            r"a surface has no accuracy; write must_reach = true",
        ),
    ],
    ids=lambda value: value.splitlines()[-1] if "\n" in value else None,
)
def test_a_wrong_suite_names_file_table_and_key(tmp_path, text, words):
    with pytest.raises(UsageError, match=words) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "gate.toml"))
    assert "\n" not in str(caught.value)


def test_a_right_command_of_every_kind_passes(tmp_path, monkeypatch):
    (tmp_path / "mlcv_bench").mkdir()
    (tmp_path / "mine.py").touch()
    monkeypatch.chdir(tmp_path)
    commands = [
        "flops resnext vgg --batch 8 --set num_classes=10",
        "flops mine.py:Network --set depth=3",
        "params mine.py:Network resnet18",
        "summary resnet18 --depth 2",
        "diff resnet18 mine.py:Network",
        "time resnet20 mine.py:Network --batch 1,8 --dtype float32,bfloat16",
        f"ab resnet20 --base-path {tmp_path} --seconds 60",
        "ab resnet20 'resnet20 --memory-format channels_last'",
        "ab mine.py:old mine.py:new",
        "compare old.json new.json",
        "verify all",
        "verify mine.py:one mine.py:other --input 3x32x32",
        "optim-race --surface washboard:force=0.3 --optimizer adam:lr=0.1 --optimizer mine:rule",
        "optim-race --surface '0.5*(x**2 + 100*y**2)'",
        "optim-race --surface mine.py:surface",
        "optim-race --task digits --epochs 2 --target 0.9",
        "claims",
        "list optimizers",
        "env",
        "width",
    ]
    suite = read(tmp_path, "".join(f'[entries.a{at}]\ncommand = "{text}"\n' for at, text in enumerate(commands)))
    assert len(suite.entries) == len(commands)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ("--optimizer SGD,adam:lr=0.1", "['sgd', 'adam', 'adam:lr=0.1']"),
        ("", "['nesterov']"),
        ("--task digits", "['nesterov']"),
        ("--task digits", "0.9"),
        ("--task digits --optimizer torch.optim:AdamW:lr=0.1", "['torch.optim:AdamW']"),
    ],
)
def test_a_limit_names_the_optimizers_that_race(tmp_path, options, limit):
    assert read(tmp_path, f"[entries.a]\ncommand = 'optim-race {options}'\nmust_reach = {limit}").entries


def test_several_faults_are_counted(tmp_path):
    with pytest.raises(UsageError, match=r"no key 'x'.*\(and 2 more to mend in this file\)"):
        read(tmp_path, ENTRY + "x = 1\nyyy = 2\nmax_params = 0")


def test_a_missing_suite_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.toml cannot be read: No such file"):
        read_suite(tmp_path / "nowhere.toml", check_command)


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_fits_a_command_and_refuses_nonsense(name):
    limit = LIMITS[name]
    assert limit.commands
    for value in (False, "much", -1, [], {}, None):
        with pytest.raises(ValueError, match="takes"):
            limit.read(value)
