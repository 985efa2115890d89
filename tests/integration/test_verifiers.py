"""The verifiers in the README, run as printed on a message that was really sent."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kiejobs.notify import signed
from tests.support import missing

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
OLD, NEW = "whsec_b2xkZXItc2VjcmV0LW9mLTI0LWJ5dGVz", "whsec_bmV3ZXItc2VjcmV0LW9mLTI0LWJ5dGVz"
BODY = {
    "type": "generation.succeeded",
    "timestamp": "2026-01-02T03:04:05+00:00",
    "data": {
        "generationId": "g-1",
        "sequence": 2,
        "state": "success",
        "phase": "success",
        "resultUrls": ["s3://b/ü.png"],
    },
}


def printed(language: str) -> str:
    """Return a verifier as the README has it."""
    part = README[README.index("<!-- verifier") : README.index("<!-- /verifier -->")]
    found = re.search(rf"```{language}\n(.*?)```", part, re.DOTALL)
    assert found
    return found.group(1)


def sent(at_s: float, secrets: list[str]) -> tuple[str, dict[str, str]]:
    """Return body and headers as `notify` sends them."""
    text = json.dumps(BODY, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text, signed(text, delivery_id="d-1", secrets=secrets, at_s=at_s)


@pytest.fixture
def now_s():
    import time

    return time.time()


@pytest.mark.parametrize("known", [OLD, NEW])
def test_the_python_verifier_takes_a_message_under_either_secret(monkeypatch, now_s, known):
    """While secrets are rotated, a receiver may know the older or the newer one."""
    monkeypatch.setenv("WEBHOOK_SECRET", known)
    names: dict = {}
    exec(printed("python"), names)
    text, headers = sent(now_s, [NEW, OLD])
    assert names["take"](text.encode(), headers) == BODY["data"]
    assert names["take"](text.replace("g-1", "g-2").encode(), headers) is None
    assert names["take"](*sent(now_s - 3600, [NEW, OLD])) is None
    for garbage in ("", "v1", "v1,a,b", "v1,a", "v1,ü"):
        assert names["take"](text.encode(), headers | {"webhook-signature": garbage}) is None
    for stamp in ("", "soon", "nan", "9" * 400):
        assert names["take"](text.encode(), headers | {"webhook-timestamp": stamp}) is None
    assert names["take"](b"\xff", headers) is None


@pytest.fixture(scope="session")
def node_project(tmp_path_factory) -> Path:
    """A folder with the npm packages that the TypeScript verifier is compiled and run with."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("node with npm")
    folder = tmp_path_factory.mktemp("verifier")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    packages = ["standardwebhooks@1", "typescript@5", "@types/node@20"]
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *packages]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=100, check=False)
    except subprocess.TimeoutExpired:
        missing("npm registry that answers")
    if done.returncode:
        missing("npm registry that answers")
    return folder


def test_the_typescript_verifier_compiles_and_takes_a_message(node_project, now_s):
    """As printed, strictly typed, with the stock package; a changed body is refused."""
    (node_project / "verifier.ts").write_text(printed("typescript"), encoding="utf-8")
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext"]
    compiler = node_project / "node_modules" / ".bin" / "tsc"
    compiled = subprocess.run(
        [str(compiler), *options, "verifier.ts"],
        cwd=node_project,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stdout
    text, headers = sent(now_s, [NEW, OLD])
    (node_project / "message.json").write_text(json.dumps({"body": text, "headers": headers}))
    (node_project / "run.mjs").write_text(
        'import { readFileSync } from "node:fs"; import { take } from "./verifier.js";'
        'const { body, headers } = JSON.parse(readFileSync("message.json", "utf8")); const told = take(body, headers);'
        'const others = [[body.replace("g-1", "g-2"), headers], [body, {}],'
        '  [body, { ...headers, "webhook-signature": "v1,ü v1 ," }]];'
        "const refused = others.every(([text, given]) => take(text, given) === null);"
        "console.log(JSON.stringify({ told, refused }));"
    )
    ran = subprocess.run(
        ["node", "run.mjs"],
        cwd=node_project,
        env=os.environ | {"WEBHOOK_SECRET": OLD},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {"told": BODY["data"], "refused": True}
