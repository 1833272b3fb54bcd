//! One worker: a thread with its own runtime, listeners, pools, balancers and metric cells. Nothing of it is shared with
//! another worker but the published snapshot.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::client_certificate::Groups;
use super::connection::ConnectionFacts;
use super::filter::digest::Nonces;
use super::filter::external::Answers;
use super::filter::limit::Limits;
use super::filter::password;
use super::handshakes::Handshakes;
use super::http1::{self, Rejection};
use super::http2::Http2Options;
use super::presence::Presences;
use super::sni;
use super::spool::Spool;
use super::turns::Turns;
use crate::drain::DrainWatcher;
use crate::limit::{Bodies, Clients, ConnectionLimit, Memory, Pressure};
use crate::message::ResponseBody;
use crate::places::Places;
use crate::policy::global::{Globals, limits as client_cost};
use crate::reply::LocalReply;
use crate::snapshot::{LocalReader, Reader};
use crate::telemetry::metrics::{Counter, Gauge};
use crate::telemetry::spans::Spans;
use crate::telemetry::{
    FieldLookup, LocalReason, LogLane, NoFields, Record, RequestLine, RouteLabels, WorkerMetrics,
};
use crate::upstream::{Rng, Upstreams};
use crate::wire::{FrameLimits, HeadLimits};

/// Streams of a new HTTP/2 connection while memory is tight (`security.md` D-5).
const TIGHT_STREAMS: u32 = 32;

/// One worker.
pub struct Worker {
    /// Published snapshots.
    pub reader: Reader,
    /// The same for this thread alone.
    pub snapshot: LocalReader,
    /// Way to backends.
    pub upstreams: Upstreams,
    /// Passwords found right.
    pub passwords: password::Memory,
    /// Nonces of digest authentication, shared by all workers.
    pub nonces: Nonces,
    /// Answers of authentication services, shared by all workers.
    pub auth_answers: Answers,
    /// What clients asked for lately, over all workers.
    pub limits: Limits,
    /// Room for request bodies, over all workers.
    pub spool: Spool,
    /// Copies of requests under way.
    pub mirrors: Cell<usize>,
    /// Metric cells.
    pub metrics: WorkerMetrics,
    /// Access log.
    pub log: LogLane,
    /// Where addresses are.
    pub places: Places,
    /// Finished spans of all workers.
    pub spans: Spans,
    /// Phase of the process.
    pub drain: DrainWatcher,
    /// TLS configuration of the https listeners.
    pub tls: Arc<sni::Configs>,
    /// Those of hosts that ask for client certificates.
    pub client_groups: Groups,
    /// Source of chance: request ids, canary rolls.
    pub rng: Rng,
    /// Number of this worker, from 0.
    pub index: u64,
    /// Workers in all.
    pub workers: u32,
    /// Memory of the process.
    pub memory: Memory,
    /// Room for connections of the process.
    pub room: ConnectionLimit,
    /// Connections of the process by client.
    pub clients: Clients,
    /// Connections of this worker.
    pub presences: Rc<Presences>,
    /// TLS handshakes of this worker.
    pub handshakes: Handshakes,
    /// Connections so far.
    pub connections: Cell<u64>,
    /// Requests so far.
    pub requests: Cell<u64>,
    /// Limits of HTTP/1 connections with the generation that they are of.
    pub http1: RefCell<Option<(u64, Rc<http1::Options>)>>,
    /// Turns of this worker.
    pub turns: Turns,
    /// Sessions below HTTP.
    pub l4: super::l4::State,
}

impl Worker {
    /// Number of a new connection, distinct in the process.
    pub fn next_connection(&self) -> u64 {
        let number = self.connections.get() + 1;
        self.connections.set(number);
        (self.index << 48) | number
    }

    /// How long a fresh connection may stay silent (`client-header-timeout`).
    pub fn first_byte(&self) -> Duration {
        self.reader.load().table.globals.client_header_timeout
    }

    /// One random number for a request.
    pub fn roll(&self) -> u32 {
        u32::try_from(self.rng.next_u64() >> 32).unwrap_or(0)
    }

    /// A fresh request id: 32 hexadecimal digits.
    pub fn random_id(&self) -> String {
        hexadecimal([self.rng.next_u64(), self.rng.next_u64()])
    }

    /// A key for a WebSocket handshake (RFC 6455 section 4.1): 16 random bytes in base64.
    pub fn websocket_key(&self) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut bits = self.rng.next_u64();
        let mut key = String::with_capacity(24);
        for place in 0..22 {
            if place == 10 {
                bits = self.rng.next_u64();
            }
            // The last of 22 digits carries two bits of the sixteenth byte.
            let digit = if place == 21 { bits & 0x30 } else { bits & 0x3f };
            bits >>= 6;
            key.push(char::from(ALPHABET.get(usize::try_from(digit).unwrap_or(0)).copied().unwrap_or(b'A')));
        }
        key.push_str("==");
        key
    }

    /// Since 1970.
    pub fn since_epoch(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// Seconds since 1970.
    pub fn unix_now(&self) -> i64 {
        i64::try_from(self.since_epoch().as_secs()).unwrap_or(i64::MAX)
    }

    /// Limits of a new HTTP/1 connection, from the ConfigMap in force: one for all connections of a generation.
    pub fn http1_options(&self) -> Rc<http1::Options> {
        let snapshot = self.reader.load();
        let mut kept = self.http1.borrow_mut();
        if let Some((generation, options)) = &*kept
            && *generation == snapshot.generation
        {
            return Rc::clone(options);
        }
        let options = Rc::new(self.http1_options_of(&snapshot.table.globals));
        *kept = Some((snapshot.generation, Rc::clone(&options)));
        options
    }

    fn http1_options_of(&self, globals: &Globals) -> http1::Options {
        let mut options = http1::Options {
            idle_timeout: globals.keep_alive.unwrap_or_default(),
            head_timeout: globals.client_header_timeout,
            body_timeout: globals.client_body_timeout,
            body_rate: globals.limits.body_rate,
            send_timeout: globals.limits.send_timeout,
            max_age: globals.limits.connection_age,
            memory: self.memory.clone(),
            turns: self.turns.clone(),
            max_requests: if globals.keep_alive.is_none() {
                1
            } else {
                u64::from(globals.keep_alive_requests)
            },
            ..http1::Options::default()
        };
        options.head = head_limits(globals);
        options
    }

    /// Limits of a new HTTP/2 connection, from the ConfigMap in force.
    pub fn http2_options(&self) -> Http2Options {
        let snapshot = self.reader.load();
        let globals = &snapshot.table.globals;
        let limits = &globals.limits;
        let tight = self.memory.pressure() >= Pressure::Tight;
        Http2Options {
            max_streams: match globals.http2_max_concurrent_streams {
                streams if tight => streams.min(TIGHT_STREAMS),
                streams => streams,
            },
            max_header_list: globals.large_header_bytes.saturating_mul(globals.large_header_count),
            head: head_limits(globals),
            body_timeout: globals.client_body_timeout,
            body_rate: limits.body_rate,
            send_timeout: limits.send_timeout,
            max_age: limits.connection_age,
            memory: self.memory.clone(),
            turns: self.turns.clone(),
            provoked_resets: usize::try_from(limits.provoked_resets).unwrap_or(usize::MAX),
            frames: FrameLimits {
                idle: u64::from(limits.idle_frames),
                resets: u64::from(limits.resets),
                continuations: limits.continuations,
                ..FrameLimits::default()
            },
            first_request: globals.client_header_timeout,
            idle_timeout: globals.keep_alive.unwrap_or_default(),
            max_requests: if globals.keep_alive.is_none() {
                1
            } else {
                u64::from(globals.keep_alive_requests)
            },
            ..Http2Options::default()
        }
    }

    /// Accounts for a request that broke a rule before it could become one.
    pub fn rejected(&self, connection: &ConnectionFacts, rejection: &Rejection<'_>) {
        let line =
            if rejection.line.is_empty() { RequestLine::Absent } else { RequestLine::Raw(rejection.line) };
        let request_id = self.random_id();
        let record = Record {
            time: SystemTime::now(),
            client: connection.client(),
            peer: connection.peer,
            listener: connection.local,
            proxy_protocol: connection.proxied.map(|(source, _)| source),
            remote_user: None,
            line,
            scheme: connection.scheme.as_str(),
            host: "",
            best_host: "",
            forwarded: None,
            uri: b"",
            args: None,
            request_fields: &NoFields,
            response_fields: if rejection.bytes_sent > 0 {
                &Page { length: rejection.body_bytes_sent }
            } else {
                &NoFields
            },
            upstream_fields: &NoFields,
            handshake: None,
            completed: rejection.bytes_sent > 0,
            request_id: &request_id,
            connection: connection.number,
            connection_requests: connection.next_request(),
            request_length: rejection.request_bytes,
            request_time: Duration::ZERO,
            status: rejection.status.as_u16(),
            bytes_sent: rejection.bytes_sent,
            body_bytes_sent: rejection.body_bytes_sent,
            tls_protocol: connection.tls.as_ref().map(|tls| tls.protocol),
            tls_cipher: connection.tls.as_ref().map(|tls| tls.cipher),
            tls_server_name: connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
            upstream_name: "",
            alternative_upstream_name: "",
            own: None,
            tries: &[],
            route: RouteLabels::NONE,
            place: None,
            trace: None,
            local: Some(LocalReason { kind: "bad_request", rule: rejection.rule }),
        };
        tracing::debug!(peer = %connection.peer, rule = rejection.rule, reason = rejection.reason, "request refused");
        self.metrics.observe(&record.counted());
        if !self.reader.load().table.globals.disable_access_log {
            self.log.write(&record);
        }
    }

    /// nginx's `stub_status` text, of this worker.
    pub fn stub_status(&self) -> ResponseBody {
        let open = self.metrics.gauge(Gauge::Connections);
        let active = self.metrics.gauge(Gauge::Requests);
        let accepted = self.connections.get();
        let text = format!(
            "Active connections: {open} \nserver accepts handled requests\n {accepted} {accepted} {} \nReading: 0 Writing: {active} Waiting: {} \n",
            self.requests.get(),
            (open - active).max(0),
        );
        ResponseBody::Full(Bytes::from(text))
    }

    /// What stands against one more request that goes to a backend (D-4, D-5); `has_body` tells of its body.
    pub fn overload(&self, limits: &client_cost::Limits, has_body: bool) -> Option<LocalReply> {
        let most = limits.requests.div_ceil(self.workers.max(1));
        let what = if self.metrics.gauge(Gauge::Requests) > i64::from(most) {
            "requests"
        } else if self.memory.pressure() >= Pressure::Full {
            "memory"
        } else if has_body && self.memory.bodies() == Bodies::Spent {
            "bodies"
        } else {
            return None;
        };
        Some(LocalReply::Overloaded { what })
    }

    /// Asks idle connections to leave where room runs out (D-5, D-6), and drops pooled ones that nobody needs (F-21).
    fn make_room(&self) {
        let surplus = self.room.surplus().div_ceil(usize::try_from(self.workers.max(1)).unwrap_or(1));
        let leave = if self.memory.pressure() >= Pressure::Tight { usize::MAX } else { surplus };
        if leave > 0 {
            let asked = self.presences.shed(leave, std::time::Instant::now());
            self.metrics.add(Counter::IdleShed, asked as u64);
        }
        if self.room.is_tight() {
            self.upstreams.drop_idle();
        }
    }

    /// Follows publications and keeps the pools clean, for as long as it is polled.
    pub async fn maintain(self: Rc<Self>) {
        let mut seen = 0;
        let follow = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut idle = self.metrics.hold_amount(Gauge::PoolIdle, 0);
            // Bodies are counted for the whole process; one worker tells.
            let mut buffered = (self.index == 0).then(|| self.metrics.hold_amount(Gauge::Buffered, 0));
            loop {
                ticks.tick().await;
                self.make_room();
                if let Some(buffered) = &mut buffered {
                    buffered.set_amount(self.memory.held());
                }
                let (http1, http2) = self.upstreams.kept_connections();
                idle.set_amount((http1 + http2) as u64);
                let snapshot = self.snapshot.load();
                if snapshot.generation != seen {
                    seen = snapshot.generation;
                    self.memory.set_budget(snapshot.table.globals.limits.body_memory.of(self.memory.limit()));
                    let keepalive = snapshot.table.globals.upstream_keepalive;
                    self.upstreams.use_ipv4_names_only(snapshot.table.globals.disable_ipv6_dns);
                    self.upstreams
                        .publish(
                            snapshot.table.backends.iter().map(Arc::as_ref),
                            &snapshot.endpoints,
                            keepalive,
                            || {
                                let now = self.snapshot.load();
                                (now.generation != seen).then(|| Arc::clone(&now.table.backends))
                            },
                        )
                        .await;
                }
            }
        };
        let drain = async {
            self.drain.draining().await;
            self.presences.wake_all();
        };
        tokio::join!(follow, self.upstreams.maintain(), drain);
    }
}

/// 32 hexadecimal digits, eight at a time.
fn hexadecimal(numbers: [u64; 2]) -> String {
    let eight = |bits: u64| {
        // One half of a byte to each byte: the lower part of what moves up stays behind.
        let halves = (bits | bits << 16) & 0x0000_ffff_0000_ffff;
        let halves = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
        let halves = (halves | halves << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        let above_nine = (halves + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        halves + 0x3030_3030_3030_3030 + above_nine * u64::from(b'a' - b'0' - 10)
    };
    let mut digits = [0; 32];
    let parts = numbers.into_iter().flat_map(|number| [number >> 32, number & 0xffff_ffff]);
    for (room, part) in digits.as_chunks_mut::<8>().0.iter_mut().zip(parts) {
        *room = eight(part).to_be_bytes();
    }
    str::from_utf8(&digits).unwrap_or_default().to_owned()
}

/// Limits of heads, from the ConfigMap in force.
fn head_limits(globals: &Globals) -> HeadLimits {
    let line = usize::try_from(globals.large_header_bytes).unwrap_or(usize::MAX);
    HeadLimits {
        line,
        head: line.saturating_mul(usize::try_from(globals.large_header_count).unwrap_or(4)),
        fields: usize::try_from(globals.limits.fields).unwrap_or(usize::MAX),
        ..HeadLimits::default()
    }
}

/// What is known of the fields of the page that a refused head gets.
struct Page {
    length: u64,
}

impl FieldLookup for Page {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        match name {
            "content-type" => visit(b"text/html"),
            "content-length" => visit(self.length.to_string().as_bytes()),
            "connection" => visit(b"close"),
            _ => {}
        }
    }
}
