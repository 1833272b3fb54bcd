// Renders the nginx.conf of ingress-nginx for a file of manifests, with the controller's own code (controller.go), or
// counts the metrics that its Lua code sends, as the controller does. What it is not: a part of Narthex; it is built
// beside a checkout of ingress-nginx by `build` and called by conformance/ingress_nginx.py.

package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"k8s.io/ingress-nginx/internal/ingress/controller"
	"k8s.io/ingress-nginx/internal/ingress/metric/collectors"
)

func main() {
	var render controller.Render
	manifests := flag.String("manifests", "", "file of objects")
	flag.StringVar(&render.ConfigMap, "configmap", "default/config", "namespace/name of the controller's ConfigMap")
	flag.StringVar(&render.Template, "template", "", "nginx.tmpl")
	flag.StringVar(&render.Out, "out", ".", "folder for what is rendered")
	flag.IntVar(&render.Ports.HTTP, "http", 80, "port of HTTP")
	flag.IntVar(&render.Ports.HTTPS, "https", 443, "port of HTTPS")
	flag.IntVar(&render.Ports.Default, "default", 8181, "port of the answer where nothing matches")
	flag.IntVar(&render.Status, "status", 10246, "port that takes backends and certificates")
	flag.BoolVar(&render.Metrics, "metrics", true, "collect metrics")
	flag.IntVar(&render.Batch, "batch", 10000, "most requests whose metrics one flush holds")
	collect := flag.String("collect", "", "render nothing: count the metrics of this host until the end")
	flag.Parse()
	if *collect != "" {
		count(*collect)
		return
	}
	render.Ports.Health, render.Ports.SSLProxy = render.Ports.Default, 442

	var err error
	if render.Objects, err = objects(*manifests); err == nil {
		err = render.Files()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// count is what the controller does with the metrics of requests, with its defaults, below the folder it is started in.
func count(host string) {
	buckets := collectors.HistogramBuckets{
		TimeBuckets: prometheus.DefBuckets, LengthBuckets: prometheus.LinearBuckets(10, 10, 10),
		SizeBuckets: prometheus.ExponentialBuckets(10, 10, 7),
	}
	collector, err := collectors.NewSocketCollector("render", "default", "k8s.io/ingress-nginx", true, false, false, buckets, 0, 100, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	collector.SetHosts(sets.New(host))
	collector.Start()
}

// objects reads every document of a file of manifests.
func objects(path string) ([]runtime.Object, error) {
	source, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	documents := yaml.NewYAMLReader(bufio.NewReader(source))
	var found []runtime.Object
	for {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		// As the API server does: its names of certificates are made of these.
		if meta, err := meta.Accessor(object); err == nil && meta.GetUID() == "" {
			meta.SetUID(types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", len(found)+1)))
		}
		found = append(found, object)
	}
}
