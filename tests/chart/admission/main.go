// Command admission checks manifests as an API server does, without one.
//
//	admission < MANIFESTS
//
// Each document of a built-in kind must have no field that its type does not have, and no key twice; each pod must keep
// the Pod Security Standard "restricted". It prints a line for each objection, and ends with 1 if there was any;
// otherwise one line: how many objects and pods there were, and which kinds are not built in.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func main() {
	if err := check(os.Stdin, os.Stdout); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// check returns all objections to the documents of in, and writes to out what they were if there are none.
func check(in io.Reader, out io.Writer) error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	strict := json.NewSerializerWithOptions(
		json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	var objections []error
	var foreign []string
	objects, pods := 0, 0
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if isEmpty(document) {
			continue
		}
		objects++
		object, kind, err := strict.Decode(document, nil, nil)
		if runtime.IsNotRegisteredError(err) {
			foreign = append(foreign, kind.Kind)
			continue
		}
		if err != nil {
			objections = append(objections, fmt.Errorf("document %d: %w", objects, err))
		}
		if meta, spec := podOf(object); spec != nil {
			pods++
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, meta, spec))
			if !result.Allowed {
				objections = append(objections, fmt.Errorf("%s: %s", kind.Kind, result.ForbiddenDetail()))
			}
		}
	}
	if len(objections) == 0 {
		slices.Sort(foreign)
		fmt.Fprintln(out, objects, pods, strings.Join(slices.Compact(foreign), " "))
	}
	return errors.Join(objections...)
}

// isEmpty tells whether a document has nothing but comments.
func isEmpty(document []byte) bool {
	for line := range bytes.Lines(document) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

// podOf returns the pod that an object is, or makes; nil if it makes none.
func podOf(object runtime.Object) (*metav1.ObjectMeta, *corev1.PodSpec) {
	switch one := object.(type) {
	case *corev1.Pod:
		return &one.ObjectMeta, &one.Spec
	case *appsv1.Deployment:
		return &one.Spec.Template.ObjectMeta, &one.Spec.Template.Spec
	case *appsv1.StatefulSet:
		return &one.Spec.Template.ObjectMeta, &one.Spec.Template.Spec
	case *appsv1.DaemonSet:
		return &one.Spec.Template.ObjectMeta, &one.Spec.Template.Spec
	case *batchv1.Job:
		return &one.Spec.Template.ObjectMeta, &one.Spec.Template.Spec
	}
	return nil, nil
}
