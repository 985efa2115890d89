"""A series of advertising banners: two takes for each product, all bought at once, each kept in storage.

    python examples/banner_series.py "Smartphone X" "Wireless Earbuds" "Smart Watch"

Needs the same settings as any producer, and workers that see the same database: `kiejobs up` in this folder runs them
against a local Kie, with nothing paid. Run again, it buys nothing: each banner has its key. A new SERIES buys new ones.
"""

import sys
from typing import Any

from kiejobs import KieJobs
from kiejobs.errors import WaitTimeout

SERIES = "autumn"
MODEL = "4o-image-api"
PRODUCTS = ["Smartphone X", "Wireless Earbuds", "Smart Watch"]
TAKES = 2


def banner(product: str, take: int) -> dict[str, Any]:
    """Describe one banner, with the fields of POST /api/generations."""
    return {
        "model": MODEL,
        "input": {
            "prompt": f"Professional promotional banner for {product}, modern style, clean design",
            "size": "3:2",
        },
        "idempotencyKey": f"banner/{SERIES}/{product}/{take}",
        "metadata": {"product": product, "take": take},
    }


def main(products: list[str]) -> int:
    """Buy the series, wait for it, and say where each banner lies; return how many are missing."""
    jobs = KieJobs()
    bought = jobs.enqueue_many(banner(product, take) for product in products for take in range(1, TAKES + 1))
    missing = 0
    for job in bought:
        try:
            job = jobs.wait(job.id, timeout_s=900)
        except WaitTimeout:
            job = jobs.get(job.id)  # it goes on: run this again later
        title = f"{job.metadata['product']}, take {job.metadata['take']}"
        for output in job.outputs:
            print(f"{title}: {output.url}")
        if job.state != "success":
            print(f"{title}: {job.state}, {job.reason or 'not yet'}: {job.message or ''}")
            missing += 1
    return missing


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:] or PRODUCTS) else 0)
