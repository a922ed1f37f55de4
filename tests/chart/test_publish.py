"""What a release makes of the charts, from which `helm install oci://...` works without a word about the image."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.chart.helm import DEPLOY, HELMS, Charts, containers, only, pod_specs
from tests.documents.pages import blocks
from tests.tools import ROOT

pytestmark = pytest.mark.needs("helm")

CHARTS: Final = ("authz-sidecar", "authz", "authz-injection")
REPOSITORY: Final = "Example/Authz"


@pytest.fixture
def published(charts: Charts, tmp_path: Path) -> Path:
    """The folder of the charts as a release packages them."""
    argv = [sys.executable, str(DEPLOY / "publish.py"), REPOSITORY, str(tmp_path / "charts")]
    subprocess.run(argv, check=True)
    for name in CHARTS[1:]:
        charts.say("helm4", "dependency", "build", "--skip-refresh", tmp_path / "charts" / name)
    for name in CHARTS:
        charts.say("helm4", "package", tmp_path / "charts" / name, "--destination", tmp_path)
    return tmp_path


@pytest.mark.parametrize("helm", HELMS)
def test_first_page_installs_what_is_published(charts: Charts, published: Path, helm: str) -> None:
    """The values of the first page, without their image: the published one runs, and alerts link to their runbooks."""
    (block, *_) = blocks("yaml", page=DEPLOY / "README.md")
    values = yaml.safe_load(block.text)
    del values["authz"]["image"]
    values["authz"] |= {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
    (published / "values.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    documents = charts.render(published / "authz-0.1.0.tgz", "--values", published / "values.yaml", helm=helm)
    images = {one["image"] for spec in pod_specs(documents) for one in containers(spec)}
    assert images == {"ghcr.io/example/authz:0.1.0", "docker.io/envoyproxy/envoy:distroless-v1.40.0"}
    (group,) = only(documents, "PrometheusRule")["spec"]["groups"]
    page = "https://github.com/Example/Authz/blob/v0.1.0/deploy/observability/RUNBOOKS.md"
    assert {rule["annotations"]["runbook_url"].partition("#")[0] for rule in group["rules"]} == {page}
    injection = charts.render(published / "authz-injection-0.1.0.tgz", helm=helm)
    assert "ghcr.io/example/authz:0.1.0" in str(only(injection, "MutatingAdmissionPolicy"))


@pytest.mark.parametrize("name", CHARTS)
def test_published_chart_says_whose_it_is(published: Path, name: str) -> None:
    """Artifact Hub finds licence, sources, maintainers, an icon that is there, and the images."""
    text = (published / "charts" / name / "Chart.yaml").read_text()
    about = yaml.safe_load(text)
    assert "OWNER" not in text
    assert about["sources"] == [about["home"]] == ["https://github.com/Example/Authz"]
    assert about["maintainers"][0].keys() == {"name", "url"}
    prefix = f"https://raw.githubusercontent.com/Example/Authz/v{about['version']}/"
    assert (ROOT / about["icon"].removeprefix(prefix)).is_file()
    notes = about["annotations"]
    assert notes["artifacthub.io/license"] == "Apache-2.0"
    assert {one["name"] for one in yaml.safe_load(notes["artifacthub.io/images"])} >= {"authz"}
    for link in yaml.safe_load(notes["artifacthub.io/links"]):
        assert (ROOT / link["url"].partition(f"/blob/v{about['version']}/")[2]).is_file()


@pytest.mark.parametrize("name", CHARTS)
def test_page_of_a_published_chart_links_to_the_repository(published: Path, name: str) -> None:
    """The package has its README, which Artifact Hub shows, and no link in it leads nowhere."""
    with tarfile.open(published / f"{name}-0.1.0.tgz") as archive:
        stream = archive.extractfile(f"{name}/README.md")
        assert stream is not None
        page = stream.read().decode()
    links = re.findall(r"\]\(([^)#]+)", page)
    places = [link.removeprefix("https://github.com/Example/Authz/blob/v0.1.0/") for link in links]
    assert all((ROOT / place).exists() for place in places), links


def test_release_publishes_every_chart_so() -> None:
    """The workflow names the charts by this program, and packages all of them."""
    text = (ROOT / ".github/workflows/release.yml").read_text()
    assert 'python deploy/publish.py "$GITHUB_REPOSITORY" charts' in text
    assert "for chart in authz-sidecar authz authz-injection; do" in text
    assert {folder.name for folder in (DEPLOY / "charts").iterdir() if folder.is_dir()} == set(CHARTS)
