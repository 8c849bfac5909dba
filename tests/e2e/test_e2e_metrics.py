"""The process as a scraper beside it sees it."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.e2e.running import KEY, running


def test_a_scraper_on_the_same_machine_sees_the_process(tmp_path: Path) -> None:
    path = tmp_path / "api.yaml"
    path.write_text(
        "providers:\n  - provider: a\n    base_url: http://127.0.0.1:9/v1/chat/completions\n"
        f"    api: sk-up-0000\n    model: [m]\napi_keys:\n  - api: {KEY}\n    model: [all]\n"
    )
    path.chmod(0o600)
    with (
        running(tmp_path, "serve", str(path), "--host", "127.0.0.1", "--port", "0") as process,
        httpx.Client(trust_env=False, timeout=10, base_url=process.url) as client,
    ):
        scraped = client.get("/metrics")
        assert scraped.status_code == 200
        samples = dict(line.rsplit(" ", 1) for line in scraped.text.splitlines() if line[0] != "#")
        assert float(samples["uniapi_client_connections"]) == 1
        assert float(samples["uniapi_config_reloads_total"]) == 0
        if Path("/proc/self/statm").exists():
            rss = float(samples["process_resident_memory_bytes"])
            assert 10e6 < rss < 300e6 < float(samples["process_virtual_memory_bytes"]) + 300e6
            assert 5 < float(samples["process_open_fds"]) < float(samples["process_max_fds"])
        assert client.get("/metrics", headers={"x-forwarded-for": "::1"}).status_code == 401
        told = client.get("/v1/status", headers={"authorization": f"Bearer {KEY}"}).json()
        assert told["connections"]["clients"] == 1
        assert told["process"]["tasks"] > 3
