"""The demo's generations: the requests that Kie's documentation gives as examples, word for word, and what `--live` buys.

Some prompts carry one more word, a marker that only the simulator reads: how long it takes, or that it is refused.
"""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kiejobs.errors import Reason
from kiejobs.jobs import Job, JobState, Output


@dataclass(frozen=True, slots=True)
class Example:
    """A request, and how it is expected to end."""

    title: str
    model: str
    input: dict[str, Any]
    ends: JobState = JobState.SUCCESS
    reason: Reason | None = None


EXAMPLES = (
    Example(
        "Kling 2.6, text to video",
        "kling-2.6/text-to-video",
        {
            "prompt": (
                "Visual: 在一个时尚直播房间里，衣服挂在架子上，一面全长的镜子反射出主持人的身影。"
                "对话：[非裔美国女性主持人] 转过身来展示这件运动衫的合身效果。"
                "[非裔美国女性主持人，欢快的声音] 说：‘360 度无缝剪裁，修身显瘦。’ "
                "立刻，[非裔美国女性主持人] 走向摄像头。"
                "[非裔美国女性主持人，活泼的声音] 说：‘双面拉绒面料，现在购买可享受 30 美元折扣。’"
            ),
            "sound": False,
            "aspect_ratio": "1:1",
            "duration": "5",
        },
    ),
    Example(
        "Kling 2.1 Pro, image to video",
        "kling/v2-1-pro",
        {
            "prompt": (
                "第一人称视角：反重力冲浪者穿梭于悬浮半空的古老遗迹之间，发光苔藓照亮路径，"
                "冲浪板划过薄雾时发出嘶嘶声，速度越快，周遭的回声越响亮 [[duration=9]]"
            ),
            "image_url": "https://file.aiquickdraw.com/custom-page/akr/section-images/1754892534386c8wt0qfs.webp",
            "duration": "5",
            "negative_prompt": "模糊、畸变、低画质",
            "cfg_scale": 0.5,
            "tail_image_url": "",
        },
    ),
    Example(
        "Wan 2.2 Turbo, text to video",
        "wan/2-2-a14b-text-to-video-turbo",
        {
            "prompt": (
                "Drone shot through a rainy alley in Tokyo at night, reflections on asphalt, cinematic lighting, "
                "smooth forward motion."
            ),
            "resolution": "720p",
            "aspect_ratio": "16:9",
            "enable_prompt_expansion": False,
            "seed": 42,
            "acceleration": "none",
        },
    ),
    Example(
        "Sora 2 Pro, text to video",
        "sora-2-pro-text-to-video",
        {
            "prompt": (
                "a happy dog running in the garden, sunlight, slow motion, natural camera tracking [[duration=12]]"
            ),
            "aspect_ratio": "landscape",
            "n_frames": "10",
            "size": "high",
            "remove_watermark": True,
        },
    ),
    Example(
        "Grok Imagine, several images",
        "grok-imagine/text-to-image",
        {
            "prompt": "Cinematic portrait of a woman sitting by a vinyl record player with warm lighting",
            "aspect_ratio": "3:2",
        },
    ),
    Example(
        "Kling 2.1 Master, refused",
        "kling/v2-1-master-text-to-video",
        {
            "prompt": (
                "A cinematic close-up of a ramen chef plating noodles, steam swirling, warm neon reflections, shallow "
                "depth of field, handheld camera micro-shake. [[fail=moderation]]"
            ),
            "duration": "5",
            "aspect_ratio": "16:9",
            "negative_prompt": "blur, distort, low quality, watermark",
            "cfg_scale": 0.5,
        },
        JobState.FAIL,
        Reason.CONTENT,
    ),
)

PICTURE = Example(
    "Z-Image, a picture",
    "z-image",
    {"prompt": "A red door in the rain, at dusk, warm light from a window beside it", "aspect_ratio": "1:1"},
)
"""What `demo --live` buys: one picture of the cheapest model."""


@dataclass(slots=True)
class Attempt:
    """One example on its way, and whether it ended as expected."""

    example: Example
    job: Job
    started_s: float = field(default_factory=time.monotonic)
    took_s: float | None = None

    def see(self, job: Job) -> None:
        """Take note of where the job stands now."""
        self.job = job
        if job.ended and self.took_s is None:
            self.took_s = self.elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Seconds from the request to the end, or until now."""
        return self.took_s if self.took_s is not None else time.monotonic() - self.started_s

    def trouble(self, media: Path) -> str:
        """Say in what it ended otherwise than expected; empty if in nothing. Stored files are read back."""
        job, wanted = self.job, self.example
        if job.phase is not wanted.ends or job.reason is not wanted.reason:
            return f"expected {wanted.ends}, but it is {job.phase}: {job.message or 'still running'}"
        if job.phase is JobState.SUCCESS and not job.outputs:
            return "success without a file"
        broken = [str(output.key) for output in job.outputs if not _intact(media, output)]
        return f"not on disk as recorded: {', '.join(broken)}" if broken else ""


def _intact(media: Path, output: Output) -> bool:
    """Whether the stored file has the recorded size and SHA-256."""
    if output.key is None or not (media / output.key).is_file():
        return False
    with (media / output.key).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest == output.sha256 and (media / output.key).stat().st_size == output.size_bytes
