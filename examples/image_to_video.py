"""A video presentation of a product: a picture of each feature, and a video made from the picture.

    python examples/image_to_video.py "4K resolution" "Night vision" "Motion detection" "Cloud storage"

Nothing waits here for the pictures: each video names the job whose picture it starts from, is bought when that picture
is there, and fails with the reason `parent` if it never comes. Needs the same settings as any producer, and workers that
see the same database: `kiejobs up` in this folder runs them against a local Kie, with nothing paid.
"""

import sys

from kiejobs import Job, KieJobs
from kiejobs.errors import WaitTimeout

PRODUCT = "AI-Powered Smart Camera"
FEATURES = ["4K resolution", "Night vision", "Motion detection", "Cloud storage"]
PICTURE, VIDEO = "flux1-kontext", "veo-3-1"


def scene(jobs: KieJobs, number: int, feature: str) -> Job:
    """Order a picture, and the video that begins with it; return the video's job."""
    picture = jobs.enqueue(
        PICTURE,
        {"prompt": f"{PRODUCT}, product feature {number}: {feature}", "aspect_ratio": "16:9"},
        idempotency_key=f"presentation/{PRODUCT}/{feature}/picture",
    )
    return jobs.enqueue(
        VIDEO,
        {
            "prompt": f"Showcase {feature} in action",
            "image_urls": [{"$from": {"job": picture.id, "output": 0}}],
            "generation_type": "FIRST_AND_LAST_FRAMES_2_VIDEO",
            "aspect_ratio": "16:9",
        },
        idempotency_key=f"presentation/{PRODUCT}/{feature}/video",
        metadata={"feature": feature, "picture": picture.id},
    )


def main(features: list[str]) -> int:
    """Order every scene, wait for the videos, and say where each lies; return how many are missing."""
    jobs = KieJobs()
    ordered = [scene(jobs, number, feature) for number, feature in enumerate(features, 1)]
    missing = 0
    for video in ordered:
        try:
            video = jobs.wait(video.id, timeout_s=1800)
        except WaitTimeout:
            video = jobs.get(video.id)  # it goes on: run this again later
        for output in video.outputs:
            print(f"{video.metadata['feature']}: {output.url}")
        if video.state != "success":
            print(f"{video.metadata['feature']}: {video.state}, {video.reason or 'not yet'}: {video.message or ''}")
            missing += 1
    return missing


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:] or FEATURES) else 0)
