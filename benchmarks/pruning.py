"""How many trials each pruner cuts, and what that saves at an equal final score.

Run: `make bench`, or `python benchmarks/pruning.py [seeds]`. The fixture is a training curve of 27 steps with three
hyperparameters: a low learning rate rises slowly to a good score, a high one quickly to a bad one, so curves cross, and
every step is noisy (sd 0.01). A search is judged by the noise-free score of the trial that it holds to be the best.
With a pruner it may go on to 300 trials, as long as it uses no more steps than 100 whole trials; "never" is a pruner
that does not reach the score with that. Intervals are bootstrapped over seeds. Two claims are checked: 30 to 40 % of
the trials are cut, and 30 to 50 % of the steps are saved at an equal score.
"""

import math
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import optuna
from pydantic import TypeAdapter

from mcp_server.studies.pruners import Pruner

STEPS, TRIALS, MOST_TRIALS, NOISE, GRID, RESAMPLED = 27, 100, 300, 0.01, 300, 400
PRUNERS: dict[str, object] = {
    "none": "none",
    "median (default)": "median",
    "median, warm-up 9": {"type": "median", "n_warmup_steps": 9},
    "percentile 25": {"type": "percentile", "percentile": 25.0},
    "successive_halving": "successive_halving",
    "hyperband": {"type": "hyperband", "max_resource": STEPS},
    "patient 3 around median": {"type": "patient", "patience": 3, "wrapped": "median"},
}
Search = tuple[float, np.ndarray]  # share of the first 100 trials that was cut; score after each part of the budget


def search(name: str, seed: int) -> Search:
    """What one search with the pruner of this name came to."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    rng = np.random.default_rng(seed)
    pruner = TypeAdapter(Pruner).validate_python(PRUNERS[name]).build(STEPS)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner, study_name="study")
    used, states = 0, []
    scores = np.zeros(STEPS * TRIALS)
    best_seen = -math.inf
    while used < len(scores) and len(states) < (TRIALS if name == "none" else MOST_TRIALS):
        trial = study.ask()
        rate = math.log10(trial.suggest_float("learning_rate", 1e-4, 1.0, log=True))
        width = math.log2(trial.suggest_int("width", 8, 512, log=True))
        dropout = trial.suggest_float("dropout", 0.0, 0.7)
        final = 0.95 - 0.06 * (rate + 2.3) ** 2 - 0.01 * (width - 7) ** 2 - 0.3 * (dropout - 0.25) ** 2
        slowness = 2 + 8 / (1 + 10 ** (rate + 2.5))
        value, cut = 0.0, False
        for step in range(STEPS):
            value = 0.1 + (final - 0.1) * (1 - math.exp(-(step + 1) / slowness)) + rng.normal(0, NOISE)
            used += 1
            trial.report(value, step)
            if cut := trial.should_prune():
                break
        study.tell(trial, None if cut else value, optuna.trial.TrialState.PRUNED if cut else None)
        states.append(cut)
        if not cut and value > best_seen:
            best_seen = value
            scores[used - 1 :] = final
    return float(np.mean(states[:TRIALS])), scores[:: len(scores) // GRID]


def saved(with_it: np.ndarray, without: np.ndarray, short: float) -> float:
    """Percent of the steps saved until the median over seeds is `short` of the score that no pruner ends with.

    Minus infinity when the pruner never gets there.
    """
    target = float(np.median(without[:, -1])) - short
    reached = np.median(with_it, axis=0) >= target
    if not reached.any():
        return -math.inf
    off = int(np.argmax(np.median(without, axis=0) >= target))
    return 100 * (1 - (int(np.argmax(reached)) + 1) / (off + 1))


def shown(percent: float) -> str:
    """A saving as the table has it."""
    return "never" if percent == -math.inf else f"{percent:.0f}"


def verdict(value: float, low: float, high: float) -> str:
    """Whether a claimed range was seen."""
    return "reproduced" if low <= value <= high else "more than claimed" if value > high else "not reproduced"


def main() -> None:
    """Print the table and what became of the claims."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    jobs = [(name, seed) for name in PRUNERS for seed in range(seeds)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        results = dict(zip(jobs, pool.map(search, *zip(*jobs, strict=True)), strict=True))
    scores = {name: np.stack([results[name, seed][1] for seed in range(seeds)]) for name in PRUNERS}
    rng = np.random.default_rng(0)
    picks = [rng.integers(0, seeds, seeds) for _ in range(RESAMPLED)]
    print(
        f"{seeds} seeds, trials of {STEPS} steps, TPE; medians over seeds, [95 % interval], (least..most of the seeds)"
    )
    print(
        f"  {'pruner':<24} {'% of 100 trials cut':<21} {'% saved, same score':<22} {'within the noise':<22} final score"
    )
    claims: list[str] = []
    for name in PRUNERS:
        shares = [100 * results[name, seed][0] for seed in range(seeds)]
        share = float(np.median(shares))
        savings = []
        for short in (0.0, NOISE):
            again = sorted(saved(scores[name][pick], scores["none"][pick], short) for pick in picks)
            low, high = again[RESAMPLED // 40], again[-1 - RESAMPLED // 40]
            won = saved(scores[name], scores["none"], short)
            savings.append(f"{shown(won)} [{shown(low)}, {shown(high)}]")
        cut = f"{share:.0f} ({min(shares):.0f}..{max(shares):.0f})"
        final = float(np.median(scores[name][:, -1]))
        print(f"  {name:<24} {cut:<21} {savings[0]:<22} {savings[1]:<22} {final:.4f}")
        exact = saved(scores[name], scores["none"], 0.0)
        claims.append(f"  {name}: 30-40 % cut {verdict(share, 30, 40)}; 30-50 % saved {verdict(exact, 30, 50)}")
    print("\n".join(["claims, the second at the same score:", *claims[1:]]))


if __name__ == "__main__":
    main()
