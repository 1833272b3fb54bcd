// The controller of ingress-nginx, asked once: objects in, what it would give its nginx out. The build lays this file
// into its package (`go build -overlay`); nothing of it is repeated here, so parsing, sorting, defaults and the template
// are its own. Called by main.go of this folder only.

package controller

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/eapache/channels"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	ngx_config "k8s.io/ingress-nginx/internal/ingress/controller/config"
	"k8s.io/ingress-nginx/internal/ingress/controller/ingressclass"
	"k8s.io/ingress-nginx/internal/ingress/controller/store"
	ngx_template "k8s.io/ingress-nginx/internal/ingress/controller/template"
	"k8s.io/ingress-nginx/internal/ingress/metric"
	"k8s.io/ingress-nginx/internal/k8s"
	"k8s.io/ingress-nginx/internal/net/dns"
	"k8s.io/ingress-nginx/internal/net/ssl"
	"k8s.io/ingress-nginx/internal/nginx"
	"k8s.io/ingress-nginx/pkg/apis/ingress"
	"k8s.io/ingress-nginx/pkg/util/file"
)

// Render says what to render and where to.
type Render struct {
	Objects   []runtime.Object
	ConfigMap string // namespace/name
	Template  string // nginx.tmpl of the checkout
	Out       string // folder for what is rendered
	Ports     ngx_config.ListenPorts
	Status    int // port of nginx that takes backends and certificates
	Metrics   bool
	Batch     int // most requests whose metrics one flush holds
}

// quiet is how long nothing may have happened in the store until it counts as filled.
const quiet = 300 * time.Millisecond

// Files writes nginx.conf, cfg.json (what the Lua code reads when it starts), backends.json and servers.json (what is
// posted to it afterwards).
func (r *Render) Files() error {
	nginx.StatusPort = r.Status
	if err := file.CreateRequiredDirectories(); err != nil {
		return err
	}
	n, stop, err := r.controller()
	if err != nil {
		return err
	}
	defer close(stop)

	_, _, pcfg := n.getConfiguration(n.store.ListIngresses())
	cfg := n.store.GetBackendConfiguration()
	cfg.Resolver = n.resolver
	content, err := n.generateTemplate(cfg, *pcfg)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.Out, "nginx.conf"), content, 0o600); err != nil {
		return err
	}
	// Its path is a constant that the build has made relative.
	if err := n.createLuaConfig(&cfg); err != nil {
		return err
	}
	// Nothing of TCP and UDP has changed since: that would go to another socket.
	n.runningConfig = &ingress.Configuration{TCPEndpoints: pcfg.TCPEndpoints, UDPEndpoints: pcfg.UDPEndpoints}
	return r.posted(func() error { return n.configureDynamically(pcfg) })
}

// controller is a controller whose store has seen all objects.
func (r *Render) controller() (*NGINXController, chan struct{}, error) {
	k8s.IngressPodDetails = &k8s.PodInfo{ObjectMeta: metav1.ObjectMeta{Name: "render", Namespace: "default"}}
	k8s.IngressNodeDetails = &k8s.NodeInfo{}
	template, err := ngx_template.NewTemplate(r.Template)
	if err != nil {
		return nil, nil, err
	}
	resolver, err := dns.GetSystemNameServers()
	if err != nil {
		return nil, nil, err
	}
	class := &ingressclass.Configuration{
		Controller: ingressclass.DefaultControllerName, AnnotationValue: ingressclass.DefaultAnnotationValue, WatchWithoutClass: true,
	}
	updates := channels.NewRingChannel(1024)
	storer := store.New("", labels.Everything(), r.ConfigMap, "", "", "", 10*time.Minute, fake.NewSimpleClientset(r.Objects...),
		updates, false, true, class, true)
	n := &NGINXController{
		runningConfig: &ingress.Configuration{}, store: storer, t: template, resolver: resolver, command: NewNginxCommand(), metricCollector: metric.DummyCollector{},
		cfg: &Configuration{
			ConfigMapName: r.ConfigMap, ListenPorts: &r.Ports, EnableMetrics: r.Metrics, MonitorMaxBatchSize: r.Batch,
			IngressClassConfiguration: class, FakeCertificate: ssl.GetFakeSSLCert(), MaxmindEditionFiles: &[]string{},
		},
	}
	stop := make(chan struct{})
	storer.Run(stop)
	wanted := 0
	for _, object := range r.Objects {
		if _, is := object.(*networkingv1.Ingress); is {
			wanted++
		}
	}
	// Handlers run after the caches are filled: wait until nothing has come for a while.
	timeout := time.After(time.Minute)
	for {
		select {
		case <-updates.Out():
		case <-time.After(quiet):
			if found := len(storer.ListIngresses()); found < wanted {
				fmt.Fprintf(os.Stderr, "%d of %d Ingresses were taken\n", found, wanted)
			}
			return n, stop, nil
		case <-timeout:
			return nil, nil, fmt.Errorf("the store did not come to rest")
		}
	}
}

// posted keeps what `send` posts to nginx, as files named by the last part of the path.
func (r *Render) posted(send func() error) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	nginx.StatusPort = listener.Addr().(*net.TCPAddr).Port
	var lock sync.Mutex
	var failed error
	go http.Serve(listener, http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) { //nolint:errcheck,gosec
		body, err := io.ReadAll(request.Body)
		if err == nil {
			err = os.WriteFile(filepath.Join(r.Out, filepath.Base(request.URL.Path)+".json"), body, 0o600)
		}
		if err != nil {
			lock.Lock()
			failed = err
			lock.Unlock()
		}
		answer.WriteHeader(http.StatusCreated)
	}))
	if err := send(); err != nil {
		return err
	}
	lock.Lock()
	defer lock.Unlock()
	return failed
}
