//! The text that `narthex demo` prints: what runs, and commands that work when pasted.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::certificate;

/// Title and command; `{http}`, `{https}` and `{ca}` stand for the ports and the option that trusts the example's
/// authority.
const TRIES: &[(&str, &str)] = &[
    (
        "TLS by SNI; one request in five goes to the canary, shop-v2",
        "curl {ca} https://shop.localhost:{https}/",
    ),
    ("the canary on demand, by header", "curl {ca} -H 'X-Canary: always' https://shop.localhost:{https}/"),
    ("a host with TLS sends clear text to https", "curl -i http://shop.localhost:{http}/cart"),
    (
        "a path is rewritten by a regular expression",
        "curl {ca} 'https://api.localhost:{https}/v1/users/42?full=1'",
    ),
    ("regular expressions choose between backends", "curl {ca} https://api.localhost:{https}/items/7"),
    ("redirects, permanent and temporary", "curl -i http://old.localhost:{http}/anything"),
    ("the root of an application", "curl -i http://old.localhost:{http}/"),
    ("every tenant by wildcard", "curl http://acme.tenants.localhost:{http}/"),
    ("a backend that is too slow for its route", "curl -i 'http://slow.localhost:{http}/?seconds=3'"),
    (
        "HTTP/2, and a body that is echoed",
        "curl --http2 {ca} -d hello=world https://api.localhost:{https}/v1/echo",
    ),
];

pub(super) fn text(directory: &Path, http: u16, https: u16, admin: SocketAddr) -> String {
    let authority = directory.join(certificate::AUTHORITY_FILE);
    let trust = format!("--cacert '{}'", authority.display());
    let mut out = String::from("Narthex serves a built-in example. Try, in another terminal:\n");
    let mut line = |text: std::fmt::Arguments<'_>| {
        // A String takes everything.
        let _always = out.write_fmt(text);
    };
    for (title, command) in TRIES {
        let command = command
            .replace("{https}", &https.to_string())
            .replace("{http}", &http.to_string())
            .replace("{ca}", &trust);
        line(format_args!("\n  # {title}\n  {command}\n"));
    }
    line(format_args!(
        "\n  # a WebSocket, echoed (in a browser: its page has a form)\n  http://chat.localhost:{http}/\n"
    ));
    line(format_args!("\nThe manifests: {}\n", directory.display()));
    line(format_args!(
        "Edit one and save it: it counts at once, without a reload. Break one, and read the message:\n"
    ));
    line(format_args!("\n  narthex check '{}'\n", directory.display()));
    line(format_args!(
        "  narthex explain --manifests '{}' GET https://shop.localhost/cart\n",
        directory.display()
    ));
    line(format_args!(
        "\nWhat the proxy knows: http://{admin}/api/v1/routes and /api/v1/diagnostics, /metrics\n"
    ));
    line(format_args!(
        "Names below .localhost need curl 7.77 or later; before that, add --resolve NAME:PORT:127.0.0.1.\n"
    ));
    line(format_args!("Stop with Ctrl-C. The access log follows.\n\n"));
    out
}
