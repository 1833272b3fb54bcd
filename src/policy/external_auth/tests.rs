use super::*;
use crate::model::{ConfigMap, Meta, ObjectKey};
use crate::policy::annotation::Objects;
use crate::policy::annotation::sample::{self, PREFIX, ingress};

const URL: (&str, &str) = ("auth-url", "http://auth.test/check");

/// What the annotations give, beside a ConfigMap `default/headers` with these entries.
fn read(
    annotations: &[(&str, &str)],
    data: &[(&str, &str)],
) -> Result<Option<Arc<ExternalAuth>>, &'static str> {
    let key = ObjectKey::new("default", "headers");
    let data = data.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let map = ConfigMap { meta: Meta::named(key.clone()), data };
    let config_maps = [(key, Arc::new(map))].into();
    let ingress = ingress(annotations);
    let objects = Objects { config_maps: &config_maps, ..Objects::NONE };
    let mut reader = Reader::new(&ingress, PREFIX, true).with_objects(objects);
    let auth = ExternalAuth::read(&mut reader, &Globals::default());
    reader.denied().map_or(Ok(auth), Err)
}

#[test]
fn absent_typical_and_full() {
    assert_eq!(read(&[], &[]), Ok(None));
    assert_eq!(read(&[URL], &[]), Ok(Some(Arc::new(ExternalAuth::of(AuthUrl::parse(URL.1).unwrap())))));
    let all = [
        URL,
        ("auth-method", "HEAD"),
        ("auth-signin", "https://$host/start"),
        ("auth-signin-redirect-param", "orig"),
        ("auth-response-headers", "X-User, X-Mail,"),
        ("auth-proxy-set-headers", "headers"),
        ("auth-request-redirect", "https://$host/x"),
        ("auth-always-set-cookie", "true"),
        ("auth-cache-key", "$remote_user$http_authorization"),
        ("auth-cache-duration", "200 202 10m, 401 5m"),
        ("auth-keepalive", "10"),
        ("auth-keepalive-requests", "10"),
        ("auth-keepalive-timeout", "10"),
        ("auth-keepalive-share-vars", "true"),
    ];
    let auth = read(&all, &[("X-A", "$host"), ("Host", "other.test")]).unwrap().unwrap();
    assert_eq!(auth.asked_by(), Method::HEAD);
    assert_eq!(auth.response_headers.len(), 2);
    assert_eq!(auth.set_headers.len(), 2);
    assert!(auth.signin.is_some() && auth.request_redirect.is_some() && auth.cache.is_some());
    assert!(auth.always_set_cookie);
    let ten = Duration::from_secs(10);
    assert_eq!(auth.keepalive, Some(Keepalive { connections: 10, requests: 10, timeout: ten }));
}

#[test]
fn connections_are_kept_as_said_or_by_the_config_map() {
    let kept = |annotations: &[(&str, &str)]| {
        let auth = read(&[&[URL], annotations].concat(), &[]).unwrap().unwrap();
        auth.keepalive.map(|kept| (kept.connections, kept.requests, kept.timeout.as_secs()))
    };
    let (some, requests, timeout) =
        (("auth-keepalive", "5"), "auth-keepalive-requests", "auth-keepalive-timeout");
    assert_eq!(kept(&[]), None);
    assert_eq!(kept(&[(requests, "7"), (timeout, "8")]), None, "they mean nothing alone");
    assert_eq!(kept(&[some]), Some((5, 1000, 60)));
    assert_eq!(kept(&[some, (requests, "7"), (timeout, "8")]), Some((5, 7, 8)));
    assert_eq!(kept(&[some, (requests, "0")]).map(|kept| kept.0), Some(0), "as with ingress-nginx");
    assert_eq!(kept(&[some, (timeout, "-1")]).map(|kept| kept.0), Some(0));
    assert_eq!(kept(&[("auth-keepalive", "-1")]), None);
    assert_eq!(kept(&[some, (requests, "x")]), Some((5, 1000, 60)));
}

/// `security.md` B.1, `auth_poison_matrix`: ingress-nginx opens the routes over some of these.
#[test]
fn a_faulty_detail_beside_a_sound_url_never_opens_the_routes() {
    let huge = "x".repeat(70_000);
    for spec in SPECS.iter().filter(|spec| spec.name != "auth-url") {
        for bad in ["", "junk value", huge.as_str(), "a\r\nb", "{}", "-1", "$unknown", "\u{0}"] {
            let outcome = read(&[URL, (spec.name, bad)], &[]);
            let guarded = match &outcome {
                Ok(auth) => auth.is_some(),
                Err(_) => true,
            };
            assert!(guarded, "{} {bad:.20}: {outcome:?}", spec.name);
        }
    }
    for bad in [
        ("auth-method", "TRACE"),
        ("auth-signin", "javascript:alert(1)"),
        ("auth-signin-redirect-param", "a&b"),
        ("auth-response-headers", "X User"),
        ("auth-response-headers", "Host"),
        ("auth-proxy-set-headers", "absent"),
        ("auth-proxy-set-headers", "other/headers"),
        ("auth-request-redirect", "$unknown"),
        ("auth-always-set-cookie", "perhaps"),
        ("auth-cache-key", "a b"),
        ("auth-cache-duration", "200 5x"),
    ] {
        assert_eq!(read(&[URL, bad], &[]), Err("AuthUnavailable"), "{bad:?}");
        assert_eq!(read(&[bad], &[]), Ok(None), "{bad:?} guards nothing alone");
    }
    let with = [URL, ("auth-proxy-set-headers", "headers")];
    assert_eq!(read(&with, &[("Transfer-Encoding", "chunked")]), Err("AuthUnavailable"));
    assert_eq!(read(&with, &[("X-A", "$unknown")]), Err("AuthUnavailable"));
}

#[test]
fn a_faulty_url_shuts_the_routes() {
    for bad in ["", "junk", "//auth.test", "http://", "http://a b/", "http://$http_x/", "http://a/\u{7}"] {
        assert_eq!(read(&[("auth-url", bad)], &[]), Err("InvalidAnnotation"), "{bad:?}");
    }
    let codes = sample::diagnostics(&[("auth-url", "junk")], |reader| {
        ExternalAuth::read(reader, &Globals::default())
    });
    assert_eq!(codes, ["InvalidAnnotation"]);
}
