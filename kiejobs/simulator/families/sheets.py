"""Texts and notes: what Suno gives that is no file: lyrics, timestamped words, the notes of each instrument.

Source: docs.kie.ai/suno-api/generate-lyrics-callbacks, get-timestamped-lyrics, get-midi-details.
"""

from typing import Any

from kiejobs.simulator.tasks import Task

_SHEETS = 2


def lyrics_sheets(task: Task, error_key: str) -> list[dict[str, object]]:
    """Variants of lyrics, each with a status of its own."""
    variants = range(1, (task.scenario.outputs or _SHEETS) + 1)
    return [
        {
            "text": f"[Verse]\nA simulated line, number {n}\n[Chorus]\nLa la la",
            "title": f"Simulated lyrics {n}",
            "status": "complete",
            error_key: "",
        }
        for n in variants
    ]


def aligned_words() -> dict[str, Any]:
    """When each word is sung."""
    words = [("[Verse]\nA ", 0.0, 0.2), ("simulated ", 0.2, 0.8), ("line", 0.8, 1.5)]
    aligned = [
        {"word": word, "success": True, "startS": start_s, "endS": end_s, "palign": 0} for word, start_s, end_s in words
    ]
    return {"alignedWords": aligned, "waveformData": [0, 1, 0.5, 0.75], "hootCer": 0.25, "isStreamed": False}


def instruments() -> list[dict[str, Any]]:
    """The notes of two instruments."""
    drums = [{"pitch": 73, "start": 0.0365, "end": 0.1823, "velocity": 1}]
    bass = [{"pitch": 44, "start": 0.6875, "end": 0.9115, "velocity": 1}]
    return [{"name": "Drums", "notes": drums}, {"name": "Electric Bass (finger)", "notes": bass}]
