//! The YAML door: what is read of good objects, and what is said about bad ones.

use super::*;
use crate::model::{Backend, PathType, PortRef, Protocol, ServiceType, TargetPort, Timestamp};

const INGRESS: &str = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  namespace: shop
  creationTimestamp: '2024-01-01T00:00:10Z'
  annotations:
    nginx.ingress.kubernetes.io/app-root: /x
spec:
  ingressClassName: nginx
  defaultBackend: {resource: {kind: Bucket, name: pics}}
  tls:
  - hosts: [a.example]
    secretName: cert
  rules:
  - host: a.example
    http:
      paths:
      - path: /
        pathType: Prefix
        backend: {service: {name: app, port: {number: 80}}}
      - path: /api
        pathType: Exact
        backend:
          service:
            name: api
            port:
              name: http
  - host: bare.example
";

fn one(text: &str) -> Object {
    let manifest = read("m.yaml", text.as_bytes());
    assert_eq!(manifest.diagnostics, [], "{text}");
    assert_eq!(manifest.objects.len(), 1, "{text}");
    manifest.objects[0].clone()
}

#[test]
fn an_ingress_is_read_whole_with_the_lines_of_its_fields() {
    let Object::Ingress(ingress) = one(INGRESS) else { panic!("no Ingress") };
    assert_eq!(ingress.meta.key, ObjectKey::new("shop", "web"));
    assert_eq!(ingress.meta.created, Some(Timestamp(1_704_067_210)));
    assert_eq!(ingress.class_name.as_deref(), Some("nginx"));
    assert_eq!(
        ingress.default_backend,
        Some(Backend::Resource { kind: "Bucket".into(), name: "pics".into() })
    );
    assert_eq!(ingress.tls[0].hosts, ["a.example"]);
    assert_eq!(ingress.tls[0].secret_name, "cert");
    assert_eq!(ingress.rules[1].paths, None);
    let paths = ingress.rules[0].paths.as_ref().unwrap();
    assert_eq!(paths[0].path_type, Some(PathType::Prefix));
    let Backend::Service(second) = &paths[1].backend else { panic!("no service") };
    assert_eq!((second.name.as_str(), &second.port), ("api", &PortRef::Name("http".into())));
    let origin = &ingress.meta.origin;
    assert_eq!((origin.file.as_deref(), origin.line), (Some("m.yaml"), Some(1)));
    let line = |field: &str| origin.fields.get(field);
    assert_eq!(line("metadata.annotations[nginx.ingress.kubernetes.io/app-root]"), Some(8));
    assert_eq!(line("spec.rules[0].http.paths[1].path"), Some(22));
    assert_eq!(line("spec.rules[0].http.paths[1]"), Some(22));
    assert_eq!(line("spec.tls[0].secretName"), Some(14));
    assert_eq!(line("spec.rules[1].host"), Some(29));
}

#[test]
fn a_service_gets_the_defaults_of_an_api_server() {
    let Object::Service(service) = one(
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: None, ports: [{port: 80}, {name: q, port: 53, protocol: UDP, targetPort: dns, appProtocol: x}, {port: 1, targetPort: 0}]}}",
    ) else {
        panic!("no Service")
    };
    assert_eq!(service.meta.key, ObjectKey::new("default", "s"));
    assert_eq!(
        (service.service_type, service.headless, service.cluster_ip),
        (ServiceType::ClusterIp, true, None)
    );
    assert_eq!((&service.ports[0].target, service.ports[0].protocol), (&TargetPort::Same, Protocol::Tcp));
    assert_eq!(
        (&service.ports[1].target, service.ports[1].protocol),
        (&TargetPort::Name("dns".into()), Protocol::Udp)
    );
    assert_eq!(service.ports[2].target, TargetPort::Same);
}

#[test]
fn a_slice_keeps_absent_conditions_apart_from_false_ones() {
    let text = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv6
ports: [{port: 8080}, {name: any}]
endpoints:
- {addresses: ['::1'], zone: z1, hints: {forZones: [{name: z2}]}, targetRef: {kind: Pod, namespace: n, name: p}}
- {addresses: ['::2'], conditions: {ready: false, serving: true, terminating: true}}
";
    let Object::EndpointSlice(slice) = one(text) else { panic!("no slice") };
    assert_eq!(slice.service, "s");
    assert_eq!((slice.ports[0].port, slice.ports[1].port), (Some(8080), None));
    let (first, second) = (&slice.endpoints[0], &slice.endpoints[1]);
    assert_eq!(
        (first.ready, first.zone.as_str(), first.hinted_zones.as_slice()),
        (None, "z1", &["z2".to_owned()][..])
    );
    assert_eq!(first.target, Some(("Pod".into(), "n".into(), "p".into())));
    assert_eq!((second.ready, second.serving, second.terminating), (Some(false), Some(true), Some(true)));
}

#[test]
fn endpoints_become_one_slice_per_subset() {
    let text = "{apiVersion: v1, kind: Endpoints, metadata: {name: s}, subsets: [{addresses: [{ip: 10.0.0.1}], notReadyAddresses: [{ip: 10.0.0.2}], ports: [{port: 80}]}, {ports: [{port: 81}]}]}";
    let manifest = read("m.yaml", text.as_bytes());
    let slices: Vec<_> = manifest
        .objects
        .iter()
        .map(|object| match object {
            Object::EndpointSlice(slice) => {
                let ready: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.ready).collect();
                (slice.meta.key.to_string(), slice.service.as_str(), ready)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        slices,
        [
            ("default/s:0".to_owned(), "s", vec![Some(true), Some(false)]),
            ("default/s:1".to_owned(), "s", vec![]),
        ]
    );
}

#[test]
fn a_secret_is_decoded_and_its_string_data_lies_over_its_data() {
    let Object::Secret(secret) = one("apiVersion: v1
kind: Secret
metadata: {name: s}
data:
  a: YQ==
  b: Yg==
  c: |-
   YWFh
   YWFh
stringData: {b: over, d: ''}
")
    else {
        panic!("no Secret")
    };
    assert_eq!(secret.secret_type, "Opaque");
    let data: Vec<_> = secret.data.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
    assert_eq!(data, [("a", &b"a"[..]), ("b", b"over"), ("c", b"aaaaaa"), ("d", b"")]);
}

#[test]
fn classes_namespaces_and_config_maps_are_read() {
    let Object::IngressClass(class) = one(
        "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: n, namespace: ignored}, spec: {controller: c, parameters: {kind: PathSemantics, name: kubernetes}}}",
    ) else {
        panic!("no class")
    };
    assert_eq!((class.meta.key.namespace.as_ref(), class.controller.as_str()), ("", "c"));
    assert_eq!(class.parameters, Some(("PathSemantics".into(), "kubernetes".into())));
    let Object::Namespace(namespace) =
        one("{apiVersion: v1, kind: Namespace, metadata: {name: n, labels: {a: b}}}")
    else {
        panic!("no namespace")
    };
    assert_eq!(namespace.meta.labels.get("a").map(String::as_str), Some("b"));
    let Object::ConfigMap(map) =
        one("{apiVersion: v1, kind: ConfigMap, metadata: {name: n}, data: {a: 'true', b: null}}")
    else {
        panic!("no map")
    };
    assert_eq!(
        map.data.clone().into_iter().collect::<Vec<_>>(),
        [("a".into(), "true".into()), ("b".into(), String::new())]
    );
}

#[test]
fn lists_hold_objects_and_typed_lists_give_them_their_kind() {
    let text = "apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
- {apiVersion: v1, kind: Pod, metadata: {name: b}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClassList
items:
- {metadata: {name: c}, spec: {controller: x}}
---
{apiVersion: v1, kind: Pod, metadata: {name: c}}
";
    let manifest = read("m.yaml", text.as_bytes());
    let names: Vec<_> = manifest.objects.iter().map(|object| object.reference().to_string()).collect();
    assert_eq!(names, ["ConfigMap default/a", "IngressClass c"]);
    let said: Vec<_> = manifest.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["m.yaml:5: info: IgnoredKind Manifest m.yaml: objects of kind Pod are not read"]);
}

/// One bad object and what is said about it, less `error: ` and the object.
#[track_caller]
fn refused(text: &str, expect: &[&str]) {
    let manifest = read("m.yaml", text.as_bytes());
    let said: Vec<_> = manifest
        .diagnostics
        .iter()
        .map(|found| {
            let line = found.line().map_or_else(String::new, |line| format!("{line}: "));
            let value = if found.value.is_empty() { String::new() } else { format!(" = {:?}", found.value) };
            let hint = if found.hint.is_empty() { String::new() } else { format!(" ({})", found.hint) };
            format!(
                "{line}{} {} {}{value}: {}{hint}",
                found.severity.as_str(),
                found.code,
                found.field,
                found.reason
            )
        })
        .collect();
    assert_eq!(said, expect, "{text}");
    let errors = manifest
        .diagnostics
        .iter()
        .any(|found| found.severity == Severity::Error || ["NoObject", "IgnoredKind"].contains(&found.code));
    assert_eq!(manifest.objects.is_empty(), errors, "an object is refused exactly when there is an error");
}

fn ingress(spec: &str) -> String {
    format!("{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: i}}, spec: {spec}}}")
}

fn path(path: &str) -> String {
    ingress(&format!("{{rules: [{{http: {{paths: [{path}]}}}}]}}"))
}

#[test]
fn bad_fields_of_an_ingress_are_named() {
    refused(
        &path("{path: /, pathType: prefix, backend: {service: {name: a, port: {number: 80}}}}"),
        &[
            "1: error InvalidField spec.rules[0].http.paths[0].pathType = \"prefix\": is no path type (use Exact, Prefix or ImplementationSpecific)",
        ],
    );
    refused(
        &path("{path: /, backend: {serviceName: a, servicePort: 80}}"),
        &[
            "1: warning UnknownField spec.rules[0].http.paths[0].backend.serviceName = \"a\": unknown field, ignored (networking.k8s.io/v1 writes `service: {name: …}`)",
            "1: warning UnknownField spec.rules[0].http.paths[0].backend.servicePort = \"80\": unknown field, ignored (networking.k8s.io/v1 writes `service: {port: {number: …}}`)",
            "1: error InvalidField spec.rules[0].http.paths[0].backend: names neither a service nor a resource (write `service: {name: …, port: {number: …}}`)",
        ],
    );
    refused(
        &path("{path: /, backend: {service: {name: a, port: {number: '80'}}}}"),
        &[
            "1: error InvalidField spec.rules[0].http.paths[0].backend.service.port.number = \"80\": must be a whole number, not a string (write it without quotes)",
        ],
    );
    refused(
        &path("{path: /, backend: {service: {name: a, port: {number: 70000}}}}"),
        &[
            "1: error InvalidField spec.rules[0].http.paths[0].backend.service.port.number = \"70000\": must be a port number from 1 to 65535",
        ],
    );
    refused(
        &path("{path: /, backend: {service: {name: a, port: {}}}}"),
        &[
            "1: error InvalidField spec.rules[0].http.paths[0].backend.service.port: gives neither a name nor a number (write `port: {number: 80}`)",
        ],
    );
    refused(
        &path("{path: /, backend: {service: {nme: a, port: {name: b, number: 1}}}}"),
        &[
            "1: warning UnknownField spec.rules[0].http.paths[0].backend.service.nme = \"a\": unknown field, ignored (did you mean `name`?)",
            "1: error MissingField spec.rules[0].http.paths[0].backend.service.name: is required (rename `nme`)",
            "1: error InvalidField spec.rules[0].http.paths[0].backend.service.port: gives both a name and a number (keep one of them)",
        ],
    );
    refused(&path("{path: /}"), &["1: error MissingField spec.rules[0].http.paths[0].backend: is required"]);
    refused(
        &ingress("{rules: {host: a}}"),
        &["1: error InvalidField spec.rules: must be a list, not a mapping (start each item with `- `)"],
    );
    refused(
        &ingress("{rules: [{host: 80}]}"),
        &[
            "1: error InvalidField spec.rules[0].host = \"80\": must be a string, not a number (write it in quotes: \"80\")",
        ],
    );
    refused(
        &ingress("{ingressClasName: a}"),
        &[
            "1: warning UnknownField spec.ingressClasName = \"a\": unknown field, ignored (did you mean `ingressClassName`?)",
        ],
    );
}

#[test]
fn bad_metadata_is_named() {
    let object = |metadata: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}\n");
    refused(&object("{}"), &["3: error MissingField metadata.name: is required"]);
    refused(
        &object("{name: A_b}"),
        &[
            "3: error InvalidField metadata.name = \"A_b\": is no object name (use lower case letters, digits, `-` and `.`)",
        ],
    );
    refused(
        &object("{name: a, annotations: {x: true, y: 5}}"),
        &[
            "3: error InvalidField metadata.annotations[x] = \"true\": must be a string, not a boolean (write it in quotes: \"true\")",
            "3: error InvalidField metadata.annotations[y] = \"5\": must be a string, not a number (write it in quotes: \"5\")",
        ],
    );
    refused(
        &object("{name: a, creationTimestamp: yesterday}"),
        &[
            "3: error InvalidField metadata.creationTimestamp = \"yesterday\": is no RFC 3339 time (write it as 2024-01-31T12:00:00Z)",
        ],
    );
    refused(
        &object("{name: a, anotations: {}}"),
        &[
            "3: warning UnknownField metadata.anotations: unknown field, ignored (did you mean `annotations`?)",
        ],
    );
    refused("apiVersion: v1\nkind: ConfigMap\n", &["1: error MissingField metadata: is required"]);
}

#[test]
fn bad_services_slices_and_maps_are_named() {
    let service =
        |spec: &str| format!("{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {spec}}}");
    refused(
        &service("{type: External}"),
        &[
            "1: error InvalidField spec.type = \"External\": is no type of Service (use ClusterIP, NodePort, LoadBalancer or ExternalName)",
        ],
    );
    refused(&service("{type: ExternalName}"), &["1: error MissingField spec.externalName: is required"]);
    refused(
        &service("{clusterIP: nowhere}"),
        &["1: error InvalidField spec.clusterIP = \"nowhere\": is no IP address"],
    );
    refused(
        &service("{ports: [{targetPort: '80'}]}"),
        &[
            "1: error MissingField spec.ports[0].port: is required",
            "1: error InvalidField spec.ports[0].targetPort = \"80\": a port name must contain a letter (write a number without quotes)",
        ],
    );
    refused(
        &service("{ports: [{port: 80, protocol: tcp}]}"),
        &["1: error InvalidField spec.ports[0].protocol = \"tcp\": is no protocol (use TCP, UDP or SCTP)"],
    );
    let slice = |rest: &str| {
        format!("{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: s}}, {rest}}}")
    };
    refused(&slice("endpoints: []"), &["1: error MissingField addressType: is required"]);
    refused(
        &slice("addressType: IPv4, endpoints: [{addresses: [localhost]}]"),
        &["1: error InvalidField endpoints[0].addresses[0] = \"localhost\": is no IP address"],
    );
    refused(
        &slice("addressType: FQDN, endpoints: [{addresses: [a.example]}]"),
        &[
            "1: warning UnsupportedAddressType addressType = \"FQDN\": endpoints that are names take no traffic (use a Service of type ExternalName)",
        ],
    );
    refused(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {hsts: false}}",
        &[
            "1: error InvalidField data[hsts] = \"false\": must be a string, not a boolean (write it in quotes: \"false\")",
        ],
    );
    refused(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: [a]}",
        &["1: error InvalidField data: must be a mapping, not a list"],
    );
}

#[test]
fn no_finding_shows_a_value_of_a_secret() {
    let secret = |data: &str| format!("{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, {data}}}");
    refused(
        &secret("data: {k: 'CANARY!'}"),
        &["1: error InvalidField data[k]: is no base64 (put plain text under `stringData`)"],
    );
    refused(
        &secret("data: {k: 4711}"),
        &["1: error InvalidField data[k]: must be a string (write it in quotes)"],
    );
    refused(
        &secret("stringData: {k: [CANARY]}"),
        &["1: error InvalidField stringData[k]: must be a string (write it in quotes)"],
    );
}

#[test]
fn documents_that_are_no_objects_are_told_apart() {
    refused(
        "replicas: 3\n",
        &["1: warning NoObject : no Kubernetes object, ignored (a manifest starts with apiVersion and kind)"],
    );
    refused(
        "just text\n",
        &["1: warning NoObject : no Kubernetes object, ignored (a manifest starts with apiVersion and kind)"],
    );
    refused(
        "kind: Service\n",
        &[
            "1: error MissingField : `apiVersion` is missing or no string (an object needs apiVersion and kind, both as strings)",
        ],
    );
    refused(
        "apiVersion: serving.knative.dev/v1\nkind: Service\n",
        &["1: info IgnoredKind : objects of kind Service.serving.knative.dev are not read"],
    );
}

#[test]
fn a_removed_version_names_its_replacement() {
    let manifest = read("m.yaml", b"apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: old}\n");
    assert_eq!(manifest.diagnostics.len(), 1);
    let found = &manifest.diagnostics[0];
    assert_eq!((found.code, found.severity), ("RemovedVersion", Severity::Error));
    assert_eq!(found.object.to_string(), "Ingress default/old");
    assert!(found.hint.contains("networking.k8s.io/v1"), "{found}");
    assert!(manifest.refused.contains(&found.object));
}

#[test]
fn a_bad_document_hurts_only_itself() {
    let text =
        format!("{INGRESS}---\nkind: [\n---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c}}}}\n");
    let manifest = read("m.yaml", text.as_bytes());
    assert_eq!(manifest.objects.len(), 2);
    assert!(manifest.torn);
    assert_eq!(manifest.diagnostics.len(), 1, "{:?}", manifest.diagnostics);
    let found = &manifest.diagnostics[0];
    assert_eq!((found.code, found.object.to_string()), ("InvalidYaml", "Manifest m.yaml".into()));
    assert!(found.line().is_some_and(|line| line >= 28), "{found}");
}

#[test]
fn what_cannot_be_read_keeps_its_last_good_version() {
    let map = |name: &str, value: &str| {
        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{k: {value}}}\n")
    };
    let values = |manifest: &Manifest| -> Vec<(String, String)> {
        let mut values: Vec<_> = manifest
            .objects
            .iter()
            .map(|object| match object {
                Object::ConfigMap(map) => (map.meta.key.name.to_string(), map.data["k"].clone()),
                other => panic!("{other:?}"),
            })
            .collect();
        values.sort();
        values
    };
    let pairs = |expect: &[(&str, &str)]| -> Vec<(String, String)> {
        expect.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let good = read("m.yaml", (map("a", "'1'") + &map("b", "'1'")).as_bytes());
    // A refused object stays; one that is gone is gone.
    let refused = read("m.yaml", map("a", "2").as_bytes()).keeping(&good);
    assert_eq!(values(&refused), pairs(&[("a", "1")]));
    // A torn file: what can be read is new, the rest stays.
    let torn = read("m.yaml", (map("a", "'3'") + "---\n{[\n").as_bytes()).keeping(&good);
    assert_eq!(values(&torn), pairs(&[("a", "3"), ("b", "1")]));
    assert!(torn.diagnostics.iter().any(|found| found.code == "LastGoodContent"), "{:?}", torn.diagnostics);
    // A sound file forgets.
    assert_eq!(values(&read("m.yaml", b"").keeping(&torn)), []);
}

#[test]
fn of_an_object_declared_twice_the_earlier_path_counts() {
    let object = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{k: {value}}}\n")
    };
    let (first, second) = (read("a.yaml", object("x").as_bytes()), read("b.yaml", object("y").as_bytes()));
    let (world, diagnostics) = world([&first, &second]);
    assert_eq!(world.config_maps[&ObjectKey::new("default", "a")].data["k"], "x");
    let said: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "b.yaml:3: error: DuplicateObject ConfigMap default/a metadata.name = \"a\": the same object is declared in a.yaml:1, which counts (hint: remove one of them)",
        ]
    );
}

#[test]
fn an_object_full_of_mistakes_is_refused_with_a_bounded_number_of_findings() {
    let mut text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n".to_owned();
    for number in 0..10_000 {
        text.push_str(&format!("unknown{number}: 1\n"));
    }
    text.push_str("data: [wrong]\n");
    let manifest = read("m.yaml", text.as_bytes());
    assert!(
        manifest.objects.is_empty() && manifest.diagnostics.len() <= 101,
        "{}",
        manifest.diagnostics.len()
    );
    assert!(manifest.diagnostics.iter().any(|found| found.field == "data"));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let manifest = read("m.yaml", &bytes);
        proptest::prop_assert!(manifest.objects.is_empty());
    }

    #[test]
    fn a_damaged_manifest_is_read_or_told_about(
        at in 0..INGRESS.len(),
        with in proptest::sample::select(vec!["", "-", ":", "[", "{", "\n", "\t", "&a ", "*a", "!!int ", "|", "'", "\"", "%", "\u{0}", "---\n"]),
        removed in 0..20_usize,
    ) {
        let end = INGRESS.len().min(at + removed);
        let text = format!("{}{with}{}", &INGRESS[..at], &INGRESS[end..]);
        let manifest = read("m.yaml", text.as_bytes());
        let told = manifest.diagnostics.iter().any(|found| found.severity != Severity::Info);
        proptest::prop_assert!(told || !manifest.objects.is_empty() || manifest.diagnostics.len() == 1, "{text}");
    }
}
