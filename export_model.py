"""Trained model in, model package out::

    python export_model.py --network my.module:Network --weights weights.pt \
        --spec spec.json --card card.md --licence LICENSE -o my-package
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from segreg.engine.errors import SegregError
from segreg.export import export, load_network
from segreg.export.parity import ParityError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("::")[0])
    parser.add_argument("--network", required=True, metavar="MODULE:CLASS")
    parser.add_argument("--weights", required=True, type=Path, help="state dict (.pt)")
    parser.add_argument("--spec", required=True, type=Path, help="what metadata.json shall say")
    parser.add_argument("--card", required=True, type=Path, help="model card, Markdown")
    parser.add_argument("--licence", required=True, type=Path, help="licence of the weights")
    parser.add_argument("-o", "--output", required=True, type=Path, help="package folder")
    options = parser.parse_args()
    sys.path.insert(0, "")
    try:
        network = load_network(options.network, options.weights)
        spec = json.loads(options.spec.read_text(encoding="utf-8"))
        package = export(
            network, spec, options.output, card=options.card, licence=options.licence
        )
    except SegregError as error:
        print(f"export_model: {error}", file=sys.stderr)
        return error.exit_code
    except (ParityError, OSError, ValueError, KeyError) as error:
        print(f"export_model: {error}", file=sys.stderr)
        return 2
    print(f"{package.name} {package.version} written, parity in docs/parity.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
