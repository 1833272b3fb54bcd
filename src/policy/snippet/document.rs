//! `docs/snippets.md`, made from the table of directives (`directive`) and that of variables.

use super::directive::{DIRECTIVES, Effect};

/// `docs/snippets.md`.
pub fn markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("| directive | where | what it does |\n|---|---|---|\n");
    let counting = DIRECTIVES.iter().filter(|directive| directive.effect == Effect::Counts);
    for directive in counting {
        let places: Vec<&str> = directive.contexts.iter().map(|context| context.as_str()).collect();
        out.push_str(&format!("| `{}` | {} | {} |\n", directive.name, places.join(", "), directive.doc));
    }
    out.push_str(
        "\n## Accepted, without effect\n\nThey are no reason to refuse a snippet; a finding names each.\n\n\
         | directive | why |\n|---|---|\n",
    );
    for directive in DIRECTIVES {
        if let Effect::Nothing(why) = directive.effect {
            out.push_str(&format!("| `{}` | {why} |\n", directive.name));
        }
    }
    out.push_str(STREAMS);
    out.push_str("\n## Variables\n\n");
    out.push_str(VARIABLES);
    out.push_str("| variable | value |\n|---|---|\n");
    for row in crate::variable::FIXED {
        use crate::variable::Known;
        let when = match row.known {
            Known::Request | Known::Route => "",
            Known::Answer => "; with the answer",
            Known::End => "; in logs, and in snippets as far as it is known by then",
            Known::Never => "; no value in this version",
        };
        out.push_str(&format!("| `${}` | {}{when} |\n", row.name, row.doc));
    }
    for (name, fixed) in crate::variable::ALIASES {
        let of = crate::variable::FIXED.iter().find(|row| row.fixed == *fixed).map_or("", |row| row.name);
        out.push_str(&format!("| `${name}` | as `${of}` |\n"));
    }
    out
}

const STREAMS: &str = "\n## Streams\n\n\
A `stream-snippet` holds `server` blocks, each of which opens TCP or UDP ports, and `upstream` blocks. It has a list of \
its own; anything else leaves it out as a whole.\n\n\
* `server`: `listen [address:]port [udp] [proxy_protocol]`; `proxy_pass` to an address and port, a name and port, or an \
`upstream`; `proxy_protocol`, `proxy_timeout`, `proxy_connect_timeout`, `proxy_responses`, `allow`, `deny`.\n\
* `upstream`: `server`, with its other parameters accepted and without effect; sessions take turns.\n\
* Targets obey the rules for backends: no metadata services, loopback only by `--allow-upstream-cidr`. Unlike a backend \
a target may be our own port for requests.\n\
* A port belongs to `--tcp-services-configmap` and `--udp-services-configmap` first, then to the ConfigMap's snippet, \
then to the oldest Ingress (`PortTaken`).\n";

const INTRODUCTION: &str = "# Snippets\n\n\
Made from the table in `src/policy/snippet/directive.rs`; do not edit.\n\n\
A snippet is text in the language of nginx. It is read once by a strict interpreter for a closed list of directives, \
and becomes typed policy; there is no nginx and no template behind it.\n\n\
* The annotations `configuration-snippet`, `server-snippet`, `auth-snippet` and `stream-snippet` count only where the \
ConfigMap says both `allow-snippet-annotations: \"true\"` and `annotations-risk-level: Critical`. The ConfigMap's own \
`http-snippet`, `server-snippet`, `location-snippet` and `stream-snippet` always count.\n\
* A directive that is not in the list, or one that is misused, refuses its snippet as a whole. A finding tells line and \
column.\n\
* A refused snippet without directives that protect (`allow`, `deny`, `return` of an error, `auth_*`, `limit_*` and the like) \
is left out. One that holds such a directive shuts the routes of its Ingress with 503 (of all Ingresses, for the \
ConfigMap's) until it is mended.\n\
* Framing and connection fields (`Connection`, `Transfer-Encoding`, `Content-Length` and so on) cannot be set.\n\
* Bounds: 16 KiB, 200 directives and 4 levels of blocks for each snippet of an annotation; 1000 steps per request.\n\n\
## Order\n\n\
Server: `server-snippet` of the annotation, `app-root`, `server-snippet` of the ConfigMap. Then the location is chosen, \
those of snippets included. Location: CORS preflight, `configuration-snippet`, `location-snippet`, redirect annotations, \
`rewrite-target`, redirect to https; then addresses, passwords and external authentication; then the backend. \
Within a snippet `set`, `if`, `return`, `rewrite` and `break` run in order, the other directives count from the start; \
those in the last `if` that holds count over those around it. Fields of answers: hidden ones go, `more_*`, `expires`, \
`add_header`.\n\n\
## Directives\n\n";

const VARIABLES: &str = "Names of one's own come from `set`, `map`, `geo`, `split_clients`, `auth_request_set` and named groups; `$1` to `$9` are groups of the \
last expression that matched. Beside the fixed names there are `$arg_*`, `$cookie_*`, `$http_*`, and with the answer \
`$sent_http_*` and `$upstream_http_*` (in logs `$upstream_cookie_*` too). The same names serve hash keys, field values, log formats and addresses of other \
services.\n\n";
