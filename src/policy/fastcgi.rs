//! `fastcgi-index`, `fastcgi-params-configmap`: what a FastCGI application is told of a request. The parameters are those
//! of ingress-nginx's `fastcgi_params`, then those of the ConfigMap, then the request's fields as `HTTP_…`. They count
//! where `backend-protocol` is FCGI.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use super::template::{Facts, Template};
use crate::diagnostic::Severity;
use crate::request::{Scheme, normalize, split_target};
use crate::wire::{Fields, Version};

const INDEX: Spec = Spec::new("fastcgi-index", Scope::Location, Risk::Medium)
    .fail_closed()
    .values("none", "index.php")
    .doc("With backend-protocol FCGI: appended to a path that ends in a slash, for SCRIPT_NAME.");
const PARAMS: Spec = Spec::new("fastcgi-params-configmap", Scope::Location, Risk::Medium)
    .fail_closed()
    .values("none", "default/params")
    .fidelity(Fidelity::Equivalent(
        "variables of a closed list are known, `$document_root` is /etc/nginx/html, `$fastcgi_path_info` is empty; a \
         parameter that stands there twice is sent once",
    ))
    .doc("With backend-protocol FCGI: ConfigMap of further parameters, such as SCRIPT_FILENAME.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[INDEX, PARAMS];

/// nginx's `$document_root` in the image of ingress-nginx, where no `root` is set.
const DOCUMENT_ROOT: &str = "/etc/nginx/html";

/// What an Ingress says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fastcgi {
    index: Option<Arc<str>>,
    params: Vec<(Box<str>, Vec<Piece>)>,
}

/// A part of a parameter's value.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    /// Text with variables.
    Text(Template),
    /// `$fastcgi_script_name`.
    ScriptName,
}

/// What parameters are made of beside the policy.
#[derive(Debug, Clone, Copy)]
pub struct Told<'t> {
    /// The request and its route.
    pub facts: Facts<'t>,
    /// Target after rewrites.
    pub target: &'t [u8],
    /// Fields as a backend over HTTP would get them: what policies, snippets and access checks made of the client's.
    pub fields: &'t Fields,
    /// Length of the body.
    pub length: u64,
    /// Our address towards the client.
    pub server: IpAddr,
}

impl Fastcgi {
    /// Reads the family. What is invalid shuts the routes: a script that is not told where it may look would look
    /// elsewhere.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let index = reader.text(&INDEX, "a file name", allowed).ok();
        let mut params = Vec::new();
        if let Some(key) = reader.reference(&PARAMS).ok() {
            match reader.config_map(&key) {
                Some(map) => {
                    for (name, value) in &map.data {
                        match param(name, value) {
                            Ok(pieces) => params.push((name.as_str().into(), pieces)),
                            Err(reason) => refuse(reader, &format!("{key}: {name} {reason}")),
                        }
                    }
                }
                None => refuse(reader, "names a ConfigMap that does not exist or cannot be read"),
            }
        }
        Self { index, params }
    }

    /// Names and values, each name once, in order of names.
    pub fn parameters(&self, told: &Told<'_>) -> BTreeMap<String, Vec<u8>> {
        let view = told.facts.view;
        let (path, query) = split_target(told.target);
        let document = normalize(told.target).map_or_else(|_| path.to_vec(), |path| path.as_bytes().to_vec());
        let mut script = document.clone();
        if let Some(index) = &self.index
            && script.ends_with(b"/")
        {
            script.extend_from_slice(index.as_bytes());
        }
        let content_type = view.fields.get("content-type").unwrap_or_default();
        let length = if told.length > 0 || view.fields.contains("content-length") {
            told.length.to_string()
        } else {
            String::new()
        };
        let port = view.listen_port.to_string();
        let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut set = |name: &str, value: &[u8]| drop(all.insert(name.to_owned(), value.to_vec()));
        set("QUERY_STRING", query.unwrap_or_default());
        set("REQUEST_METHOD", view.method.as_str().as_bytes());
        set("CONTENT_TYPE", content_type);
        set("CONTENT_LENGTH", length.as_bytes());
        set("SCRIPT_NAME", &script);
        set("REQUEST_URI", view.target);
        set("DOCUMENT_URI", &document);
        set("DOCUMENT_ROOT", DOCUMENT_ROOT.as_bytes());
        set("SERVER_PROTOCOL", protocol(view.version).as_bytes());
        set("REQUEST_SCHEME", view.scheme.as_str().as_bytes());
        if view.scheme == Scheme::Https {
            set("HTTPS", b"on");
        }
        set("GATEWAY_INTERFACE", b"CGI/1.1");
        // Applications look for the word before the slash.
        set("SERVER_SOFTWARE", b"nginx/1.27.1");
        set("REMOTE_ADDR", view.forwarded.client.to_canonical().to_string().as_bytes());
        set("REMOTE_PORT", view.peer.port().to_string().as_bytes());
        set("SERVER_ADDR", told.server.to_canonical().to_string().as_bytes());
        set("SERVER_PORT", port.as_bytes());
        set("SERVER_NAME", told.facts.route.server_name.as_bytes());
        // PHP runs nothing without it.
        set("REDIRECT_STATUS", b"200");
        for (name, pieces) in &self.params {
            let mut value = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Text(text) => value.extend_from_slice(text.expand(&told.facts).as_bytes()),
                    Piece::ScriptName => value.extend_from_slice(&script),
                }
            }
            set(name, &value);
        }
        request_fields(told.fields, &mut all);
        all
    }
}

/// `HTTP_…`: values of one name together, as nginx joins them. No field replaces a parameter of ours, and those that end
/// at the proxy are left out.
fn request_fields(fields: &Fields, all: &mut BTreeMap<String, Vec<u8>>) {
    let mut joined: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (name, value) in fields.iter() {
        if AT_THE_PROXY.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            continue;
        }
        let upper: String =
            name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() }).collect();
        let separator: &[u8] = if upper == "COOKIE" { b"; " } else { b", " };
        let line = joined.entry(format!("HTTP_{upper}")).or_default();
        if !line.is_empty() {
            line.extend_from_slice(separator);
        }
        line.extend_from_slice(value);
    }
    for (name, value) in joined {
        all.entry(name).or_insert(value);
    }
}

/// Fields about the connection; an application has none with us.
const AT_THE_PROXY: [&str; 6] =
    ["connection", "upgrade", "te", "transfer-encoding", "content-length", "keep-alive"];

const fn protocol(version: Version) -> &'static str {
    version.as_str()
}

fn refuse(reader: &mut Reader<'_>, reason: &str) {
    reader.deny("FastcgiParams");
    reader.report(PARAMS.name, Severity::Error, "FastcgiParams", reason, "correct the ConfigMap");
}

/// One entry of the ConfigMap.
fn param(name: &str, value: &str) -> Result<Vec<Piece>, String> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.len() > 128 || !name.bytes().all(sound) {
        return Err("is no name of a parameter: letters, digits and underscores".into());
    }
    if value.len() > 4096 || value.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("has a value that is too long or holds control characters".into());
    }
    let value = value
        .replace("${document_root}", DOCUMENT_ROOT)
        .replace("$document_root", DOCUMENT_ROOT)
        .replace("${fastcgi_path_info}", "")
        .replace("$fastcgi_path_info", "")
        .replace("${fastcgi_script_name}", "$fastcgi_script_name");
    let mut pieces = Vec::new();
    for (number, text) in value.split("$fastcgi_script_name").enumerate() {
        if number > 0 {
            pieces.push(Piece::ScriptName);
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(Template::parse(text).map_err(|error| error.to_string())?));
        }
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{denied, fields, read, view};
    use crate::policy::template::RouteFacts;

    fn parameters(
        policy: &Fastcgi,
        target: &str,
        lines: &[(&str, &str)],
        length: u64,
    ) -> BTreeMap<String, String> {
        let fields = fields(lines);
        let view = view(target, &fields);
        let facts =
            Facts { view: &view, route: RouteFacts { server_name: "h.test", ..RouteFacts::default() } };
        let told = Told {
            facts,
            target: target.as_bytes(),
            fields: &fields,
            length,
            server: "10.0.0.1".parse().unwrap(),
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        policy.parameters(&told).into_iter().map(|(name, value)| (name, text(value))).collect()
    }

    #[test]
    fn the_standard_parameters_and_fields_are_told() {
        let lines = [
            ("Host", "h.test"),
            ("X-A", "1"),
            ("x-a", "2"),
            ("Content-Type", "a/b"),
            ("Content-Length", "0"),
        ];
        let seen = parameters(&Fastcgi::default(), "/a%20b/?q=1", &lines, 0);
        for (name, value) in [
            ("QUERY_STRING", "q=1"),
            ("REQUEST_METHOD", "GET"),
            ("CONTENT_TYPE", "a/b"),
            ("CONTENT_LENGTH", "0"),
            ("SCRIPT_NAME", "/a b/"),
            ("REQUEST_URI", "/a%20b/?q=1"),
            ("DOCUMENT_URI", "/a b/"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_ADDR", "10.0.0.1"),
            ("SERVER_NAME", "h.test"),
            ("REDIRECT_STATUS", "200"),
            ("HTTP_X_A", "1, 2"),
            ("HTTP_HOST", "h.test"),
        ] {
            assert_eq!(seen.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!seen.contains_key("HTTPS"));
        assert_eq!(parameters(&Fastcgi::default(), "/", &[], 0)["CONTENT_LENGTH"], "");
        assert_eq!(parameters(&Fastcgi::default(), "/", &[], 7)["CONTENT_LENGTH"], "7");
    }

    #[test]
    fn the_index_completes_a_directory_only() {
        let policy = Fastcgi { index: Some("index.php".into()), ..Fastcgi::default() };
        let told = |target: &str| {
            let seen = parameters(&policy, target, &[], 0);
            (seen["SCRIPT_NAME"].clone(), seen["DOCUMENT_URI"].clone())
        };
        assert_eq!(told("/a/"), ("/a/index.php".into(), "/a/".into()));
        assert_eq!(told("/a"), ("/a".into(), "/a".into()));
    }

    #[test]
    fn parameters_of_the_config_map_replace_ours_and_hold_variables() {
        let entry = |name: &str, value: &str| (name.into(), param(name, value).unwrap());
        let policy = Fastcgi {
            index: Some("index.php".into()),
            params: vec![
                entry("SCRIPT_FILENAME", "/srv$fastcgi_script_name"),
                entry("SERVER_SOFTWARE", "x"),
                entry("DOC", "$document_root${fastcgi_path_info}"),
                entry("METHOD", "$request_method"),
            ],
        };
        let seen = parameters(&policy, "/a/", &[], 0);
        assert_eq!(seen["SCRIPT_FILENAME"], "/srv/a/index.php");
        assert_eq!(
            (&*seen["SERVER_SOFTWARE"], &*seen["DOC"], &*seen["METHOD"]),
            ("x", "/etc/nginx/html", "GET")
        );
        for (name, value) in [("A B", "x"), ("", "x"), ("A", "$unheard_of"), ("A", "a\nb")] {
            assert!(param(name, value).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn a_bad_index_or_reference_shuts_the_routes() {
        assert_eq!(
            read(&[("fastcgi-index", "index.php")], Fastcgi::read).index.as_deref(),
            Some("index.php")
        );
        let shut = |name, value| denied(&[(name, value)], |reader| drop(Fastcgi::read(reader)));
        assert!(shut("fastcgi-index", "../x").is_some());
        assert!(shut("fastcgi-params-configmap", "missing").is_some());
        assert!(shut("fastcgi-params-configmap", "other/params").is_some());
        assert_eq!(denied(&[], |reader| drop(Fastcgi::read(reader))), None);
    }
}
