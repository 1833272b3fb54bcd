#!/usr/bin/env python3
"""The same snippets to a real nginx and to `narthex standalone`, answer by answer.

Each case gives text to a server and to its location, as ingress-nginx renders `server-snippet` and
`configuration-snippet`. Both proxies stand before one backend of ours that tells what it saw. Compared are status, all
fields of the answer that are not the proxy's own business, the body, and target, method and fields at the backend.
nginx needs the headers-more module. Exit status: 0 all the same, 1 something differs, 2 a proxy did not start,
77 there is no nginx or no such module.
"""

import argparse
import gzip
import http.client
import os
import sys
import time

from pair import MAIN, OWN_FOLDER, PATIENCE, Listener, missing, narthex, nginx, objects, read_head, side_by_side, user

MODULE = "ngx_http_headers_more_filter_module.so"

# What `http-snippet` holds, for all cases.
HTTP = """
map $http_user_agent $kind { default other; "" none; curl/8 Exact; ~*^bot/(\\d+) bot$1; }
map $kind $twice { exact yes; default no-$kind; }
map $host $site { hostnames; default d; *.deep.test wild; maps.test own; }
map $remote_addr $network { ~(?P<net>\d+\.\d+\.\d+)\. $net.0; default 0.0.0.0; }
map $status $class { ~^2 good; ~^3 moved; default bad-$status; }
map $upstream_status $asked { "" nobody; default somebody-$upstream_status; }
map $request_uri $masked { ~^([^?]*)\?token= $1?hidden; default $request_uri; }
map $arg_v $lasting { default l-$uri; }
map $arg_v $passing { volatile; default p-$uri; }
map $sent_http_x_other $other { default "other:$sent_http_x_other"; }
map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
geo $arg_ip $area { default far; 10.0.0.0/8 ten; 10.1.0.0/16 "ten one"; 10.1.2.3 host; 10.9.0.0/16 gone; delete 10.9.0.0/16; 2001:db8::/32 six; }
geo $arg_ip $range { ranges; default out; 1.1.1.0-1.1.1.255 in; 1.1.1.5-1.1.1.6 deep; }
geo $here { default 0; 127.0.0.0/8 1; }
split_clients $arg_u $share { 10% a; 20.5% b; 0.01% tiny; * rest; }
"""
# The line of the access log, whose variables are those of snippets.
LOG = "$network|$class|$asked|$masked|$kind|$twice|$lasting|$passing|$other|$x|$r|$e|$user|$uri|$args|$arg_a|$status"

# name: location text, server text, requests. A request: (method, target, fields).
GET = "GET"
PAGE = "a page, and a page, and a page, and a page"
CASES = {
    "tables": (
        "add_header X-Area $area; add_header X-Range $range; add_header X-Here $here; add_header X-Share $share;",
        "",
        [
            (GET, "/?ip=" + ip, {})
            for ip in ("", "10.0.0.1", "10.1.9.9", "10.1.2.3", "10.9.0.1", "11.0.0.1", "2001:db8::5", "::1", "x",
                       "1.1.1.4", "1.1.1.5", "1.1.1.6", "1.1.2.0")
        ] + [(GET, "/?u=%s%d" % (start, number), {}) for start in ("user", "127.0.0.", "") for number in range(20)],
    ),
    "charset": (
        "charset windows-1252;",
        "",
        [(GET, "/", {"X-Type": kind}) for kind in ("text/html", "text/plain", "text/css", "text/html; charset=latin1",
                                                   "application/json", "application/javascript", "text/html;x=y")]
        + [(GET, "/", {"X-Type": "text/html", "X-Status": "404"}), ("HEAD", "/", {"X-Type": "text/html"})],
    ),
    "charset-types": (
        "charset koi8-r; charset_types application/json; if ($arg_t) { return 200 text; }",
        "",
        [(GET, "/", {"X-Type": kind}) for kind in ("text/html", "text/plain", "application/json")] + [(GET, "/?t=1", {})],
    ),
    "gzip": (
        "gzip on; gzip_types application/json text/css; gzip_min_length 30;",
        "",
        [
            (GET, "/", dict(fields, **{"X-Page": PAGE, "X-Type": kind}))
            for kind in ("text/html", "application/json", "text/plain")
            for fields in ({}, {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "gzip", "Via": "1.1 x"},
                           {"Accept-Encoding": "gzip", "X-Status": "404"}, {"Accept-Encoding": "gzip", "X-Status": "500"})
        ] + [(GET, "/", {"Accept-Encoding": "gzip", "X-Page": "short", "X-Type": "text/html"})],
    ),
    "gzip-vary": (
        "gzip on; gzip_vary on; gzip_proxied any; gzip_comp_level 9; if ($arg_off) { gzip off; }",
        "",
        [
            (GET, target, dict(fields, **{"X-Page": PAGE, "X-Type": "text/html"}))
            for target in ("/", "/?off=1")
            for fields in ({}, {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "gzip", "Via": "1.1 x"})
        ],
    ),
    "error-pages": (
        "error_page 403 https://else.test/?from=$uri; error_page 404 410 /page.html?q=1; error_page 405 =200 /own;"
        " error_page 418 = @tea; error_page 409 = /own; error_page 411 =301 https://else.test/x; error_page 412 /inside;"
        " if ($http_x_in = 403) { return 403; } if ($http_x_in = 404) { return 404; } if ($http_x_in = 405) { return 405; }"
        " if ($http_x_in = 418) { return 418; } if ($http_x_in = 409) { return 409; } if ($http_x_in = 411) { return 411; }"
        " if ($http_x_in = 500) { return 500; } if ($http_x_in = 410) { return 410 text; } if ($http_x_in = 412) { return 412; }",
        "location = /own { return 200 'own $uri $args'; } location @tea { return 203 'tea $uri $args'; }"
        " location = /inside { internal; return 200 inside; }",
        [(GET, "/a%20b", {"X-In": str(code)}) for code in (403, 404, 405, 418, 409, 410, 411, 412, 500, 1)]
        + [("POST", "/", {"X-In": "404"}), ("HEAD", "/", {"X-In": "404"}), (GET, "/", {"X-Status": "404"}), (GET, "/inside", {})],
    ),
    "error-pages-of-backends": (
        "proxy_intercept_errors on; error_page 404 = /found; error_page 502 503 =200 /found; error_page 401 @sign;",
        "location @sign { return 302 https://sign.test/; }",
        [(GET, "/x", {"X-Status": status}) for status in ("404", "503", "401", "500", "200")],
    ),
    "files": (
        "set $r ''; if (-f $request_uri) { set $r f; } if (!-e $uri) { set $r \"${r}e\"; }"
        " if (!-f $request_filename) { set $r \"${r}F\"; } add_header X-R $r;",
        "",
        [(GET, "/nothing-here", {})],
    ),
    "upgrades": (
        "add_header X-Way \"[$connection_upgrade]\"; if ($request_method = OPTIONS) { add_header X-Pre yes; return 204; }",
        "",
        [(GET, "/", {}), ("OPTIONS", "/", {})],
    ),
    "relative": (
        "absolute_redirect off; rewrite ^/old/(.*)$ /new/$1 permanent; if ($arg_c) { return 302 /else; }",
        "",
        [(GET, "/old/a?b=1", {}), (GET, "/?c=1", {})],
    ),
    "real-ip": (
        "set_real_ip_from 127.0.0.0/8; real_ip_header X-Client; allow 9.9.9.0/24; deny all; add_header X-Addr $remote_addr;",
        "",
        [(GET, "/", {"X-Client": told}) for told in ("9.9.9.1", "8.8.8.8", "8.8.8.8, 9.9.9.2", "9.9.9.2, 8.8.8.8", "junk")]
        + [(GET, "/", {})],
    ),
    "real-ip-recursive": (
        "real_ip_recursive on; add_header X-Addr $remote_addr always;",
        "set_real_ip_from 127.0.0.0/8; set_real_ip_from 10.0.0.0/8; real_ip_header X-Forwarded-For;",
        [(GET, "/", {"X-Forwarded-For": told}) for told in ("1.1.1.1", "1.1.1.1, 10.0.0.1", "10.0.0.1, 10.0.0.2", "junk, 10.0.0.1")],
    ),
    "return-codes": (
        "if ($arg_c = 403) { return 403; } if ($arg_c = 204) { return 204; } if ($arg_c = 200) { return 200; }"
        " if ($arg_c = 410) { return 410 gone; } if ($arg_c = 301) { return 301 https://x.test$request_uri; }"
        " if ($arg_c = 302) { return 302 /login?to=$uri; } if ($arg_c = 303) { return 303 //x/y; }"
        " if ($arg_c = 307) { return https://y.test/; } if ($arg_c = 503) { return 503 'so sorry, $arg_c'; }",
        "",
        [(GET, "/a%20b?c={}".format(code), {}) for code in (403, 204, 200, 410, 301, 302, 303, 307, 503, 1)]
        + [("HEAD", "/?c=410", {}), ("POST", "/?c=200", {})],
    ),
    "return-text": (
        'default_type text/plain; return 200 "User-agent: *\\nDisallow: /\\n";',
        "",
        [(GET, "/robots.txt", {}), (GET, "/robots", {}), (GET, "/a.json", {})],
    ),
    "conditions": (
        "set $a abc; set $no ''; set $zero 0; set $r ''; if ($a) { set $r \"${r}1\"; } if ($no) { set $r \"${r}2\"; }"
        " if ($zero) { set $r \"${r}3\"; } if ($a = abc) { set $r \"${r}4\"; } if ( $a != abc ) { set $r \"${r}5\"; }"
        " if ($a ~ ^A) { set $r \"${r}6\"; } if ($a ~* ^A(.)) { set $r \"${r}7$1\"; } if ($a !~ z) { set $r \"${r}8\"; }"
        " if ($http_x_in ~ \"(?<who>[a-z]+)\") { set $r \"${r}9$who\"; } add_header X-R $r;",
        "",
        [(GET, "/", {}), (GET, "/", {"X-In": "42abc"}), (GET, "/", {"X-In": "42"})],
    ),
    "if-is-evil": (
        "add_header A 1; more_set_headers 'M: 1'; if ($arg_x) { add_header B 2; more_set_headers 'N: 2'; }"
        " if ($arg_y) { add_header C 3; }",
        "add_header S server; more_set_headers 'T: server';",
        [(GET, "/?x=1", {}), (GET, "/?y=1", {}), (GET, "/?x=1&y=1", {}), (GET, "/", {})],
    ),
    "inheritance": ("proxy_hide_header X-Other;", "add_header S server; more_set_headers 'T: server';", [(GET, "/", {})]),
    "break": (
        "set $x 1; if ($arg_b) { set $x 2; break; } set $x 3; add_header X $x;",
        "",
        [(GET, "/?b=1", {}), (GET, "/", {})],
    ),
    "rewrite-break": (
        "rewrite ^/old/(.*)$ /new/$1 break; rewrite ^/drop /kept? break; rewrite ^/args/(\\w+) /p?id=$1 break;"
        " rewrite ^/both/(\\w+) /p?id=$1? break;",
        "",
        [
            (GET, target, {})
            for target in (
                "/old/x?a=1",
                "/old/a%20b",
                "/old/a%3Fb",
                "/old/%E4%BD%A0",
                "/drop?x=1",
                "/args/7?y=2",
                "/args/7",
                "/both/7?y=2",
                "/none/a%2Fb?q",
            )
        ],
    ),
    "rewrite-redirect": (
        "rewrite ^/a/(.*)$ /b/$1 permanent; rewrite ^/c/(.*)$ https://x.test/$1 redirect; rewrite ^/d/(.*)$"
        " http://y.test/?q=$1; rewrite ^/e https://z.test$request_uri? permanent; rewrite ^/f/(.*) $scheme://w.test/$1;",
        "",
        [
            (GET, target, {})
            for target in ("/a/x?y=1", "/a/x%20y", "/c/x?y", "/c/a%2Bb%26c", "/d/1&2", "/d/1%262?z", "/e/x?y=1", "/f/x")
        ]
        # Every byte as the client may encode it, and those that it may send as they are.
        + [(GET, "/c/a%%%02Xb" % byte, {}) for byte in range(1, 128)]
        + [(GET, "/c/a%sb" % chr(byte), {}) for byte in range(0x21, 0x7f) if chr(byte) not in "#%?\\"]
        + [(GET, "/c/%E4%B8%AD%C3%A9", {})],
    ),
    "rewrite-last": (
        "rewrite ^/one$ /two last; rewrite ^/two$ /three last; rewrite ^/loop$ /loop last; add_header X $uri;",
        "location = /three { return 200 three; }",
        [(GET, "/one", {}), (GET, "/loop", {}), (GET, "/two?x=1", {})],
    ),
    "rewrite-server": (
        "add_header X-Uri $uri;",
        "rewrite ^/api/(.*)$ /$1; rewrite ^/moved(.*)$ https://n.test$1 permanent; if ($http_x_block) { return 403; }",
        [(GET, "/api/x?y=1", {}), (GET, "/moved/a", {}), (GET, "/x", {"X-Block": "1"}), (GET, "/x", {})],
    ),
    "set-args": ("set $args \"a=2&$args\"; add_header X $arg_a;", "", [(GET, "/p%2Fq?a=1", {}), (GET, "/p", {})]),
    "locations": (
        "",
        "location = /exact { return 200 exact; } location /start { return 200 start; } location ^~ /firm/ { return 200 firm; }"
        " location ~ \\.php$ { return 404; } location ~* \\.(JPG|png)$ { return 200 image; } location /deny { deny all; }"
        " location /allow { allow 127.0.0.0/8; deny all; return 200 x; } location /empty { allow all; }",
        [
            (GET, path, {})
            for path in (
                "/exact",
                "/exact/x",
                "/start",
                "/starter",
                "/firm/a.php",
                "/x/a.php",
                "/x/a.jpg",
                "/x/a.PNG",
                "/deny",
                "/denying/x",
                "/allow",
                "/other",
                "/%65xact",
                "//exact",
            )
        ],
    ),
    "access-deny": ("deny all;", "", [(GET, "/", {})]),
    "access-order": ("deny 10.0.0.0/8; allow 127.0.0.1; deny all;", "", [(GET, "/", {})]),
    "access-inherited": ("", "deny 127.0.0.0/8; add_header X y always;", [(GET, "/", {})]),
    "access-after-return": ("deny all; if ($arg_x) { return 200 ok; }", "", [(GET, "/?x=1", {}), (GET, "/", {})]),
    "add-header": (
        'add_header X-A 1; add_header X-A 2; add_header X-B "a; b" always; add_header X-C $http_none; add_header X-D'
        " $upstream_http_x_other; add_header Cache-Control no-store;",
        "",
        [(GET, "/", {"X-Status": status}) for status in ("200", "201", "204", "206", "301", "304", "308", "400", "404", "500")],
    ),
    "more-set": (
        "more_set_headers 'X-A: 1' \"X-Other: $status\"; more_set_headers -s '404 500' 'X-Bad: yes';"
        " more_set_headers -t 'text/css text/plain' 'X-Type: t'; more_clear_headers X-Gone 'X-Wild-*';"
        " more_set_headers 'X-Empty:'; more_set_headers 'Content-Type: application/x-mine';",
        "",
        [(GET, "/", {"X-Status": status}) for status in ("200", "404", "500")]
        + [(GET, "/", {"X-Type": "text/css"})],
    ),
    "input-headers": (
        "more_set_input_headers 'X-In: set' 'X-New: $http_x_old'; more_set_input_headers -r 'X-Only: r';"
        " more_clear_input_headers X-Gone; proxy_set_header X-Set $host$uri; proxy_set_header Accept-Encoding '';"
        " proxy_set_header X-None $http_none;",
        "proxy_set_header X-Never server;",
        [
            (GET, "/p%20q", {"X-In": "in", "X-Old": "old", "X-Gone": "g", "Accept-Encoding": "gzip", "X-None": "n"}),
            (GET, "/", {"X-Only": "mine"}),
        ],
    ),
    "hide": ("proxy_hide_header X-Other; proxy_pass_header Server;", "", [(GET, "/", {})]),
    "expires": (
        "set $e off; if ($arg_e) { set $e $arg_e; } expires $e;",
        "",
        [(GET, "/?e=%s" % value, {}) for value in ("epoch", "max", "-1", "0", "1h", "off", "junk")],
    ),
    "expires-on-bad": ("expires 1h; add_header X y;", "", [(GET, "/", {"X-Status": "404"}), (GET, "/", {})]),
    "sub-filter": (
        "sub_filter '</head>' '<script>$host</script></head>'; sub_filter HELLO bye; sub_filter_once on;",
        "",
        [
            (GET, "/", {"X-Type": "text/html", "X-Page": "<head></head>hello hello</head>"}),
            (GET, "/", {"X-Type": "text/css", "X-Page": "</head>"}),
            (GET, "/", {"X-Type": "text/html; charset=utf-8", "X-Page": "no match"}),
        ],
    ),
    "sub-filter-all": (
        "sub_filter a bb; sub_filter_once off; sub_filter_types text/css;",
        "",
        [(GET, "/", {"X-Type": "text/css", "X-Page": "aAxa"}), (GET, "/", {"X-Type": "text/plain", "X-Page": "a"})],
    ),
    "maps": (
        "add_header X-Kind $kind; add_header X-Twice $twice; add_header X-Site $site;",
        "",
        [(GET, "/", {"User-Agent": agent}) for agent in ("curl/8", "CURL/8", "bot/77", "wget", "")],
    ),
    "maps-at-the-end": (
        "set $x a-$arg_a; set $user $http_x_in; if ($arg_s) { return 404; } if ($lasting) { add_header L $lasting; }"
        " if ($passing) { add_header P $passing; } rewrite ^/old/(.*)$ /new/$1?b=2 break; add_header X-Class $class;",
        "",
        [
            (GET, "/old/a%20b?a=1", {"X-In": 'q"\\'}),
            (GET, "/?token=secret&a=2", {"X-Status": "302"}),
            (GET, "/?s=1", {}),
            (GET, "/x", {"X-Status": "500"}),
        ],
    ),
    "answer-variables": (
        'add_header V "$upstream_status|$status|$server_addr|$hostname|$connection_requests|$upstream_addr|$pipe|'
        '$upstream_response_time|$body_bytes_sent|$request_completion|$request_length|$sent_http_content_type" always;'
        ' proxy_set_header X-Early "$status|$upstream_addr|$upstream_status|$hostname|$server_addr|$bytes_sent|$connection_requests";'
        " if ($arg_r) { return 200 $hostname$server_addr$status; }",
        "",
        [(GET, "/", {}), (GET, "/", {"X-Status": "404"}), (GET, "/?r=1", {})],
    ),
    "redirects": (
        "proxy_redirect http://in.test/ /out/; proxy_redirect ~^https://([^/]+)/x(.*) https://else.test/$1$2;"
        " proxy_redirect ~*^http://UP.test/ $scheme://$host/up/; proxy_redirect /local/ /there/;",
        "",
        [
            (GET, "/", {"X-Status": "302", "X-Send": "Location: " + url})
            for url in (
                "http://in.test/a?b",
                "https://c.test/xyz",
                "https://c.test/abc",
                "http://up.TEST/a",
                "/local/a",
                "/other",
                "//in.test/",
            )
        ]
        + [(GET, "/", {"X-Send": "Refresh: 5; url=http://in.test/a"})],
    ),
    "redirects-off": ("proxy_redirect off;", "", [(GET, "/", {"X-Status": "302", "X-Send": "Location: http://in.test/"})]),
    "cookies": (
        "proxy_cookie_domain in.test out.test; proxy_cookie_domain ~\\.(\\w+)\\.lan$ $1.test; proxy_cookie_path /a/ /b/;"
        " proxy_cookie_path ~*^/U/(.+) /v/$1;",
        "",
        [
            (GET, "/", {"X-Send": "Set-Cookie: " + line})
            for line in (
                "s=1; Domain=in.test; Path=/a/x",
                "s=1; domain=.IN.test",
                "s=1; Domain=x.dev.lan; Secure; Path=/u/7",
                "s=1; Path=/c",
                "s=1",
                "s",
            )
        ]
        + [(GET, "/", {"X-Send": ["Set-Cookie: a=1; Path=/a/", "Set-Cookie: b=2; Path=/c"]})],
    ),
    "cookie-flags": (
        "proxy_cookie_flags one secure httponly samesite=strict; proxy_cookie_flags two nosecure nohttponly nosamesite;"
        " proxy_cookie_flags ~^t samesite=lax; proxy_cookie_flags $arg_c secure;",
        "",
        [
            (GET, "/?c=named", {"X-Send": "Set-Cookie: " + line})
            for line in (
                "one=1",
                "ONE=1; Path=/; secure; HttpOnly; SameSite=none",
                "one=1; samesite=STRICT",
                "two=1; Secure; HttpOnly; SameSite=Lax; Path=/",
                "two=1; Path=/",
                "three=3; SameSite=Lax",
                "three=3; secure",
                "named=1; Max-Age=3",
                "other=1; Secure",
                "one",
            )
        ],
    ),
    "limit-except": (
        "limit_except GET POST { deny all; }",
        "",
        [(method, "/", {}) for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE")],
    ),
    "limit-except-allows": (
        "deny all; limit_except PUT { allow 127.0.0.1; deny all; }",
        "",
        [("PUT", "/", {}), (GET, "/", {})],
    ),
    "limit-rate": (
        "set $rate 8k; if ($arg_own) { set $limit_rate 100k; } limit_rate $rate; limit_rate_after 1m;",
        "",
        [(GET, "/", {"X-Send": "X-Accel-Limit-Rate: 1000000"}), (GET, "/?own=1", {}), (GET, "/", {"X-Send": "X-Accel-Limit-Rate: fast"})],
    ),
    "accel": (
        "proxy_buffering on; proxy_buffers 4 8k; proxy_max_temp_file_size 0;",
        "",
        [
            (GET, "/", {"X-Send": line})
            for line in ("X-Accel-Buffering: no", "X-Accel-Buffering: yes", "X-Accel-Expires: 3", "X-Accel-Charset: utf-8")
        ],
    ),
    "version": ("proxy_http_version 1.0;", "", [(GET, "/", {}), ("HEAD", "/", {})]),
    "next": (
        "proxy_next_upstream error timeout http_503 non_idempotent; proxy_next_upstream_tries 2; proxy_next_upstream_timeout 3s;"
        " proxy_ignore_headers X-Accel-Limit-Rate Set-Cookie; etag off; gzip off; proxy_cache off;",
        "",
        [(GET, "/", {"X-Status": "503"})],
    ),
    "method": ("proxy_method PUT;", "", [(GET, "/", {})]),
    "variables": (
        'add_header V "$request_method|$request_uri|$uri|$args|$is_args|$host|$scheme|$server_protocol|$http_x_in|'
        '$arg_a|$cookie_c|$content_type|$https|$remote_addr|$query_string|$document_uri|$request" always;',
        "",
        [
            (GET, "/a%20b/../c?A=1&b=2", {"X-In": "in", "Cookie": "b=1; c=2"}),
            (GET, "/?", {"Content-Type": "text/x"}),
            (GET, "/x?a", {"Cookie": "cc=1"}),
        ],
    ),
    "quoting": (
        "add_header X 'a\"b\\'c\\\\d'; add_header Y \"e'f\\\"g\"; add_header Z h\\ i; # comment; {\nadd_header W ${host}x;",
        "",
        [(GET, "/", {})],
    ),
}

NGINX = """load_module %(modules)s/ngx_http_headers_more_filter_module.so;
""" + MAIN + """worker_processes 1;
error_log %(folder)s/error.log notice;
http {
  log_format lines '%(log)s';
  access_log %(folder)s/nginx.access lines;
  include /etc/nginx/mime.types;
  default_type text/html;
  server_tokens off;
  port_in_redirect off;
  """ + OWN_FOLDER + """%(http)s
%(servers)s
}
"""

SERVER = """
  server {
    listen 127.0.0.1:%(port)d;
    server_name %(host)s;
%(server)s
    location / {
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
%(defaults)s
%(location)s
      proxy_pass http://127.0.0.1:%(backend)d;
    }
  }
"""

# The proxies' own business, or a matter of the moment.
OWN_ANSWER = {"date", "server", "connection", "content-length", "transfer-encoding", "keep-alive", "etag"}
OWN_REQUEST = {"host", "connection", "x-request-id", "x-real-ip", "x-scheme", "content-length"}


class Backend(Listener):
    """Answers with what it saw, or with what the request asks for."""

    def __init__(self):
        self.seen = []
        super().__init__()

    def answer(self, reader, stream):
        line, listed = read_head(reader)
        line = line.split()
        if len(line) != 3:
            return False
        fields = {}
        for name, value in listed:
            fields.setdefault(name, []).append(value)
        sends = fields.get("x-send", [])
        reader.read(int(fields.get("content-length", ["0"])[0]))
        own = {
            name: sorted(values)
            for name, values in fields.items()
            if name not in OWN_REQUEST and not name.startswith(("x-forwarded", "x-original"))
        }
        self.seen.append({"method": line[0], "target": line[1], "version": line[2], "fields": own})
        status = fields.get("x-status", ["200"])[0]
        page = fields.get("x-page", ["a page"])[0].encode("latin-1")
        out = ["HTTP/1.1 %s X" % status, "Content-Type: " + fields.get("x-type", ["text/plain"])[0], "X-Other: o"]
        out += sends + ["X-Gone: g", "X-Wild-A: a", "X-Wild-B: b", "Server: backend"]
        if status not in ("204", "304"):
            out.append("Content-Length: %d" % len(page))
        stream.sendall("\r\n".join(out + ["", ""]).encode("latin-1"))
        if line[0] != "HEAD" and status not in ("204", "304"):
            stream.sendall(page)
        return line[2] == "HTTP/1.1"


def configuration(cases, port, backend, folder, modules):
    servers = []
    for name, (location, server, _) in cases.items():
        # What nginx would call a duplicate is the snippet's.
        defaults = [line for line in ("proxy_http_version 1.1;", "proxy_redirect off;") if line.split()[0] not in location]
        values = {"port": port, "host": name + ".test", "server": server, "location": location, "backend": backend}
        servers.append(SERVER % {"defaults": " ".join(defaults), **values})
    values = {"folder": folder, "modules": modules, "user": user(), "http": HTTP, "servers": "".join(servers), "log": LOG}
    return NGINX % values


def manifests(cases, backend, folder):
    data = {
        "allow-snippet-annotations": "true",
        "annotations-risk-level": "Critical",
        "http-snippet": HTTP,
        "log-format-upstream": LOG,
        "access-log-path": os.path.join(folder, "narthex.access"),
    }
    texts = {name: {"configuration-snippet": case[0], "server-snippet": case[1]} for name, case in cases.items()}
    hosts = {name: {key: text for key, text in both.items() if text} for name, both in texts.items()}
    return objects(hosts, {"backend": [backend]}, data)


def lines_of(path, count):
    """The lines of a log, once there are more than `count`."""
    end = time.monotonic() + PATIENCE
    lines = []
    while time.monotonic() < end:
        if os.path.exists(path):
            with open(path, encoding="latin-1") as file:
                lines = file.read().split("\n")[:-1]
        if len(lines) > count >= 0:
            break
        if count < 0:
            break
        time.sleep(0.01)
    return lines


def ask(port, host, request, backend, log):
    """What came back, what the backend saw and what was logged, in words that can be compared."""
    logged = len(lines_of(log, -1))
    method, target, fields = request
    before = len(backend.seen)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host)
        for name, value in fields.items():
            for one in value if isinstance(value, list) else [value]:
                connection.putheader(name, one)
        if method == "POST":
            connection.putheader("Content-Length", "0")
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read()
        if answer.getheader("Content-Encoding") == "gzip":
            text = gzip.decompress(text)
    except (OSError, http.client.HTTPException) as error:
        return {"error": type(error).__name__}
    finally:
        connection.close()
    heads = {}
    for name, value in answer.getheaders():
        name = name.lower()
        if name == "server" and value == "nginx":
            continue
        if name == "expires" and not value.endswith(("1970 00:00:01 GMT", "23:55:55 GMT")):
            value = "some time"
        if name not in OWN_ANSWER or (name == "server"):
            heads.setdefault(name, []).append(value)
    return {
        "status": answer.status,
        "fields": heads,
        "body": text.decode("latin-1"),
        "backend": backend.seen[before:],
        "log": lines_of(log, logged)[logged:],
    }


def compare(cases, folder, ports, backend, verbose):
    differences = 0
    for name, (_, _, requests) in cases.items():
        for number, request in enumerate(requests):
            theirs, ours = (
                ask(port, name + ".test", request, backend, os.path.join(folder, proxy + ".access"))
                for proxy, port in ports.items()
            )
            for key in sorted(set(theirs) | set(ours)):
                if theirs.get(key) != ours.get(key):
                    differences += 1
                    print(f"{name}[{number}] {request}: {key}\n  nginx   {theirs.get(key)}\n  narthex {ours.get(key)}")
            if verbose:
                print(f"{name}[{number}] {ours.get('status')}")
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the binary of narthex")
    parser.add_argument("--only", help="cases whose name holds this")
    parser.add_argument("--modules", default="/usr/lib/nginx/modules", help="where the modules of nginx are")
    parser.add_argument("-v", action="store_true", help="tell every request")
    args = parser.parse_args()
    cases = {name: case for name, case in CASES.items() if not args.only or args.only in name}
    module = os.path.join(args.modules, MODULE)
    if missing() or not os.path.exists(module):
        print("SKIPPED: nginx with %s is needed" % module, file=sys.stderr)
        return 77
    backend = Backend()

    def start(folder, ports):
        ours = manifests(cases, backend.port, folder)
        return {
            "nginx": nginx(configuration(cases, ports["nginx"], backend.port, folder, args.modules), folder),
            "narthex": narthex(args.bin, ours, ports["narthex"], folder, "--workers=1"),
        }

    with side_by_side(start) as (folder, ports):
        differences = compare(cases, folder, ports, backend, args.v)
        with open(os.path.join(folder, "narthex.log")) as log:
            refused = log.read().count("SnippetRefused")
    total = sum(len(requests) for _, _, requests in cases.values())
    print(f"{len(cases)} cases, {total} requests, {differences} differences, {refused} snippets refused")
    return 1 if differences or refused else 0


if __name__ == "__main__":
    sys.exit(main())
