"""Trained model in, model package out; the same as ``segreg export``::

    python export_model.py --network my.module:Network --weights weights.pt \
        --spec spec.json -o my-package
"""

from __future__ import annotations

import sys

from segreg.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "export")
    main()
