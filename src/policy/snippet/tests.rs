use std::time::Duration;

use super::*;
use crate::policy::annotation::sample::{self, fields, view};
use crate::policy::redirect::RedirectStyle;
use crate::policy::template::{Facts, RouteFacts};
use crate::reply::LocalReply;
use crate::wire::Fields;

fn open() -> Globals {
    Globals { annotations_risk_level: Risk::Critical, allow_snippet_annotations: true, ..Globals::default() }
}

fn script(text: &str, context: Context) -> Result<Script, String> {
    let tree = lex::parse(text, lex::MAX_TEXT).map_err(|fault| fault.to_string())?;
    let mut names = Names::default();
    names.collect(&tree);
    Builder::new(&names, build::MAX_DIRECTIVES).script(&tree, context).map_err(|fault| fault.to_string())
}

/// What a request gets: `reply` or the outcome, the target for the backend, fields of the backend's and the client's
/// head.
struct Asked {
    outcome: Outcome,
    target: String,
    backend: Vec<String>,
    client: Vec<String>,
}

fn lines(fields: &Fields) -> Vec<String> {
    fields.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect()
}

fn ask_with(http: &str, text: &str, target: &str, sent: &[(&str, &str)], status: u16) -> Asked {
    let data =
        [("http-snippet".to_owned(), http.to_owned()), ("location-snippet".to_owned(), text.to_owned())];
    let (global, notes) = GlobalSnippets::read(&data.into());
    let refused: Vec<_> = notes.iter().filter(|note| note.refused).map(|note| &note.reason).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let script = global.location.clone().unwrap_or_default();
    let request = fields(sent);
    let view = view(target, &request);
    let route = RouteFacts { service: "svc", now: Duration::from_secs(784_111_777), ..RouteFacts::default() };
    let stage =
        Stage { facts: Facts { view: &view, route }, maps: &global.maps, style: RedirectStyle::default() };
    let mut run = Run::new("id", Duration::ZERO);
    run.enter(0, &global.http);
    run.enter(2, [&script.settings]);
    let outcome = run.steps(&script, &stage);
    let mut backend = fields(sent);
    heads::to_backend(&run, &stage, &mut backend);
    let mut client = fields(&[("Server", "b"), ("Content-Type", "text/html; charset=utf-8"), ("X-Old", "1")]);
    heads::to_client(&run, &stage, status, &mut client);
    let target = run.target(&view).map_or_else(String::new, |target| String::from_utf8(target).unwrap());
    Asked { outcome, target, backend: lines(&backend), client: lines(&client) }
}

fn ask(text: &str, target: &str) -> Asked {
    ask_with("", text, target, &[("User-Agent", "curl/8"), ("Cookie", "a=1")], 200)
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Reply(LocalReply::Scripted { status, location: Some(location), .. }) => {
            format!("{} {location}", status.as_u16())
        }
        Outcome::Reply(LocalReply::Scripted { status, body: Some((kind, text)), .. }) => {
            format!("{} {kind} {}", status.as_u16(), String::from_utf8_lossy(text))
        }
        Outcome::Reply(reply) => reply.status().as_u16().to_string(),
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn check(text: &str, target: &str, outcome: &str, rewritten: &str) {
    let asked = ask(text, target);
    assert_eq!(
        (told(&asked.outcome).as_str(), asked.target.as_str()),
        (outcome, rewritten),
        "{text} {target}"
    );
}

#[test]
fn return_answers_with_a_status_a_text_or_a_place() {
    check("return 403;", "/", "403", "");
    check("return 200 \"hello $host\";", "/", "200 text/html hello host.test", "");
    check(
        "default_type text/plain; return 200 'User-agent: *\nDisallow: /';",
        "/",
        "200 text/plain User-agent: *\nDisallow: /",
        "",
    );
    check("return 301 https://new.test$request_uri;", "/a%20b?c=d", "301 https://new.test/a%20b?c=d", "");
    check("return 302 /login?to=$uri;", "/x", "302 http://host.test/login?to=/x", "");
    check("return https://x.test/;", "/", "302 https://x.test/", "");
    check("return $scheme://x.test/;", "/", "302 http://x.test/", "");
    check("return 204;", "/", "204 text/html ", "");
    check("return 200 x;", "/robots.TXT", "200 text/plain x", "");
    check("return 301 \"https://x/$arg_a\";", "/?a=b%0d", "301 https://x/b%0d", "");
}

#[test]
fn conditions_compare_and_match() {
    let holds = |condition: &str| {
        let text = format!("set $a abc; set $none ''; set $zero 0; if {condition} {{ return 418; }}");
        matches!(told(&ask(&text, "/p?q=1").outcome).as_str(), "418")
    };
    for condition in [
        "($a)",
        "( $a = abc )",
        "($a = \"abc\")",
        "($a != abd)",
        "($a ~ ^a.c$)",
        "($a ~* ^A)",
        "($a !~ ^A)",
        "($a !~* x)",
        "($http_user_agent ~ \"curl/(\\d)\")",
        "($request_method = GET)",
        "($args)",
        "($cookie_a = 1)",
        "($arg_q = 1)",
    ] {
        assert!(holds(condition), "{condition}");
    }
    for condition in ["($none)", "($zero)", "($a = ABC)", "($a ~ ^A)", "($http_absent)", "($a !~* ABC)"] {
        assert!(!holds(condition), "{condition}");
    }
}

#[test]
fn variables_groups_and_blocks_run_in_order() {
    check(
        "set $x 1; if ($uri ~ ^/(a|b)/(?<rest>.*)$) { set $x $1-$rest; } return 200 $x;",
        "/b/c/d",
        "200 text/html b-c/d",
        "",
    );
    check("set $x 1; if ($host = host.test) { set $x 2; break; } return 200 $x;", "/", "Break", "");
    check(
        "if ($host = other) { return 403; } set $y ok; return 200 $y$z; set $z late;",
        "/",
        "200 text/html ok",
        "",
    );
    check("set $args a=2; return 200 $args$arg_a;", "/?a=1", "200 text/html a=22", "/?a=2");
}

#[test]
fn rewrites_change_path_and_query_as_nginx_does() {
    check("rewrite ^/old/(.*)$ /new/$1 break;", "/old/x?a=1", "Break", "/new/x?a=1");
    check("rewrite ^/old/(.*)$ /new/$1 last;", "/old/x", "Again", "/new/x");
    check("rewrite ^/old/(.*)$ /new/$1;", "/old/x", "Rewritten", "/new/x");
    check("rewrite ^/old /new?b=2 break;", "/old?a=1", "Break", "/new?b=2&a=1");
    check("rewrite ^/old /new?b=2? break;", "/old?a=1", "Break", "/new?b=2");
    check("rewrite ^/old /new? break;", "/old?a=1", "Break", "/new");
    check("rewrite ^/none /new break;", "/old", "Done", "");
    check("rewrite ^/old/(.*) /n/$1 break;", "/old/a%20b%3Fc", "Break", "/n/a%20b%3Fc");
    check("rewrite ^ https://x.test$request_uri? permanent;", "/a?b=c", "301 https://x.test/a?b=c", "");
    check("rewrite ^/(.*)$ https://x.test/$1 redirect;", "/a%20b?c=d", "302 https://x.test/a%20b?c=d", "");
    check("rewrite ^/a(.*)$ /b$1 permanent;", "/ax", "301 http://host.test/bx", "");
    check("rewrite ^/(.*)$ http://x/?q=$1 last;", "/a&b%3D1?c", "302 http://x/?q=a%26b=1&c", "");
    check("rewrite ^/(.*)$ http://x/?q=$1 last;", "/a&b", "302 http://x/?q=a&b", "");
    check("rewrite ^/([^x]*)$ http://x/?q=$1 last;", "/a%0d%0aB:c", "302 http://x/?q=a%0D%0AB:c", "");
    check("rewrite ^ /../../etc break;", "/", "500", "");
    check("rewrite ^ etc break;", "/", "500", "");
    check("set $args x=1;", "/a%2Fb?y", "Done", "/a/b?x=1");
}

#[test]
fn a_request_ends_after_a_thousand_steps() {
    let many = format!("{}return 200 end;", "set $a \"\"; ".repeat(1200));
    assert_eq!(told(&ask(&many, "/").outcome), "500");
}

#[test]
fn fields_of_answers_are_set_added_and_cleared() {
    let client = |text: &str, status| ask_with("", text, "/", &[("X-Sent", "s")], status).client;
    let base = ["Server: b", "Content-Type: text/html; charset=utf-8", "X-Old: 1"];
    fn with<'s>(more: &[&'s str]) -> Vec<&'s str> {
        let base = ["Server: b", "Content-Type: text/html; charset=utf-8", "X-Old: 1"];
        [&base[..], more].concat()
    }
    assert_eq!(client("more_set_headers \"X-A: 1\" 'X-B: $http_x_sent';", 500), with(&["X-A: 1", "X-B: s"]));
    assert_eq!(client("more_set_headers 'X-Old: 2';", 200)[2], "X-Old: 2");
    assert_eq!(client("more_set_headers 'X-Old:';", 200), &base[..2]);
    assert_eq!(client("more_clear_headers Server 'X-*';", 200), &base[1..2]);
    assert_eq!(client("more_set_headers -s '404 500' 'X-A: 1';", 200), base);
    assert_eq!(client("more_set_headers -s 404 -t 'text/html' 'X-A: $status';", 404), with(&["X-A: 404"]));
    assert_eq!(client("more_set_headers -t text/css 'X-A: 1';", 200), base);
    assert_eq!(client("add_header X-A 1; add_header X-A 2;", 200), with(&["X-A: 1", "X-A: 2"]));
    assert_eq!(client("add_header X-A 1;", 404), base);
    assert_eq!(client("add_header X-A 1 always;", 404), with(&["X-A: 1"]));
    assert_eq!(client("add_header X-A $sent_http_x_old;", 200), with(&["X-A: 1"]));
    assert_eq!(client("add_header X-A \"$http_none\" always;", 200), base);
    let expires = ["Expires: Sun, 06 Nov 1994 09:49:37 GMT", "Cache-Control: max-age=3600"];
    assert_eq!(client("expires 1h;", 200), with(&expires));
    assert_eq!(client("expires 1h;", 404), base);
    assert_eq!(client("expires -1;", 200)[4], "Cache-Control: no-cache");
    assert_eq!(client("expires max;", 200)[3], "Expires: Thu, 31 Dec 2037 23:55:55 GMT");
}

#[test]
fn fields_of_the_last_true_if_count_over_those_around() {
    let client = |text: &str| ask(text, "/").client.split_off(3);
    let guarded = "add_header A 1; more_set_headers 'M: 1'; if ($host = host.test) { add_header B 2; more_set_headers 'N: 2'; }";
    assert_eq!(client(guarded), ["M: 1", "N: 2", "B: 2"]);
    assert_eq!(client("add_header A 1; if ($host) { set $x 1; }"), ["A: 1"]);
    assert_eq!(client("add_header A 1; if ($http_none) { add_header B 2; }"), ["A: 1"]);
    assert_eq!(client("if ($host) { add_header A 1; } if ($scheme) { add_header B 2; }"), ["B: 2"]);
}

#[test]
fn fields_of_requests_are_set_and_cleared_but_those_that_the_proxy_tells() {
    let sent = [("Accept-Encoding", "gzip"), ("X-Forwarded-For", "9.9.9.9"), ("X-A", "a"), ("X-B", "b")];
    let backend = |text: &str| ask_with("", text, "/", &sent, 200).backend;
    assert_eq!(backend("proxy_set_header Accept-Encoding \"\";")[0], "X-Forwarded-For: 9.9.9.9");
    assert_eq!(backend("proxy_set_header X-A $service_name;")[2], "X-A: svc");
    assert_eq!(backend("proxy_set_header X-Forwarded-For 1.1.1.1;")[1], "X-Forwarded-For: 1.1.1.1");
    assert_eq!(
        backend("more_set_input_headers 'X-Forwarded-For: 1.1.1.1' 'X-C: c';")[1..5],
        ["X-Forwarded-For: 9.9.9.9", "X-A: a", "X-B: b", "X-C: c"]
    );
    assert_eq!(backend("more_clear_input_headers X-A 'x-b';").len(), 2);
    assert_eq!(backend("more_set_input_headers -r 'X-C: c' 'X-A: new';")[2..], ["X-A: new", "X-B: b"]);
    assert_eq!(
        backend("proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;").len(),
        4
    );
}

#[test]
fn maps_look_up_texts_then_expressions_then_the_default() {
    let http = "map $http_user_agent $kind { default other; \"\" none; curl/8 Exact; ~*^CURL/(\\d) v$1; }
        map $kind $twice { exact yes; default no-$kind; }
        map $host $site { hostnames; default d; *.test wild; host.test own; .deep.test deep; }";
    let value = |text: &str, agent: &str| {
        let asked = ask_with(http, &format!("return 200 {text};"), "/", &[("User-Agent", agent)], 200);
        told(&asked.outcome).replace("200 text/html ", "")
    };
    assert_eq!(value("$kind", "CURL/8"), "Exact");
    assert_eq!(value("$kind", "curl/7"), "v7");
    assert_eq!(value("$kind", "wget"), "other");
    assert_eq!(value("$kind", ""), "none");
    assert_eq!(value("$twice-$kind", "curl/8"), "yes-Exact");
    assert_eq!(value("$twice", "wget"), "no-other");
    assert_eq!(value("$site", ""), "own");
}

#[test]
fn faults_tell_where_and_why() {
    for (text, expect) in [
        (
            "proxy_pass http://x;",
            "line 1, column 1: proxy_pass is not among the directives known here: backends are named by the paths of an Ingress",
        ),
        ("proxy_pass_request_body off;", "line 1, column 25: only on is known"),
        (
            "limit_except GET { auth_basic off; }",
            "line 1, column 20: auth_basic may not stand in limit_except: allow and deny may",
        ),
        ("proxy_http_version 2;", "line 1, column 20: must be 1.0 or 1.1"),
        ("proxy_redirect x;", "line 1, column 16: two words, off or default may stand here"),
        ("proxy_cookie_flags a sticky;", "line 1, column 20: sticky is no flag of a cookie"),
        ("proxy_ignore_headers X-Other;", "line 1, column 22: x-other is no field that can be ignored"),
        ("expires modified 1h;", "line 1, column 9: modified is not known: write one time, from now on"),
        ("add_header A;", "line 1, column 1: add_header has the wrong number of arguments"),
        ("set $a 1;\n  return $b;", "line 2, column 10: $b is no status from 200 to 599"),
        ("return 200 $nobody;", "line 1, column 12: the variable $nobody is not known"),
        (
            "more_set_headers 'Connection: x';",
            "line 1, column 18: Connection frames or routes the message and cannot be set",
        ),
        ("more_set_headers 'A b: x';", "line 1, column 18: \"A b\" is no name of a field"),
        ("if ($a ~ '(') { }", "line 1, column 5: the variable $a is not known"),
        ("if (-z $request_filename) { }", "line 1, column 5: a condition begins with a variable"),
        ("if ($host) { deny all; }", "line 1, column 14: deny may not stand in if in location"),
        ("if ($host);", "line 1, column 1: if needs a block"),
        ("return 200 { }", "line 1, column 1: return takes no block"),
        ("rewrite ( /x;", "line 1, column 9: \"(\" is no expression: a group is not closed"),
        (
            "rewrite ^ /x often;",
            "line 1, column 1: often is no flag: last, break, redirect and permanent are",
        ),
        ("set $host x;", "line 1, column 5: $host cannot be set"),
        ("deny 10.0.0.0/33;", "line 1, column 6: \"10.0.0.0/33\" is no address and no network"),
        ("location @x { }", "line 1, column 10: a named location stands in a server-snippet"),
        ("location x { }", "line 1, column 10: a location begins with a slash"),
        ("error_page 404;", "line 1, column 1: error_page has the wrong number of arguments"),
        ("error_page = /x;", "line 1, column 1: error_page has the wrong number of arguments"),
        ("error_page 200 /x;", "line 1, column 12: 200 is no status from 300 to 599"),
        ("error_page 404 =20 /x;", "line 1, column 16: 20 is no status from 200 to 599"),
        ("error_page 404 x;", "line 1, column 16: a URL, a path or the name of a location may stand here"),
        ("auth_request /x;", "line 1, column 14: only off is known; use the annotation auth-url"),
        (
            "expires soon;",
            "line 1, column 9: \"soon\" is no time: write seconds, or numbers with s, m, h, d, w, M or y",
        ),
    ] {
        assert_eq!(script(text, Context::Location).unwrap_err(), expect, "{text}");
    }
    let many = "break;".repeat(201);
    assert!(script(&many, Context::Location).unwrap_err().contains("more directives"));
}

#[test]
fn every_directive_that_counts_has_a_meaning() {
    for directive in directive::DIRECTIVES {
        if directive.effect != directive::Effect::Counts {
            continue;
        }
        let arguments = match directive.name {
            "if" => "($host) { }",
            "location" => "/x { }",
            "map" | "geo" | "split_clients" => continue,
            "set" | "auth_request_set" => "$mine value;",
            "return" => "403;",
            "allow" | "deny" | "set_real_ip_from" => "10.0.0.0/8;",
            "satisfy" => "any;",
            "auth_request" | "auth_basic" | "access_log" | "charset" | "gzip_proxied" => "off;",
            "override_charset" | "opentelemetry" => "off;",
            "gzip_comp_level" => "5;",
            "gzip_min_length" => "5;",
            "gzip_types" | "charset_types" => "text/css;",
            "default_type" => "text/plain;",
            "limit_req_status" | "limit_conn_status" => "429;",
            "rewrite" | "add_header" | "proxy_set_header" | "grpc_set_header" | "sub_filter" => "/a /b;",
            "break" | "internal" => ";",
            "error_page" => "403 404 =200 /x;",
            "proxy_method" => "GET;",
            "proxy_ssl_protocols" => "TLSv1.2;",
            "proxy_ssl_ciphers" | "grpc_ssl_ciphers" => "HIGH:!aNULL;",
            name if name.starts_with("more_") => "'A: b';",
            name if name.ends_with("_header") => "X-A;",
            name if name.ends_with("_timeout") => "5s;",
            name if name.ends_with("_size") => "8k;",
            name if name.ends_with("_types") => "text/css;",
            name if name.ends_with("_name") && !name.ends_with("server_name") => "$host;",
            "expires" => "1h;",
            "limit_except" => "GET { deny all; }",
            "limit_rate" | "limit_rate_after" => "8k;",
            "proxy_redirect" | "proxy_cookie_domain" | "proxy_cookie_path" => "a b;",
            "proxy_cookie_flags" => "~ secure;",
            "modsecurity" | "proxy_cache" => "off;",
            "proxy_http_version" => "1.1;",
            "proxy_buffers" => "4 8k;",
            "proxy_ignore_headers" | "grpc_ignore_headers" => "X-Accel-Buffering;",
            "proxy_next_upstream" | "grpc_next_upstream" => "error;",
            "grpc_ssl_protocols" => "TLSv1.2;",
            name if name.ends_with("_tries") => "2;",
            _ => "on;",
        };
        let text = format!("{} {}", directive.name, arguments)
            .replace("/a /b", if directive.name.ends_with("_header") { "X-A b" } else { "/a /b" });
        for context in [Context::Http, Context::Server, Context::Location, Context::Auth] {
            let may = directive.contexts.contains(&context);
            assert_eq!(
                script(&text, context).is_ok(),
                may,
                "{text} in {context:?}: {:?}",
                script(&text, context)
            );
        }
    }
}

#[test]
fn locations_are_chosen_as_nginx_chooses() {
    use script::Rival;
    let text = "location = /x { return 201; } location /x { return 202; } location ^~ /firm/ { return 203; }
        location ~ \\.php$ { return 204; } location ~* ^/x/.*\\.PHP$ { return 205; } location /firm { return 206; }";
    let script = script(text, Context::Server).unwrap();
    let chosen = |path: &str, rival| {
        let nested = script.location(path.as_bytes(), rival).unwrap();
        nested.map_or(0, |nested| match nested.script.steps.first() {
            Some(script::Step::Return(answer)) => answer.status.as_u16(),
            _ => 0,
        })
    };
    assert_eq!(chosen("/x", Rival::Prefix(1)), 201);
    assert_eq!(chosen("/x", Rival::Exact), 201);
    assert_eq!(chosen("/x/a", Rival::Exact), 0);
    assert_eq!(chosen("/x/a", Rival::Prefix(1)), 202);
    assert_eq!(chosen("/x/a", Rival::Prefix(3)), 0);
    assert_eq!(chosen("/x/a", Rival::Expression), 0);
    assert_eq!(chosen("/x/a.php", Rival::Expression), 204);
    assert_eq!(chosen("/x/a.PHP", Rival::Prefix(3)), 205);
    assert_eq!(chosen("/firm/a.php", Rival::Prefix(1)), 203);
    assert_eq!(chosen("/firma", Rival::Prefix(1)), 206);
    assert_eq!(chosen("/other", Rival::Nothing), 0);
}

fn codes(annotations: &[(&str, &str)], globals: &Globals) -> Vec<&'static str> {
    sample::diagnostics(annotations, |reader| read(reader, globals))
}

fn denied(annotations: &[(&str, &str)], globals: &Globals) -> Option<&'static str> {
    sample::denied(annotations, |reader| read(reader, globals))
}

#[test]
fn snippets_count_only_where_both_switches_are_on() {
    let text = [("configuration-snippet", "more_set_headers 'A: b';")];
    assert!(sample::read(&text, |reader| read(reader, &open())).location.is_some());
    let closed = Globals { allow_snippet_annotations: false, ..open() };
    assert_eq!(sample::read(&text, |reader| read(reader, &closed)), Snippets::default());
    assert_eq!(codes(&text, &closed), ["SnippetIgnored"]);
    // The gate refuses the Ingress; the snippet says nothing more.
    let low = Globals { annotations_risk_level: Risk::High, ..open() };
    assert_eq!(sample::read(&text, |reader| read(reader, &low)), Snippets::default());
    assert!(codes(&text, &low).is_empty());
    // What protects is never left out in silence.
    for guard in ["deny all;", "deny all; bogus;", "if ($http_k != s) { return 403; }"] {
        assert_eq!(denied(&[("server-snippet", guard)], &closed), Some("SnippetIgnored"), "{guard}");
    }
    for guard in [
        "if ($http_k != s) { return 302 https://x/; } bogus;",
        "if ($http_k != s) { rewrite ^ https://x/ redirect; } bogus;",
        "client_max_body_size 1k; bogus;",
        "more_clear_input_headers X-User; bogus;",
        "include /etc/nginx/deny.conf;",
    ] {
        assert_eq!(denied(&[("configuration-snippet", guard)], &open()), Some("SnippetRefused"), "{guard}");
    }
}

#[test]
fn a_snippet_that_cannot_be_honoured_shuts_the_routes_only_when_it_protects() {
    let open = open();
    for (text, shut) in [
        ("add_header A b; bogus on;", false),
        ("bogus { }", false),
        ("return 301 /x; bogus;", false),
        ("deny all; bogus;", true),
        ("auth_basic x;", true),
        ("location /x { deny all; proxy_pass http://y; }", true),
        ("if ($host) { return 403; } bogus;", true),
        ("return 404", false),
        ("deny all", false),
        ("deny \"all", true),
        ("limit_req zone=a;", true),
        ("more_set_headers \"A: b", false),
        ("deny all;\r", true),
    ] {
        for name in ["configuration-snippet", "server-snippet"] {
            let code = denied(&[(name, text)], &open);
            assert_eq!(code.is_some(), shut, "{name} {text}");
            assert!(!shut || code == Some("SnippetRefused"));
        }
    }
    assert_eq!(codes(&[("configuration-snippet", "bogus;")], &open), ["SnippetRefused"]);
    assert_eq!(codes(&[("configuration-snippet", "proxy_cache zone;")], &open), ["NoEffect"]);
    assert_eq!(codes(&[("stream-snippet", "server { }")], &open), ["SnippetRefused"]);
    let port = ("stream-snippet", "server { listen 5432; proxy_pass db.prod.svc:5432; tcp_nodelay on; }");
    assert_eq!(codes(&[port], &open), ["NoEffect"]);
    assert!(codes(&[("configuration-snippet", "# only words")], &open).is_empty());
}

#[test]
fn what_users_copy_from_each_other_is_taken() {
    let open = open();
    for (text, expect) in [
        ("proxy_set_header Connection $connection_upgrade;", &["NoEffect"][..]),
        ("proxy_set_header X-Way $connection_upgrade;", &[]),
        ("if ($request_method = OPTIONS) { add_header 'Content-Length' 0; return 204; }", &["NoEffect"]),
        ("if (-f $request_filename) { break; }", &[]),
        ("if (!-e $uri) { rewrite ^(.*)$ /index.php?s=$1 last; }", &[]),
        ("gzip on; gzip_types text/css application/json; gzip_min_length 1000; gzip_vary on;", &[]),
        ("gzip_comp_level 10;", &["SnippetRefused"]),
        ("charset utf-8;", &[]),
        ("charset $x;", &["SnippetRefused"]),
        ("absolute_redirect off;", &[]),
        ("auth_basic off;", &["NoEffect"]),
        ("auth_basic \"who\";", &["SnippetRefused"]),
        ("opentelemetry off;", &[]),
        ("proxy_pass_request_body on;", &[]),
        ("proxy_pass_request_body off;", &["SnippetRefused"]),
        ("proxy_cache zone; proxy_cache_valid 200 1h;", &["NoEffect", "NoEffect"]),
        ("http2_max_field_size 16k; ssl_session_timeout 1d;", &["NoEffect", "NoEffect"]),
        ("geo $a { default 1; }", &["SnippetRefused"]),
        ("access_by_lua_block { if x then ngx.exit(403) end }", &["SnippetRefused"]),
    ] {
        assert_eq!(codes(&[("configuration-snippet", text)], &open), expect, "{text}");
    }
}

#[test]
fn other_languages_are_not_read() {
    let fault = lex::parse("set $a 1; content_by_lua_block { ngx.say('x', { 1 }) }", 1000).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "line 1, column 32: content_by_lua_block is not among the directives known here: there is no Lua"
    );
}

#[test]
fn tables_of_networks_and_shares_are_variables() {
    let text = "geo $inside { default 0; 10.0.0.0/8 1; } geo $http_x $their { 1.1.1.1 one; }
                split_clients $host $share { 50% a; * b; } log_format x '$inside'; limit_req_zone $host zone=a:1m rate=1r/s;";
    let (found, notes) = GlobalSnippets::read(&[("http-snippet".to_owned(), text.to_owned())].into());
    assert!(found.refused.is_none() && notes.iter().all(|note| !note.refused), "{}", notes.len());
    for (name, text, expect) in [
        ("inside", "10.1.1.1", "1"),
        ("inside", "11.1.1.1", "0"),
        ("their", "1.1.1.1", "one"),
        ("their", "x", ""),
        ("share", "user1", "a"),
    ] {
        let map = found.maps.find(name).unwrap();
        assert_eq!(map.look(text.as_bytes()).unwrap().0.constant(), Some(expect), "{name} {text}");
    }
    for text in ["geo $host { }", "geo { }", "geo $a;", "split_clients $a { * x; }", "geo $a $b $c { }"] {
        let (found, notes) = GlobalSnippets::read(&[("http-snippet".to_owned(), text.to_owned())].into());
        assert!(found.maps.is_empty() && notes[0].refused, "{text}");
    }
}

#[test]
fn a_snippet_says_who_may_tell_the_client() {
    let told = |text: &str, globals: &Globals, lines: &[(&str, &str)]| {
        let request = fields(lines);
        let view = from("10.0.0.9", &request, globals);
        let mut run = Run::default();
        run.enter(2, [&script(text, Context::Location).unwrap().settings]);
        let told = run.relayed(&view, globals, true)?;
        assert_eq!(told.forwarded.chain, told.forwarded.client.to_string());
        Some(told.forwarded.client.to_string())
    };
    let plain = Globals::default();
    let cloud = "set_real_ip_from 10.0.0.0/8; real_ip_header CF-Connecting-IP;";
    assert_eq!(told(cloud, &plain, &[("CF-Connecting-IP", "1.2.3.4")]).as_deref(), Some("1.2.3.4"));
    assert_eq!(told(cloud, &plain, &[("X-Real-IP", "1.2.3.4")]), None);
    assert_eq!(told(cloud, &plain, &[("CF-Connecting-IP", "nobody")]), None);
    let other = "set_real_ip_from 11.0.0.0/8; real_ip_header CF-Connecting-IP;";
    assert_eq!(told(other, &plain, &[("CF-Connecting-IP", "1.2.3.4")]), None);
    assert_eq!(told("real_ip_header X-A;", &plain, &[("X-A", "1.2.3.4")]), None);
    let own = "set_real_ip_from 10.0.0.9;";
    assert_eq!(told(own, &plain, &[("X-Real-IP", "2001:db8::1")]).as_deref(), Some("2001:db8::1"));
    let list = &[("X-Forwarded-For", "1.1.1.1, 2.2.2.2, 10.1.1.1")];
    let chain = "set_real_ip_from 10.0.0.0/8; real_ip_header X-Forwarded-For;";
    assert_eq!(told(chain, &plain, list).as_deref(), Some("10.1.1.1"));
    let deep = format!("{chain} real_ip_recursive on;");
    assert_eq!(told(&deep, &plain, list).as_deref(), Some("2.2.2.2"));
    let templated = Globals { enable_real_ip: true, ..Globals::default() };
    assert_eq!(told("real_ip_header X-A;", &templated, &[("X-A", "1.2.3.4")]).as_deref(), Some("1.2.3.4"));
    assert!(script("set_real_ip_from all;", Context::Location).is_err());
    assert!(script("set_real_ip_from unix:;", Context::Location).is_err());
}

/// A request of a peer, with the client as the ConfigMap has it told.
fn from<'r>(peer: &str, request: &'r Fields, globals: &Globals) -> crate::request::RequestView<'r> {
    let peer = std::net::SocketAddr::new(peer.parse().unwrap(), 1000);
    let scheme = crate::request::Scheme::Http;
    let connection = crate::policy::forwarded::Connection { peer, listen_port: 80, scheme, proxy: None };
    let mut view = view("/", request);
    view.forwarded = crate::policy::forwarded::resolve(request, &connection, &view.host, globals);
    view
}

#[test]
fn networks_of_a_server_narrow_those_of_the_config_map() {
    let globals = Globals { use_forwarded_headers: true, ..Globals::default() };
    let client = |texts: [&str; 3], peer: &str, lines: &[(&str, &str)], inside: bool| {
        let request = fields(lines);
        let view = from(peer, &request, &globals);
        let mut run = Run::default();
        for (depth, text) in texts.into_iter().enumerate() {
            run.enter(depth, [&script(text, Context::Location).unwrap().settings]);
        }
        let told = run.relayed(&view, &globals, inside);
        told.as_deref().unwrap_or(&view).forwarded.client.to_string()
    };
    let list = &[("X-Forwarded-For", "192.0.2.7")];
    let narrow = "set_real_ip_from 10.0.0.0/8;";
    for (texts, peer, lines, expect) in [
        (["", "", ""], "127.0.0.1", &list[..], "192.0.2.7"),
        (["", narrow, ""], "127.0.0.1", list, "127.0.0.1"),
        (["", narrow, ""], "10.0.0.1", list, "192.0.2.7"),
        (["", narrow, narrow], "127.0.0.1", list, "127.0.0.1"),
        // What the server did not let tell, the location may.
        (["", narrow, "set_real_ip_from 127.0.0.1;"], "127.0.0.1", list, "192.0.2.7"),
        // nginx has the address told once, so a location comes too late to narrow what the ConfigMap let tell.
        (["", "", narrow], "127.0.0.1", list, "192.0.2.7"),
        // The networks of http stand beside the template's.
        ([narrow, "", ""], "127.0.0.1", list, "192.0.2.7"),
        ([narrow, "set_real_ip_from 11.0.0.0/8;", ""], "10.0.0.1", list, "10.0.0.1"),
        // Without the field that it names, the one of the ConfigMap tells nothing either.
        (["", "real_ip_header X-A;", ""], "127.0.0.1", list, "127.0.0.1"),
        (
            ["", "real_ip_recursive off;", ""],
            "127.0.0.1",
            &[("X-Forwarded-For", "1.1.1.1, junk")],
            "127.0.0.1",
        ),
    ] {
        assert_eq!(client(texts, peer, lines, true), expect, "{texts:?} {peer} {lines:?}");
    }
    let late = ["", narrow, "set_real_ip_from 127.0.0.1;"];
    assert_eq!(client(late, "127.0.0.1", list, false), "127.0.0.1", "before the access phase");
}

#[test]
fn internal_lets_through_what_a_rewrite_led_to() {
    let led = |text: &str, target: &str| {
        let script = script(text, Context::Location).unwrap();
        let request = fields(&[]);
        let view = view(target, &request);
        let maps = maps::Maps::default();
        let facts = Facts { view: &view, route: RouteFacts::default() };
        let mut run = Run::default();
        run.steps(&script, &Stage { facts, maps: &maps, style: RedirectStyle::default() });
        run.is_led()
    };
    assert!(led("rewrite ^/a /b last;", "/a"));
    assert!(led("rewrite ^/a /b; return 200;", "/a"));
    assert!(!led("rewrite ^/a /b last;", "/c"));
    assert!(!led("rewrite ^/a /b redirect;", "/a"));
    assert!(!led("set $a 1;", "/a"));
    // nginx takes it in a location only; where it would guard nothing the routes are shut.
    for key in ["server-snippet", "http-snippet"] {
        let read = GlobalSnippets::read(&[(key.to_owned(), "internal;".to_owned())].into());
        assert_eq!(read.0.refused, Some("SnippetRefused"), "{key}");
    }
    assert_eq!(denied(&[("server-snippet", "internal;")], &open()), Some("SnippetRefused"));
}

#[test]
fn a_named_location_leads_nowhere_else() {
    let reads = |text: &str| script(&format!("location @a {{ {text} }}"), Context::Server);
    for text in ["rewrite ^ /b last;", "rewrite ^ /b;", "if ($host) { rewrite ^ /b last; } return 200;"] {
        assert!(reads(text).unwrap_err().contains("a named location answers by itself"), "{text}");
    }
    for text in [
        "return 200;",
        "rewrite ^ /b break;",
        "rewrite ^ /b; return 200 $uri;",
        "rewrite ^ /b redirect;",
        "if ($host) { rewrite ^ /b; } break;",
    ] {
        assert!(reads(text).is_ok(), "{text}");
    }
    assert!(script("location /a { rewrite ^ /b last; }", Context::Server).is_ok());
}

#[test]
fn gzip_of_a_snippet_stands_over_the_config_map() {
    use crate::policy::compression::Compression;
    let said = |text: &str, globals: &Compression| {
        let mut run = Run::default();
        run.enter(2, [&script(text, Context::Location).unwrap().settings]);
        run.compression(globals)
    };
    let off = Compression::default();
    let on = Compression { gzip_on: true, brotli_on: true, ..Compression::default() };
    assert_eq!(said("", &on), None);
    let found = said("gzip on; gzip_types text/CSS;", &off).unwrap();
    assert!(found.gzip_on && !found.brotli_on && !found.gzip_vary && !found.gzip_proxied);
    assert_eq!((found.gzip.min_length, found.gzip.types.to_vec()), (20, vec!["text/css".into()]));
    let found = said("gzip_min_length 1k;", &on).unwrap();
    assert!(found.gzip_on && found.brotli_on && found.gzip_vary && found.gzip_proxied);
    assert_eq!((found.gzip.min_length, &found.gzip.types), (1024, &on.gzip.types));
    assert!(!said("gzip off;", &on).unwrap().is_on());
    assert!(!said("gzip_types text/css;", &off).unwrap().is_on());
}

#[test]
fn snippets_of_an_ingress_share_their_names() {
    let annotations = [("server-snippet", "set $mine 1;"), ("configuration-snippet", "add_header A $mine;")];
    assert!(codes(&annotations, &open()).is_empty());
    assert_eq!(codes(&annotations[1..], &open()), ["SnippetRefused"]);
    let data = [("http-snippet".to_owned(), "map $host $mine { default 1; }".to_owned())].into();
    let (snippets, _) = GlobalSnippets::read(&data);
    let globals = Globals { snippets: Arc::new(snippets), ..open() };
    assert!(codes(&annotations[1..], &globals).is_empty());
}

#[test]
fn snippets_of_the_config_map_fail_alone_unless_they_protect() {
    let read = |key: &str, text: &str| GlobalSnippets::read(&[(key.to_owned(), text.to_owned())].into());
    let (found, notes) = read("server-snippet", "more_set_headers 'A: b';");
    assert!(found.server.is_some() && notes.is_empty() && found.refused.is_none());
    let (found, notes) = read("http-snippet", "bogus x y; map $host $a { default 1; }");
    assert!(found.maps.is_empty() && found.refused.is_none());
    assert_eq!(notes.len(), 1);
    assert!(notes[0].refused && notes[0].reason.contains("line 1, column 1"), "{}", notes[0].reason);
    assert_eq!(read("server-snippet", "deny 1.2.3.4; bogus;").0.refused, Some("SnippetRefused"));
    assert!(read("http-snippet", "map $host $a { include x; }").1[0].reason.contains("include"));
    assert!(read("http-snippet", "map $host $a { x 1; X 2; }").1[0].reason.contains("twice"));
}

#[test]
fn addresses_are_judged_by_the_innermost_level_that_has_rules() {
    use crate::policy::ip_access::IpAccess;
    use crate::policy::satisfy::Verdict;
    let settings = |text: &str| script(text, Context::Server).unwrap().settings;
    let verdict = |server: &str, location: &str, lists: Option<(&str, &str)>, client: &str| {
        let nets = |text: &str| text.split(' ').filter_map(|net| net.parse().ok()).collect();
        let lists = lists.map(|(deny, allow)| IpAccess { deny: nets(deny), allow: nets(allow) });
        let mut run = Run::default();
        run.enter(1, [&settings(server)]);
        run.enter(2, [&settings(location)]);
        match run.access(lists.as_ref(), client.parse().unwrap(), &http::Method::GET) {
            Verdict::Admit => "admit",
            Verdict::Refuse(_) => "refuse",
            Verdict::Abstain => "abstain",
        }
    };
    let own = "allow 10.0.0.0/8; deny all;";
    assert_eq!(verdict("", own, None, "10.1.1.1"), "admit");
    assert_eq!(verdict("", own, None, "11.1.1.1"), "refuse");
    assert_eq!(verdict(own, "", None, "11.1.1.1"), "refuse");
    assert_eq!(verdict(own, "allow all;", None, "11.1.1.1"), "admit");
    assert_eq!(verdict("", "", None, "11.1.1.1"), "abstain");
    // The lists of annotations stand before; with lists of its own a location inherits no rules.
    assert_eq!(verdict("", own, Some(("10.0.0.0/8", "")), "10.1.1.1"), "refuse");
    assert_eq!(verdict("", own, Some(("1.0.0.0/8", "")), "11.1.1.1"), "refuse");
    assert_eq!(verdict("", own, Some(("", "11.0.0.0/8")), "11.1.1.1"), "admit");
    assert_eq!(verdict(own, "", Some(("1.0.0.0/8", "")), "11.1.1.1"), "abstain");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_interpreter_panic(
        text in "([a-z_$(){};\"' \\\\\n/^~=*0-9]{0,60}|(set \\$a \\$1;|if \\(\\$host ~ (a|\\(b\\))\\) \\{ |\\}|rewrite \\^(/.*) /\\$1\\?\\$args (last|break);|return 2[0-9]{2} \\$a;|map |more_set_headers 'A: \\$a';|location (~ )?/[a-z] \\{ ){0,8})",
        target in "/[a-z%2F?&=+]{0,20}",
    ) {
        for context in [Context::Http, Context::Server, Context::Location, Context::Auth] {
            let Ok(script) = script(&text, context) else { continue };
            let request = fields(&[]);
            if crate::request::normalize(target.as_bytes()).is_err() {
                continue;
            }
            let view = view(&target, &request);
            let maps = maps::Maps::default();
            let facts = Facts { view: &view, route: RouteFacts::default() };
            let stage = Stage { facts, maps: &maps, style: RedirectStyle::default() };
            let mut run = Run::default();
            run.enter(2, [&script.settings]);
            let _outcome = run.steps(&script, &stage);
            let mut client = fields(&[]);
            heads::to_client(&run, &stage, 200, &mut client);
            heads::to_backend(&run, &stage, &mut client);
        }
    }
}
