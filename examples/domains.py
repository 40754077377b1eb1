"""The five domains of the AWRS paper (arXiv 2504.05410) with its arms, on an embedded model: what is better?

With real data: `python examples/domains.py FOLDER`, with spider-dev, jsonschemabench, regex-patterns, smiles in it.
"""

import sys
from pathlib import Path

import decodekit as dk

LM = "awrs(weight='recursive', max_rejects=1)"  # the model proposes; a token that is not allowed ends the particle
ARMS = {
    "base model": "unconstrained: sample",
    "locally constrained": "awrs(weight='none')",
    "sample and rerank, 10": f"{LM} | smc(particles=10, ess=0.0)",
    "twisted SMC, 10": f"{LM} | smc(particles=10, ess=0.9)",
    "AWRS, 1": "awrs",
    "AWRS-SMC, 5": "awrs | smc(particles=5)",
    "AWRS-SMC, 10": "awrs | smc(particles=10)",
}


def tasks(data: Path | None) -> list[str]:
    if data is None:
        return [
            "sql(limit=5)",
            "json(limit=4)",
            "pattern(limit=3, most=24)",
            "smiles(limit=2, most=24)",
            "goals(limit=2)",
        ]
    return [
        f"text_to_sql({str(data / 'spider-dev')!r}, limit=20)",
        f"json_schema({str(data / 'jsonschemabench')!r}, groups=['Github_trivial', 'Github_easy'], limit=10)",
        f"pattern({str(data / 'regex-patterns' / 'patterns_half.jsonl')!r}, limit=20)",
        f"smiles({str(data / 'smiles' / 'GDB17_sample.smi')!r}, limit=10)",
        "goals(limit=20)",
    ]


def main(data: Path | None = None, model: str = "zoo:base") -> None:
    found = dk.compare(model, tasks(data), ARMS, baseline="locally constrained")
    for line in found.lines:
        score = "-" if line.score is None else f"{100 * line.score.value:5.1f}"
        print(
            f"{line.task[:24]:<24} {line.arm:<22} score {score}  checks/token {line.checks:6.2f}  ESS {line.ess:5.2f}"
        )
    print(f"report: {found.folder / 'report.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 and Path(sys.argv[1]).is_dir() else None)
